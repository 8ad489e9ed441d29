"""REST requests and answers, without a framework or a socket."""

import base64
from typing import Any

import msgspec
import pytest

from bridges.models import ModelIndex
from bridges.pending import Answer
from bridges.rest.answers import HttpAnswer, error_answer, json_answer
from bridges.rest.exchange import Exchange
from bridges.rest.handlers import Handlers
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, InvalidRequest, ModelError, ModelNotFound, ModelUnavailable
from tests.unit.pictures import encoded

JPEG = encoded("JPEG", 64, 48)
SERVED = m.Served(1_500, 2_500, 4, "full", "i-1", "7", 500)
RAW = {b"content-type": b"image/jpeg"}


@pytest.fixture
def handlers() -> Handlers:
    models = ModelIndex()
    picture = m.ModelView(m.ModelSpec(name="p", version="7"), inputs=[m.TensorSpec("image", "UINT8", (-1, -1, 3))])
    streams = m.ModelView(m.ModelSpec(name="s"), decoupled=True)
    tensors = m.ModelView(m.ModelSpec(name="t", environment={"A": "secret"}), inputs=[m.TensorSpec("x", "FP32", (-1,))])
    failing = m.ModelView(m.ModelSpec(name="f"), "failing", "no such file")
    tracker = m.ModelView(m.ModelSpec(name="k", stateless=False))
    models.update(m.Models(revision=1, models=[picture, streams, tensors, failing, tracker], complete=True))
    return Handlers(models, lambda: True, LimitSettings())


def answer(prediction: Any = None, *tensors: tuple[m.Tensor, bytes]) -> Answer:
    payload = m.ResultPayload([t for t, _ in tensors], prediction)
    return Answer(m.Response(payload=wire.encode_payload(payload), served=SERVED), [data for _, data in tensors])


def payload_of(exchange: Exchange, at: int = 0) -> m.Payload:
    call = exchange.calls[at]
    assert not isinstance(call, InferoxyError)
    return wire.decode_payload(call[0].payload)


def content_of(found: HttpAnswer) -> Any:
    headers = dict(found.headers)
    body = b"".join(found.parts)
    assert headers[b"content-length"] == b"%d" % len(body)
    return msgspec.json.decode(body)


def test_one_picture_is_answered_with_its_prediction_and_how_it_was_served(handlers: Handlers) -> None:
    exchange = handlers.predict("p", b"confidence=0.5", RAW, memoryview(JPEG), "rid")
    payload = payload_of(exchange)
    assert (payload.form, payload.picture, payload.parameters) == ("prediction", "", {"confidence": 0.5})
    assert content_of(exchange.finish([[answer({"boxes": []})]])) == {
        "model": "p",
        "version": "7",
        "request_id": "rid",
        "image": {"width": 64, "height": 48},
        "prediction": {"boxes": []},
        "served": {
            "queue_ms": 1.5, "compute_ms": 2.5, "decode_ms": 0.5, "batch_size": 4, "closed": "full", "instance": "i-1",
        },
    }  # fmt: skip


def test_several_answers_to_one_picture_are_a_list(handlers: Handlers) -> None:
    exchange = handlers.predict("p", b"", RAW, memoryview(JPEG), "rid")
    found = content_of(exchange.finish([[answer({"n": 1}), answer({"n": 2})]]))
    assert found["predictions"] == [{"n": 1}, {"n": 2}]
    assert "prediction" not in found


@pytest.mark.parametrize("count", [0, 1])
def test_decoupled_model_is_always_answered_with_a_list(handlers: Handlers, count: int) -> None:
    exchange = handlers.predict("s", b"", RAW, memoryview(JPEG), "rid")
    assert len(content_of(exchange.finish([[answer({"n": 1})] * count]))["predictions"]) == count


def images(*values: str) -> memoryview:
    return memoryview(msgspec.json.encode({"images": values}))


