"""What the Open Inference Protocol means to us."""

import struct
from typing import Any

import pytest

from bridges import v2
from bridges.pending import Answer
from bridges.requests import Options
from bridges.results import Output, Result
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, InternalError, InvalidRequest, PayloadTooLarge
from tests.unit.pictures import bomb, encoded

LIMITS = LimitSettings()
JPEG = encoded("JPEG", 64, 48)
PICTURE = m.ModelView(m.ModelSpec(name="p"), inputs=[m.TensorSpec("image", "UINT8", (-1, -1, 3))])
ROWS = m.ModelView(
    m.ModelSpec(name="t"),
    inputs=[m.TensorSpec("INPUT0", "FP32", (-1, 2))],
    outputs=[m.TensorSpec("OUTPUT0", "FP32", (-1, 2)), m.TensorSpec("prediction", "FP32", (-1, 2))],
)
COLD = m.ModelView(m.ModelSpec(name="c"))


def element(data: bytes) -> memoryview:
    return memoryview(struct.pack("<I", len(data)) + data)


def request_of(
    tensor: m.Tensor, frame: bytes | memoryview, view: m.ModelView | None, outputs: list[str] | None = None, **more: Any
) -> tuple[m.Request, m.Payload, Any]:
    prepared, frames = v2.prepare(
        view, [tensor], [memoryview(frame)], parameters=more, outputs=outputs or [], limits=LIMITS
    )
    request, _ = prepared.request("m", frames, Options(), "r")
    return request, wire.decode_payload(request.payload), frames


def test_parameters_of_the_protocol_are_taken_out_and_others_go_to_the_model() -> None:
    given = {
        "sequence_id": 9, "sequence_start": True, "timeout": 1_000, "priority": 2, "binary_data_output": True, "k": [1],
    }  # fmt: skip
    options, parameters = v2.read_parameters(given, "3")
    assert options == Options("3", 1_000, 998, m.Sequence(9, True, False))
    assert parameters == {"k": [1]}


def test_sequence_ids_may_be_strings_or_64_bit() -> None:
    assert v2.read_parameters({"sequence_id": "cam"}, "")[0].sequence == m.Sequence("cam")
    assert v2.read_parameters({"sequence_id": 2**64 - 1}, "")[0].sequence == m.Sequence(2**64 - 1)


@pytest.mark.parametrize("none", [0, ""])
def test_empty_sequence_id_is_no_sequence(none: Any) -> None:
    assert v2.read_parameters({"sequence_id": none}, "")[0].sequence is None


def test_priority_1_goes_before_2_and_0_is_the_models_own() -> None:
    first, second, none = (v2.read_parameters({"priority": p}, "")[0].priority for p in (1, 2, 0))
    assert first > second > 0 == none
    assert v2.read_parameters({"priority": 10**6}, "")[0].priority == 1


