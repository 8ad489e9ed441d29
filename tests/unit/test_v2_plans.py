"""Requests of the Open Inference Protocol that come again mean what they meant, whatever came in between."""

from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges import v2
from bridges.models import ModelIndex
from bridges.pending import Answer
from bridges.rest import v2_body
from bridges.rest.answers import HttpAnswer
from bridges.rest.exchange import Outcome
from bridges.rest.v2_plans import MAX_PLAN_BYTES, MAX_PLANS, Plan, Plans
from bridges.v2_outputs import Delivered
from bridges.v2_regions import Regions
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError, InternalError, InvalidRequest, ModelError, PayloadTooLarge
from tests.requests_for_models import pack
from tests.unit.pictures import bomb, encoded

LIMITS = LimitSettings()
NO_REGIONS = Regions(is_allowed=False)
SERVED = m.Served(1_500, 2_500, 4, "full", "i-1", "7", 500)
ROWS = m.ModelView(
    m.ModelSpec(name="m", version="3"),
    inputs=[m.TensorSpec("x", "FP32", (-1, 2))],
    outputs=[m.TensorSpec("a", "FP32", (-1, 2)), m.TensorSpec("b", "UINT8", (-1,))],
)
PICTURE = m.ModelView(m.ModelSpec(name="m", version="4"), inputs=[m.TensorSpec("x", "UINT8", (-1, -1, 3))])
COLD = m.ModelView(m.ModelSpec(name="m", version="5"))
X = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
ALL_BINARY = {"binary_data_output": True}


class Call(NamedTuple):
    """A request for a model."""

    head: bytes
    blob: bytes
    view: m.ModelView | None = ROWS
    version: str = ""


def head_of(*inputs: dict[str, Any], **more: Any) -> bytes:
    return msgspec.json.encode({"inputs": inputs, **more})


def call(plans: Plans, asked: Call, updates: int = 1) -> tuple[m.Request, list[bytes], Plan]:
    (request, frames), plan = plans.call(
        "m", asked.version, asked.view, updates, memoryview(asked.head), memoryview(asked.blob), "rid"
    )
    return request, [bytes(frame) for frame in frames], plan


def outcome_of(parts: dict[str, bytes], prediction: Any = None, **more: Any) -> list[Answer]:
    """An instance's answer with these UINT8 tensors."""
    tensors = [m.Tensor(name, "UINT8", (len(part),)) for name, part in parts.items()]
    return answer_of(tensors, list(parts.values()), prediction, **more)


def answer_of(tensors: list[m.Tensor], parts: list[bytes], prediction: Any = None, **more: Any) -> list[Answer]:
    data, frames = pack(tensors, parts)
    payload = wire.encode_payload(m.ResultPayload(tensors, prediction, more.pop("parameters", {})))
    return [Answer(m.Response(payload=payload, data=data, **{"served": SERVED, **more}), frames)]


def afresh(asked: Call) -> tuple[m.Request, list[bytes]]:
    """What a request means when nothing is known of earlier ones."""
    body = v2_body.parse(memoryview(asked.head))
    options, parameters = v2.read_parameters(body.parameters, asked.version)
    prepared, tensors = v2.prepare(
        asked.view, body.inputs, body.cut(memoryview(asked.blob), NO_REGIONS),
        parameters=parameters, outputs=body.outputs, limits=LIMITS,
    )  # fmt: skip
    request, frames = prepared.request("m", tensors, options, "rid")
    return request, [bytes(frame) for frame in frames]


def answered_afresh(asked: Call, outcome: Outcome) -> tuple[int, bytes, bytes]:
    """The answer when nothing is known of earlier ones."""
    if isinstance(outcome, InferoxyError):
        raise outcome
    body = v2_body.parse(memoryview(asked.head))
    result = v2.only_answer(outcome, "m")
    outputs = [Delivered(output) for output in v2.select_outputs(result, body.outputs)]
    version = result.served.version or (asked.view.spec.version if asked.view else asked.version)
    return on_the_wire(v2_body.format_answer(body, "m", version, outputs, result.parameters, "rid", result.served))


def on_the_wire(answer: HttpAnswer) -> tuple[int, bytes, bytes]:
    body = b"".join(answer.parts)
    assert dict(answer.headers)[b"content-length"] == b"%d" % len(body)
    return answer.status, answer.lines, body