def test_pictures_that_fail_do_not_disturb_the_others(handlers: Handlers) -> None:
    good = base64.b64encode(JPEG).decode()
    exchange = handlers.predict("p", b"", {b"content-type": b"application/json"}, images(good, "%", good), "rid")
    refused = exchange.calls[1]
    assert isinstance(refused, InvalidRequest)
    found = exchange.finish([[answer({"n": 1})], refused, ModelError("no")])
    results = content_of(found)["results"]
    assert found.status == 200
    assert results[0]["prediction"] == {"n": 1}
    assert (results[1]["code"], results[2]) == ("INVALID_REQUEST", {"error": "no", "code": "MODEL_ERROR"})


@pytest.mark.parametrize("values", [["good"], ["good"] * 3, ["%", "good", "%", "good", "good", "%"]])
def test_the_first_picture_that_is_sent_starts_a_sequence_and_the_last_one_ends_it(
    handlers: Handlers, values: list[str]
) -> None:
    sent = [base64.b64encode(JPEG).decode() if value == "good" else value for value in values]
    query = b"sequence_id=5&sequence_start=true&sequence_end=true"
    exchange = handlers.predict("k", query, {b"content-type": b"application/json"}, images(*sent), "rid")
    steps = [call[0].sequence for call in exchange.calls if not isinstance(call, InferoxyError)]
    assert [step.start for step in steps if step] == [True] + [False] * (len(steps) - 1)
    assert [step.end for step in steps if step] == [False] * (len(steps) - 1) + [True]
    assert {step.id for step in steps if step} == {5}


def test_the_end_of_a_sequence_is_a_request_without_tensors(handlers: Handlers) -> None:
    exchange = handlers.end_sequence("k", "cam", b"timeout_ms=7", "rid")
    ((request, frames),) = exchange.calls  # type: ignore[misc]
    assert (request.model, request.sequence, request.timeout_us) == ("k", m.Sequence("cam", end=True), 7_000)
    assert (payload_of(exchange), list(frames)) == (m.Payload([]), [])
    for outcome in ([answer()], []):
        found = exchange.finish([outcome])
        assert (found.status, content_of(found)) == (200, {"model": "k", "sequence_id": "cam", "ended": True})
    with pytest.raises(ModelError):
        exchange.finish([ModelError("no")])


def test_only_stateful_models_have_sequences_to_end(handlers: Handlers) -> None:
    with pytest.raises(InvalidRequest, match="model 'p' is stateless"):
        handlers.end_sequence("p", "5", b"", "rid")
    with pytest.raises(ModelNotFound):
        handlers.end_sequence("x", "5", b"", "rid")


def test_when_all_pictures_fail_the_first_error_is_the_answers(handlers: Handlers) -> None:
    exchange = handlers.predict("p", b"", {b"content-type": b"application/json"}, images("%", "%"), "rid")
    found = exchange.finish([ModelError("first"), InvalidRequest("second")])
    content = content_of(found)
    assert (found.status, content["error"], content["code"], content["request_id"]) == (
        500,
        "first",
        "MODEL_ERROR",
        "rid",
    )
    assert [r["error"] for r in content["results"]] == ["first", "second"]


def test_drawn_picture_is_the_body_and_the_rest_is_in_headers(handlers: Handlers) -> None:
    exchange = handlers.predict("p", b"", {**RAW, b"accept": b"image/png"}, memoryview(JPEG), "rid")
    assert payload_of(exchange).picture == "png"
    drawn = m.Tensor("picture", "UINT8", (48, 64, 3), encoding="png")
    found = exchange.finish([[answer({}, (drawn, b"file"))]])
    headers = dict(found.headers)
    assert b"".join(found.parts) == b"file"
    assert (headers[b"content-type"], headers[b"x-request-id"]) == (b"image/png", b"rid")
    assert (headers[b"x-inferoxy-queue-ms"], headers[b"x-inferoxy-batch-size"]) == (b"1.500", b"4")
    assert (headers[b"x-inferoxy-model"], headers[b"x-inferoxy-version"]) == (b"p", b"7")