@pytest.mark.parametrize(
    "parameters",
    [
        {"sequence_id": True}, {"sequence_id": 1.5}, {"sequence_id": [1]}, {"sequence_id": 2**64}, {"sequence_id": -1},
        {"sequence_id": 1, "sequence_start": 1}, {"sequence_start": True}, {"sequence_end": True},
        {"timeout": -1}, {"timeout": "1"}, {"timeout": 1e6}, {"timeout": 10**18}, {"priority": -1}, {"priority": True},
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        v2.read_parameters(parameters, "")


def test_tensor_is_passed_on_as_it_is() -> None:
    request, payload, frames = request_of(m.Tensor("INPUT0", "FP32", (3, 2)), b"x" * 24, ROWS)
    assert payload == m.Payload([m.Tensor("INPUT0", "FP32", (3, 2), 24)])
    assert (request.rows, request.size, bytes(frames[0])) == (3, 24, b"x" * 24)
    assert (request.data, request.request_id) == (b"x" * 24, "r")


@pytest.mark.parametrize(
    ("tensor", "frame"),
    [
        (m.Tensor("a", "FP32", (3,)), b"x" * 11),
        (m.Tensor("a", "FP32", (-3,)), b""),
        (m.Tensor("a", "FLOAT", (3,)), b"x" * 12),
    ],
)
def test_tensor_whose_bytes_do_not_fit_is_refused(tensor: m.Tensor, frame: bytes) -> None:
    with pytest.raises(InvalidRequest):
        request_of(tensor, frame, None)


@pytest.mark.parametrize("shape", [(1,), (1, 1), ()])
@pytest.mark.parametrize("view", [PICTURE, COLD, None])
def test_encoded_picture_in_a_bytes_element_becomes_an_encoded_tensor(
    shape: tuple[int, ...], view: m.ModelView | None
) -> None:
    _, payload, frames = request_of(m.Tensor("image", "BYTES", shape), element(JPEG), view)
    assert payload.tensors == [m.Tensor("image", "UINT8", (48, 64, 3), len(JPEG), "jpeg")]
    assert bytes(frames[0]) == JPEG


def test_bytes_for_a_tensor_model_stay_bytes() -> None:
    text = m.ModelView(m.ModelSpec(name="t"), inputs=[m.TensorSpec("TEXT", "BYTES", (1,))])
    _, payload, frames = request_of(m.Tensor("TEXT", "BYTES", (1,)), element(JPEG), text)
    assert (payload.tensors[0].datatype, bytes(frames[0][4:])) == ("BYTES", JPEG)


def test_bytes_that_are_no_picture_stay_bytes_while_the_model_is_unknown() -> None:
    _, payload, _ = request_of(m.Tensor("TEXT", "BYTES", (1,)), element(b"hello"), COLD)
    assert payload.tensors[0].datatype == "BYTES"


def test_bytes_that_are_no_picture_are_refused_by_a_picture_model() -> None:
    with pytest.raises(InvalidRequest, match="tensor 'image': expected JPEG, PNG or WebP"):
        request_of(m.Tensor("image", "BYTES", (1,)), element(b"hello"), PICTURE)


def test_bomb_in_a_bytes_element_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="60000x60000"):
        request_of(m.Tensor("image", "BYTES", (1,)), element(bomb()), PICTURE)


def test_bytes_element_with_a_lying_length_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="length does not match"):
        request_of(m.Tensor("image", "BYTES", (1,)), b"\x05\0\0\0abc", PICTURE)


def test_leading_1_of_a_raw_picture_is_dropped_for_a_picture_model_only() -> None:
    tensor = m.Tensor("image", "UINT8", (1, 4, 5, 3))
    assert request_of(tensor, bytes(60), PICTURE)[1].tensors[0].shape == (4, 5, 3)
    assert request_of(tensor, bytes(60), COLD)[1].tensors[0].shape == (1, 4, 5, 3)


def test_wanted_output_must_be_the_models() -> None:
    tensor = m.Tensor("INPUT0", "FP32", (1, 2))
    with pytest.raises(InvalidRequest, match="output 'x': expected one of OUTPUT0, prediction"):
        request_of(tensor, bytes(8), ROWS, ["x"])
    assert request_of(tensor, bytes(8), ROWS, ["OUTPUT0"])[1].outputs == ["OUTPUT0"]
    assert request_of(tensor, bytes(8), COLD, ["x"])[1].outputs == ["x"]


def test_tensor_model_keeps_its_own_output_called_prediction() -> None:
    _, payload, _ = request_of(m.Tensor("INPUT0", "FP32", (1, 2)), bytes(8), ROWS, ["prediction"])
    assert (payload.form, payload.outputs) == ("tensors", ["prediction"])


@pytest.mark.parametrize("view", [PICTURE, COLD])
def test_picture_model_can_be_asked_for_prediction_and_drawn_picture(view: m.ModelView) -> None:
    tensor = m.Tensor("", "BYTES", (1,))
    _, payload, _ = request_of(tensor, element(JPEG), view, ["prediction", "picture"], draw="png", confidence=0.5)
    assert (payload.form, payload.picture, payload.outputs) == ("prediction", "png", [])
    assert payload.parameters == {"confidence": 0.5}
    assert request_of(tensor, element(JPEG), view, ["prediction"])[1].picture == ""
    assert request_of(tensor, element(JPEG), view, ["picture"])[1].picture == "jpeg"