def outcome_or_error(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except InferoxyError as exc:
        return type(exc), exc.message


SIZES = {"FP32": 4, "UINT8": 1, "INT64": 8, "FLOAT": 4}


@st.composite
def binary_inputs(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    datatype = draw(st.sampled_from(["FP32", "UINT8", "INT64"] * 3 + ["FLOAT"]))
    shape = draw(st.sampled_from([[], [0], [1], [1, 2], [3, 2], [2, 1_500], [1, 4, 5, 3], [4, 5, 3], [-1]]))
    size = SIZES[datatype]
    for side in shape:
        size *= side
    size = draw(st.sampled_from([size] * 9 + [size + 1]))
    parameters = {"binary_data_size": size}
    name = draw(st.sampled_from(["x", "y"]))
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}, max(size, 0)


wanted_outputs = st.none() | st.lists(
    st.builds(
        lambda name, binary: {"name": name, "parameters": {} if binary is None else {"binary_data": binary}},
        st.sampled_from(["a", "b", "prediction", "picture"]),
        st.none() | st.booleans(),
    ),
    max_size=2,
)
request_parameters = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "sequence_id": st.sampled_from([0, 7, 8, "cam", -1]),
        "sequence_start": st.booleans(),
        "priority": st.sampled_from([0, 1, 5]),
        "timeout": st.sampled_from([0, 1_000, 2_000, 3_000, -1]),
        "binary_data_output": st.booleans(),
        "draw": st.sampled_from(["png", "gif"]),
        "threshold": st.floats(allow_nan=False, allow_infinity=False),
        "deep": st.lists(st.integers(), max_size=2),
    },
)


@st.composite
def asked_twice(draw: st.DrawFn) -> tuple[Call, Call]:
    """Two requests with one JSON part, whose binary parts differ, the second one's perhaps in length."""
    inputs = draw(st.lists(binary_inputs(), min_size=1, max_size=3))
    optional = {
        "id": draw(st.sampled_from([None, "mine", "é"])),
        "outputs": draw(wanted_outputs),
        "parameters": draw(request_parameters),
    }
    head = head_of(
        *[item for item, _ in inputs], **{key: value for key, value in optional.items() if value is not None}
    )
    size = sum(found for _, found in inputs)
    view, version = draw(st.sampled_from([ROWS, PICTURE, COLD, None])), draw(st.sampled_from(["", "2"]))
    other = draw(st.sampled_from([size] * 9 + [size + 1, max(size - 1, 0)]))
    return Call(head, b"\1" * size, view, version), Call(head, b"\2" * other, view, version)


@settings(deadline=None)
@given(asked_twice())
def test_a_request_that_comes_again_is_what_it_is_afresh(calls: tuple[Call, Call]) -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    for asked in (*calls, calls[0]):
        found = outcome_or_error(call, plans, asked)
        expected = outcome_or_error(afresh, asked)
        assert found[:2] == expected


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[list[Answer], list[Answer]]:
    """Two answers with one description."""
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True))
    sizes = {name: draw(st.sampled_from([0, 1, 8, 3_000, 5_000])) for name in names}
    prediction = draw(st.sampled_from([None, None, {"n": 1}]))
    version = draw(st.sampled_from(["", "7"]))
    about = {"parameters": draw(st.sampled_from([{}, {"p": [1]}])), "served": m.Served(1_500, 40, 3, version=version)}
    picture = draw(st.sampled_from([False, False, True]))

    def one(filling: int) -> list[Answer]:
        tensors = [m.Tensor(name, "UINT8", (size,)) for name, size in sizes.items()]
        parts = [bytes([filling]) * size for size in sizes.values()]
        if picture:
            tensors.append(m.Tensor("picture", "UINT8", (4, 5, 3), encoding="png"))
            parts.append(bytes([filling]) * 9)
        return answer_of(tensors, parts, prediction, **about)

    return one(1), one(2)


@settings(deadline=None)
@given(
    wanted=st.none() | wanted_outputs,
    is_binary=st.sampled_from([True, True, False]),
    view=st.sampled_from([ROWS, COLD, None]),
    answers=outcomes(),
)
def test_an_answer_that_comes_again_is_the_bytes_that_it_is_afresh(
    wanted: Any, is_binary: bool, view: m.ModelView | None, answers: tuple[list[Answer], list[Answer]]
) -> None:
    head = head_of(
        X, id="mine", parameters={"binary_data_output": is_binary}, **({"outputs": wanted} if wanted else {})
    )
    asked = Call(head, b"12345678", view)
    if not isinstance(planned := outcome_or_error(call, Plans(ModelIndex(), LIMITS, NO_REGIONS), asked)[-1], Plan):
        return
    plan = planned
    for answer in (*answers, answers[0]):
        found = outcome_or_error(lambda answer: on_the_wire(plan.finish("rid", [answer])), answer)
        assert found == outcome_or_error(answered_afresh, asked, answer)