def test_no_picture_where_one_was_asked_for_is_an_error(handlers: Handlers) -> None:
    exchange = handlers.predict("p", b"", {**RAW, b"accept": b"image/png"}, memoryview(JPEG), "rid")
    with pytest.raises(InvalidRequest, match="gave no picture"):
        exchange.finish([[answer({})]])


def test_tensor_model_is_not_sent_pictures(handlers: Handlers) -> None:
    with pytest.raises(
        InvalidRequest, match=r"takes tensors \(x FP32 \[-1\]\), not pictures: post them to /v2/models/t"
    ):
        handlers.predict("t", b"", RAW, memoryview(JPEG), "rid")


def test_unknown_model_and_version_are_refused_before_the_body_is_read(handlers: Handlers) -> None:
    with pytest.raises(ModelNotFound):
        handlers.predict("none", b"", RAW, memoryview(b"no picture"), "rid")
    with pytest.raises(ModelNotFound):
        handlers.predict("p", b"version=9", RAW, memoryview(b"no picture"), "rid")
    with pytest.raises(ModelNotFound):
        handlers.v2.infer("p", "9", {}, memoryview(b"no json"), "rid")


def test_prediction_that_json_cannot_hold_is_the_models_error(handlers: Handlers) -> None:
    exchange = handlers.predict("p", b"", RAW, memoryview(JPEG), "rid")
    with pytest.raises(ModelError, match="cannot be JSON"):
        exchange.finish([[answer({"x": msgspec.msgpack.Ext(5, b"")})]])


def test_error_of_the_batch_manager_is_raised_for_the_caller(handlers: Handlers) -> None:
    exchange = handlers.predict("p", b"", RAW, memoryview(JPEG), "rid")
    with pytest.raises(ModelUnavailable):
        exchange.finish([ModelUnavailable("down")])


def test_v2_answer_names_the_version_that_ran_and_gives_the_id_back(handlers: Handlers) -> None:
    body = msgspec.json.encode({"id": "é", "inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]})
    exchange = handlers.v2.infer("t", "", {}, memoryview(body), "rid")
    assert exchange.at_most == 1
    found = exchange.finish([[answer(None, (m.Tensor("y", "INT8", (1,)), b"\5"))]])
    content = content_of(found)
    assert (content["id"], content["model_name"], content["model_version"]) == ("é", "t", "7")
    assert content["outputs"] == [{"name": "y", "datatype": "INT8", "shape": [1], "data": [5]}]
    assert dict(found.headers)[b"x-inferoxy-closed"] == b"full"


def test_models_are_shown_without_secrets(handlers: Handlers) -> None:
    found = handlers.list_models("rid")
    assert [model["name"] for model in content_of(found)["models"]] == ["f", "k", "p", "s", "t"]
    assert b"secret" not in b"".join(found.parts)
    assert content_of(handlers.show_model("p", "", "rid"))["versions"] == ["7"]


def test_model_that_cannot_be_had_is_not_ready_and_says_why(handlers: Handlers) -> None:
    assert handlers.v2.model_ready("p", "", "rid").status == 200
    with pytest.raises(ModelUnavailable, match="it is failing: no such file"):
        handlers.v2.model_ready("f", "", "rid")


def test_server_is_ready_when_the_batch_manager_is_there() -> None:
    down = Handlers(ModelIndex(), lambda: False, LimitSettings())
    assert down.live("rid").status == 200
    with pytest.raises(ModelUnavailable):
        down.ready("rid")


def test_error_answer_has_the_three_fields_and_says_when_to_try_again() -> None:
    found = error_answer(InferoxyError("full", Code.QUEUE_FULL), "rid")
    assert found.status == 429
    assert content_of(found) == {"error": "full", "code": "QUEUE_FULL", "request_id": "rid"}
    assert dict(found.headers)[b"retry-after"] == b"1"
    assert b"retry-after" not in dict(error_answer(InvalidRequest("x"), "rid").headers)


def test_every_answer_names_its_request() -> None:
    assert dict(json_answer(200, {}, "rid").headers)[b"x-request-id"] == b"rid"