def test_prediction_is_not_mixed_with_tensors_and_draw_is_jpeg_or_png() -> None:
    tensor = m.Tensor("image", "BYTES", (1,))
    with pytest.raises(InvalidRequest, match="no tensors beside it"):
        request_of(tensor, element(JPEG), PICTURE, ["prediction", "boxes"])
    with pytest.raises(InvalidRequest, match="expected jpeg or png, found 'gif'"):
        request_of(tensor, element(JPEG), PICTURE, ["picture"], draw="gif")


A = Output(m.Tensor("a", "FP32", (1,)), memoryview(b"1234"))
B = Output(m.Tensor("b", "FP32", (1,)), memoryview(b"5678"))
DRAWN = Output(m.Tensor("picture", "UINT8", (4, 5, 3), encoding="jpeg"), memoryview(b"file"))


def result(*outputs: Output, prediction: Any = None) -> Result:
    return Result(list(outputs), prediction, {}, m.Served())


def test_outputs_come_in_the_order_asked_for() -> None:
    assert v2.select_outputs(result(A, B), ["b", "a"]) == [B, A]
    assert v2.select_outputs(result(A, B), ["b"]) == [B]
    assert v2.select_outputs(result(A, B), []) == [A, B]


def test_output_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="output 'c': expected one of a, b"):
        v2.select_outputs(result(A, B), ["c"])


def test_prediction_and_picture_are_bytes_outputs() -> None:
    found = v2.select_outputs(result(DRAWN, prediction={"n": 1}), ["prediction", "picture"])
    assert [(o.tensor.name, o.tensor.datatype, o.tensor.shape) for o in found] == [
        ("prediction", "BYTES", (1,)),
        ("picture", "BYTES", (1,)),
    ]
    assert [bytes(o.data) for o in found] == [b'\x07\0\0\0{"n":1}', b"\x04\0\0\0file"]


def test_model_without_tensors_gives_its_prediction() -> None:
    assert [o.tensor.name for o in v2.select_outputs(result(prediction={"n": 1}), [])] == ["prediction"]


def test_unary_call_takes_exactly_one_answer() -> None:
    payload = wire.encode_payload(m.ResultPayload([m.Tensor("a", "FP32", (1,))]))
    one = Answer(m.Response(payload=payload), [b"1234"])
    assert bytes(v2.only_answer([one], "m").outputs[0].data) == b"1234"
    for several in ([], [one, one]):
        with pytest.raises(InferoxyError) as caught:
            v2.only_answer(several, "m")
        assert caught.value.code is Code.UNSUPPORTED


@pytest.mark.parametrize(
    ("inline", "data", "frames"),
    [
        (None, b"", []), (None, b"", [b"1234", b"5"]), (None, b"1234", []), (None, b"1234", [b"1234"]),
        (4, b"", []), (4, b"123", []), (4, b"12345", []), (4, b"1234", [b"1234"]), (4, b"", [b"1234"]),
    ],
)  # fmt: skip
def test_answer_whose_bytes_do_not_match_is_our_fault(inline: int | None, data: bytes, frames: list[bytes]) -> None:
    payload = wire.encode_payload(m.ResultPayload([m.Tensor("a", "FP32", (1,), inline)]))
    with pytest.raises(InternalError):
        v2.only_answer([Answer(m.Response(payload=payload, data=data), frames)], "m")


def test_inline_outputs_and_those_in_frames_are_read_alike() -> None:
    tensors = [m.Tensor("a", "INT8", (2,), 2), m.Tensor("b", "INT8", (3,)), m.Tensor("c", "INT8", (0,), 0)]
    response = m.Response(payload=wire.encode_payload(m.ResultPayload(tensors)), data=b"12")
    outputs = v2.only_answer([Answer(response, [b"345"])], "m").outputs
    assert [(o.tensor.name, bytes(o.data)) for o in outputs] == [("a", b"12"), ("b", b"345"), ("c", b"")]