def test_a_plain_answer_is_its_json_part_and_its_bytes() -> None:
    _, _, plan = call(Plans(ModelIndex(), LIMITS, NO_REGIONS), Call(head_of(X, parameters=ALL_BINARY), b"12345678"))
    for filling in (b"ab", b"cd"):
        answer = plan.finish("rid", [outcome_of({"a": filling, "b": b"!"})])
        head, data = answer.parts
        assert msgspec.json.decode(head) == {
            "model_name": "m",
            "model_version": "7",
            "outputs": [
                {"name": "a", "datatype": "UINT8", "shape": [2], "parameters": {"binary_data_size": 2}},
                {"name": "b", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": 1}},
            ],
        }
        assert bytes(data) == filling + b"!"
        headers = dict(answer.headers)
        assert headers[b"inference-header-content-length"] == b"%d" % len(head)
        assert (headers[b"x-request-id"], headers[b"x-inferoxy-version"]) == (b"rid", b"7")
        assert headers[b"x-inferoxy-queue-ms"] == b"1.500"


def test_what_differs_from_answer_to_answer_is_told_of_each() -> None:
    asked = Call(head_of(X, parameters=ALL_BINARY), b"12345678")
    _, _, plan = call(Plans(ModelIndex(), LIMITS, NO_REGIONS), asked)
    for request_id, served in (("r1", SERVED), ("r2", m.Served(9_000, 1, 1, "idle", "i-2", "8")), ("r3", m.Served())):
        headers = dict(plan.finish(request_id, [outcome_of({"a": b"ab"}, served=served)]).headers)
        assert headers[b"x-request-id"] == request_id.encode()
        assert headers[b"x-inferoxy-instance"] == served.instance.encode()
        assert headers[b"x-inferoxy-batch-size"] == b"%d" % served.batch_size
        assert headers[b"x-inferoxy-version"] == (served.version or "3").encode()


def test_a_json_part_is_understood_once() -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    asked = Call(head_of(X), b"12345678")
    assert call(plans, asked)[2] is call(plans, asked._replace(blob=b"abcdefgh"))[2]
    assert call(plans, asked._replace(version="2"))[2] is not call(plans, asked)[2]


def test_a_change_of_the_registered_models_drops_every_plan() -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    asked = Call(head_of(X, outputs=[{"name": "a"}]), b"12345678")
    _, _, before = call(plans, asked, updates=1)
    other = m.ModelView(m.ModelSpec(name="m", version="9"), outputs=[m.TensorSpec("a", "FP32", (-1,))])
    _, _, after = call(plans, asked._replace(view=other), updates=2)
    assert after is not before
    answers = [plan.finish("rid", [outcome_of({"a": b"1"}, served=None)]) for plan in (before, after)]
    assert [dict(answer.headers)[b"x-inferoxy-version"] for answer in answers] == [b"3", b"9"]
    renamed = m.ModelView(m.ModelSpec(name="m"), outputs=[m.TensorSpec("b", "FP32", (-1,))])
    with pytest.raises(InvalidRequest, match="output 'a': expected one of b"):
        call(plans, asked._replace(view=renamed), updates=3)


def test_a_raw_picture_loses_its_leading_axis_as_soon_as_the_model_is_known_to_take_pictures() -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    x = {"name": "x", "shape": [1, 4, 5, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 60}}
    for updates, view, shape in ((1, COLD, (1, 4, 5, 3)), (2, PICTURE, (4, 5, 3)), (2, PICTURE, (4, 5, 3))):
        request, _, _ = call(plans, Call(head_of(x), bytes(60), view), updates)
        assert wire.decode_payload(request.payload).tensors[0].shape == shape


@pytest.mark.parametrize("blob", [b"", b"1234567", b"123456789"])
def test_a_binary_part_of_another_length_is_refused_the_second_time_as_the_first(blob: bytes) -> None:
    head = head_of(X)
    first = outcome_or_error(call, Plans(ModelIndex(), LIMITS, NO_REGIONS), Call(head, blob))
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    call(plans, Call(head, b"12345678"))
    assert outcome_or_error(call, plans, Call(head, blob)) == first
    assert first[0] is InvalidRequest
    assert "binary bytes" in first[1]
    assert call(plans, Call(head, b"abcdefgh"))[0].data == b"abcdefgh"


def element(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def bytes_input(size: int) -> dict[str, Any]:
    return {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}


@pytest.mark.parametrize(
    ("inputs", "blob"),
    [
        ([{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}], b""),
        ([{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["text"]}], b""),
        ([bytes_input(8)], element(b"text")),
        ([X, {"name": "y", "shape": [1], "datatype": "INT8", "data": [1]}], b"12345678"),
        ([X, bytes_input(8) | {"name": "y"}], b"12345678" + element(b"text")),
    ],
)
def test_inputs_in_the_json_part_and_bytes_are_never_kept(inputs: list[dict[str, Any]], blob: bytes) -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    asked = Call(head_of(*inputs), blob, COLD)
    (first, second) = (call(plans, asked) for _ in range(2))
    assert first[2] is not second[2]
    assert first[:2] == second[:2] == afresh(asked)
    assert not plans._kept


def test_each_encoded_picture_is_examined() -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    wide, high = encoded("JPEG", 64, 48), encoded("JPEG", 48, 64)
    size = max(len(wide), len(high), len(bomb()))
    for data, shape in ((wide, (48, 64, 3)), (high, (64, 48, 3))):
        blob = element(data.ljust(size, b"\0"))
        request, _, _ = call(plans, Call(head_of(bytes_input(len(blob))), blob, PICTURE))
        assert wire.decode_payload(request.payload).tensors[0].shape == shape
    with pytest.raises(InvalidRequest, match="expected JPEG, PNG or WebP"):
        call(plans, Call(head_of(bytes_input(size + 4)), element(b"x" * size), PICTURE))
    with pytest.raises(PayloadTooLarge):
        call(plans, Call(head_of(bytes_input(size + 4)), element(bomb().ljust(size, b"\0")), PICTURE))


def test_a_large_json_part_is_not_kept_and_means_the_same() -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    asked = Call(head_of(X, parameters={"text": "x" * MAX_PLAN_BYTES}), b"12345678")
    assert call(plans, asked)[:2] == call(plans, asked)[:2] == afresh(asked)
    assert not plans._kept


def test_clients_that_never_repeat_themselves_fill_no_memory() -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    for number in range(MAX_PLANS + 10):
        call(plans, Call(head_of(X, id=str(number)), b"12345678"))
        assert len(plans._kept) <= MAX_PLANS


def test_what_is_refused_is_refused_again() -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    for head in (b"{", head_of(), head_of(X | {"shape": [3, 2]}), head_of(X, parameters={"priority": -1})):
        first, second = (outcome_or_error(call, plans, Call(head, b"12345678")) for _ in range(2))
        assert first == second
        assert first[0] is InvalidRequest


def test_a_request_that_is_changed_on_its_way_changes_no_later_one() -> None:
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    asked = Call(head_of(X, parameters={"sequence_id": 5, "timeout": 1_000}), b"12345678")
    request, _, _ = call(plans, asked)
    request.id, request.timeout_us, request.flags = 9, 1, m.RequestFlag.SLOTTED
    request.places = wire.encode_payload(m.Places())
    assert call(plans, asked)[:2] == afresh(asked)


def test_errors_and_answers_of_another_number_are_raised() -> None:
    _, _, plan = call(Plans(ModelIndex(), LIMITS, NO_REGIONS), Call(head_of(X, parameters=ALL_BINARY), b"12345678"))
    known = outcome_of({"a": b"12"})
    plan.finish("rid", [known])
    with pytest.raises(ModelError, match="no"):
        plan.finish("rid", [ModelError("no")])
    for several in ([], known * 2):
        with pytest.raises(InferoxyError, match="expected 1"):
            plan.finish("rid", [several])


@pytest.mark.parametrize(("data", "frames"), [(b"1", []), (b"123", []), (b"12", [b"more"]), (b"", [b"12"]), (b"", [])])
def test_a_malformed_answer_of_a_known_form_is_our_fault_as_it_is_afresh(data: bytes, frames: list[bytes]) -> None:
    _, _, plan = call(Plans(ModelIndex(), LIMITS, NO_REGIONS), Call(head_of(X, parameters=ALL_BINARY), b"12345678"))
    (good,) = outcome_of({"a": b"12"})
    bad = Answer(m.Response(payload=good.response.payload, data=data, served=SERVED), frames)
    plan.finish("rid", [[good]])
    with pytest.raises(InternalError, match="malformed"):
        plan.finish("rid", [[bad]])


STATEFUL = m.ModelView(m.ModelSpec(name="m", version="6", stateless=False), inputs=ROWS.inputs, outputs=ROWS.outputs)
END = {"sequence_id": 5, "sequence_end": True}


@pytest.mark.parametrize("more", [{}, {"inputs": []}, {"outputs": [{"name": "a"}]}])
@pytest.mark.parametrize("parameters", [END, END | ALL_BINARY | {"k": 1}])
def test_a_bare_end_has_no_inputs_and_is_answered_without_outputs(
    more: dict[str, Any], parameters: dict[str, Any]
) -> None:
    head = msgspec.json.encode({"id": "x", "parameters": parameters, **more})
    plans = Plans(ModelIndex(), LIMITS, NO_REGIONS)
    for _ in range(2):
        request, frames, plan = call(plans, Call(head, b"", STATEFUL))
        assert (request.sequence, request.size, frames) == (m.Sequence(5, end=True), 0, [])
        payload = wire.decode_payload(request.payload)
        assert (payload.tensors, payload.outputs, payload.form) == ([], [], "tensors")
        for outcome in (outcome_of({}), []):
            found = plan.finish("rid", [outcome])
            content = msgspec.json.decode(b"".join(found.parts))
            expected = "7" if outcome else "6"
            assert (found.status, content) == (
                200,
                {"model_name": "m", "model_version": expected, "id": "x", "outputs": []},
            )
        with pytest.raises(ModelError):
            plan.finish("rid", [ModelError("no")])


@pytest.mark.parametrize(
    ("parameters", "view", "words"),
    [
        ({}, STATEFUL, "inputs: expected at least one, found none"),
        ({"sequence_id": 5}, STATEFUL, "inputs: expected at least one, found none"),
        ({"sequence_id": 5, "sequence_start": True}, None, "inputs: expected at least one, found none"),
        ({"sequence_end": True}, STATEFUL, "sequence_id: expected with sequence_start or sequence_end"),
        (END, ROWS, "inputs: expected at least one, found none: model 'm' is stateless"),
    ],
)
def test_what_ends_no_sequence_needs_inputs(parameters: dict[str, Any], view: m.ModelView | None, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        call(Plans(ModelIndex(), LIMITS, NO_REGIONS), Call(head_of(parameters=parameters), b"", view))


@pytest.mark.parametrize(
    ("inputs", "stacked", "body", "shape"),
    [
        ([("x", "FP32", (-1, 2))], True, bytes(8), (1, 2)),
        ([("x", "FP32", (-1, 2))], False, bytes(24), (3, 2)),
        ([("x", "FP32", (2, 2))], False, bytes(16), (2, 2)),
        ([("x", "UINT8", (-1, -1))], True, bytes(5), (1, 5)),
        ([("x", "BYTES", (1,))], False, b"text", (1,)),
    ],
)
def test_a_body_without_json_is_the_models_only_input(
    inputs: list[Any], stacked: bool, body: bytes, shape: tuple[int, ...]
) -> None:
    view = m.ModelView(m.ModelSpec(name="m", version="3"), inputs=[m.TensorSpec(*i) for i in inputs], stacked=stacked)
    request, frames, plan = call(Plans(ModelIndex(), LIMITS, NO_REGIONS), Call(b"", body, view))
    tensor = wire.decode_payload(request.payload).tensors[0]
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", inputs[0][1], shape)
    sent = b"".join([request.data, *frames])
    assert sent == (element(body) if inputs[0][1] == "BYTES" else body)
    answer = plan.finish("rid", [outcome_of({"y": b"12"})])
    assert answer.parts[-1] == b"12"


def test_a_body_without_json_is_a_picture_of_a_picture_model() -> None:
    request, _, _ = call(Plans(ModelIndex(), LIMITS, NO_REGIONS), Call(b"", encoded("jpeg"), PICTURE))
    assert wire.decode_payload(request.payload).tensors[0].encoding == "jpeg"


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ([], bytes(8)),
        ([("x", "FP32", (-1,)), ("y", "FP32", (-1,))], bytes(8)),
        ([("x", "FP32", (-1, 2))], bytes(7)),
        ([("x", "FP32", (-1, -1))], bytes(8)),
        ([("x", "FP32", (4,))], bytes(8)),
    ],
)
def test_a_body_without_json_that_fits_no_shape_is_refused(inputs: list[Any], body: bytes) -> None:
    view = m.ModelView(m.ModelSpec(name="m", version="3"), inputs=[m.TensorSpec(*i) for i in inputs])
    with pytest.raises(InvalidRequest, match="expected"):
        call(Plans(ModelIndex(), LIMITS, NO_REGIONS), Call(b"", body, view))
