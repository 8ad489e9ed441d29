"""Client operations as HTTP requests, without a server: what is asked, and what is made of the answers."""

import base64
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import msgspec
import numpy as np
import pytest

from inferoxy.client.calls import Call
from inferoxy.client.http_protocol import HttpExchange, HttpProtocol, HttpReply
from inferoxy.client.pictures import EncodedPicture
from inferoxy.client.results import Detections, Prediction, Size
from inferoxy.errors import (
    Code,
    InferoxyError,
    InternalError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    SequenceLost,
)
from inferoxy.messages import Sequence

PROTOCOL = HttpProtocol("http://server:1")
PICTURE = EncodedPicture(b"\xff\xd8\xff picture", "jpeg", 40, 30)
FOUND = {"boxes": [[1.0, 2.0, 3.0, 4.0]], "confidence": [0.5], "class_id": [1], "class_name": ["star"]}
SERVED = {"queue_ms": 1.5, "compute_ms": 2.0, "decode_ms": 0.5, "batch_size": 3, "closed": "full", "instance": "i"}


def asked(steps: Any) -> HttpExchange:
    exchange: HttpExchange = next(steps)
    return exchange


def outcome(steps: Any, status: int, content: Any, headers: dict[str, str] | None = None) -> Any:
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    with pytest.raises(StopIteration) as stop:
        steps.send(HttpReply(status, headers or {}, body))
    return stop.value.value


def call(**more: Any) -> Call:
    return Call(**{"model": "detector", "request_id": "r1", **more})


def test_a_picture_file_is_the_body_as_it_is() -> None:
    exchange = asked(PROTOCOL.predict(call(), PICTURE, ""))
    assert (exchange.method, exchange.path, exchange.body) == ("POST", "/v1/models/detector/predict", PICTURE.data)
    assert exchange.headers["content-type"] == "image/jpeg"
    assert exchange.headers["x-request-id"] == "r1"


def test_an_array_is_a_png_that_loses_nothing() -> None:
    array = np.random.default_rng(5).integers(0, 256, (17, 31, 3), np.uint8)
    exchange = asked(PROTOCOL.predict(call(), array, ""))
    assert exchange.headers["content-type"] == "image/png"
    decoded = cv2.imdecode(np.frombuffer(exchange.body, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decoded, array)


def test_how_to_serve_and_simple_parameters_stand_in_the_query() -> None:
    parameters = {"confidence": 0.25, "top": 3, "draw_names": True, "kind": "a b&c"}
    exchange = asked(PROTOCOL.predict(call(version="2", timeout_s=1.5, priority=7, parameters=parameters), PICTURE, ""))
    assert parse_qs(urlsplit(exchange.path).query) == {
        "version": ["2"], "timeout_ms": ["1500.000"], "priority": ["7"],
        "confidence": ["0.25"], "top": ["3"], "draw_names": ["true"], "kind": ["a b&c"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "parameters",
    [{"classes": [1, 2]}, {"area": {"x": 1}}, {"code": "007"}, {"word": "True"}, {"none": None}, {"priority": 3}],
)
def test_parameters_that_a_query_would_change_travel_in_json(parameters: dict[str, Any]) -> None:
    exchange = asked(PROTOCOL.predict(call(parameters=parameters), PICTURE, ""))
    content = msgspec.json.decode(exchange.body)
    assert exchange.path == "/v1/models/detector/predict"
    assert content["parameters"] == parameters
    assert base64.b64decode(content["image"]) == PICTURE.data


def test_parameters_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="parameters: expected what JSON can hold"):
        asked(PROTOCOL.predict(call(parameters={"x": object()}), PICTURE, ""))


def test_a_name_with_odd_characters_is_quoted() -> None:
    assert asked(PROTOCOL.predict(call(model="a/b c"), PICTURE, "")).path == "/v1/models/a%2Fb%20c/predict"


def test_detections_come_with_all_that_is_known_about_them() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "")
    asked(steps)
    content = {"model": "detector", "version": "3", "request_id": "r1", "prediction": FOUND, "served": SERVED}
    found = outcome(steps, 200, content)
    assert isinstance(found, Detections)
    assert found.boxes.tolist() == FOUND["boxes"]
    assert (found.version, found.request_id, found.image_size) == ("3", "r1", Size(40, 30))
    assert (found.served.queue_ms, found.served.batch_size, found.served.closed) == (1.5, 3, "full")


def test_several_answers_become_parts() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "")
    asked(steps)
    found = outcome(steps, 200, {"model": "detector", "predictions": [{"n": 1}, {"n": 2}]})
    assert isinstance(found, Prediction)
    assert found.value == {"n": 2}
    assert len(found.parts) == 2


def test_an_error_is_raised_as_its_class_with_the_request_id() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "")
    asked(steps)
    with pytest.raises(ModelNotFound, match="unknown model") as caught:
        outcome(steps, 404, {"error": "unknown model", "code": "MODEL_NOT_FOUND", "request_id": "r1"})
    assert caught.value.request_id == "r1"


def test_codes_without_a_class_of_their_own_are_told_apart_by_code() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "")
    asked(steps)
    with pytest.raises(InferoxyError) as caught:
        outcome(steps, 429, {"error": "full", "code": "QUEUE_FULL"})
    assert caught.value.code is Code.QUEUE_FULL


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (502, b"Bad Gateway"),
        (200, b"[1]"),
        (200, b'{"models": 5}'),
        (404, b'{"detail": "Not Found"}'),
    ],
)
def test_another_server_is_named_as_such(status: int, body: bytes) -> None:
    steps = PROTOCOL.models()
    asked(steps)
    with pytest.raises(InternalError, match="http://server:1 answered HTTP"):
        outcome(steps, status, body, {"content-type": "text/html"})


def test_tensors_travel_as_binary_behind_the_json() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    exchange = asked(PROTOCOL.infer(call(version="2", timeout_s=2.0, priority=7), {"IN": array}, ["OUT"]))
    assert exchange.path == "/v2/models/detector/versions/2/infer"
    end = int(exchange.headers["inference-header-content-length"])
    assert msgspec.json.decode(exchange.body[:end]) == {
        "id": "r1",
        "parameters": {"timeout": 2_000_000, "priority": 993, "binary_data_output": True},
        "inputs": [{"name": "IN", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}}],
        "outputs": [{"name": "OUT"}],
    }
    assert exchange.body[end:] == array.tobytes()


def test_output_tensors_are_read_from_behind_the_json() -> None:
    steps = PROTOCOL.infer(call(), {"IN": np.zeros(1, np.float32)}, [])
    asked(steps)
    array, words = np.arange(4, dtype=np.int64), b"\x02\0\0\0hi"
    head = msgspec.json.encode(
        {
            "model_name": "detector", "model_version": "4", "id": "r1",
            "outputs": [
                {"name": "A", "datatype": "INT64", "shape": [4], "parameters": {"binary_data_size": 32}},
                {"name": "B", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
            ],
        }
    )  # fmt: skip
    headers = {
        "inference-header-content-length": str(len(head)),
        "x-inferoxy-batch-size": "5",
        "x-inferoxy-queue-ms": "0.5",
    }
    result = outcome(steps, 200, head + array.tobytes() + words, headers)
    assert result["A"].tolist() == [0, 1, 2, 3]
    assert result["A"].flags.writeable
    assert result["B"].tolist() == [b"hi"]
    assert (result.version, result.request_id, result.served.batch_size, result.served.queue_ms) == ("4", "r1", 5, 0.5)


def test_output_tensors_that_are_cut_short_are_an_error() -> None:
    steps = PROTOCOL.infer(call(), {"IN": np.zeros(1, np.float32)}, [])
    asked(steps)
    item = {"name": "A", "datatype": "INT64", "shape": [4], "parameters": {"binary_data_size": 32}}
    head = msgspec.json.encode({"model_name": "detector", "outputs": [item]})
    with pytest.raises(InternalError, match="expected Inferoxy's JSON"):
        outcome(steps, 200, head + b"123", {"inference-header-content-length": str(len(head))})


def test_a_drawn_picture_comes_with_the_prediction_in_one_round_trip() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "png")
    exchange = asked(steps)
    end = int(exchange.headers["inference-header-content-length"])
    content = msgspec.json.decode(exchange.body[:end])
    assert content["outputs"] == [{"name": "prediction"}, {"name": "picture"}]
    assert content["parameters"]["draw"] == "png"
    assert exchange.body[end:] == len(PICTURE.data).to_bytes(4, "little") + PICTURE.data
    blobs = [len(data).to_bytes(4, "little") + data for data in (msgspec.json.encode(FOUND), b"drawn")]
    outputs = [
        {"name": name, "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(blob)}}
        for name, blob in zip(("prediction", "picture"), blobs, strict=True)
    ]
    head = msgspec.json.encode({"model_name": "detector", "model_version": "1", "outputs": outputs})
    found = outcome(steps, 200, head + b"".join(blobs), {"inference-header-content-length": str(len(head))})
    assert isinstance(found, Detections)
    assert (found.picture, found.class_name, found.image_size) == (b"drawn", ["star"], Size(40, 30))


def test_a_parameter_with_a_name_of_the_protocol_is_refused_where_it_would_be_taken_for_that() -> None:
    with pytest.raises(InvalidRequest, match="parameter 'timeout': the name is the protocol's own"):
        asked(PROTOCOL.infer(call(parameters={"timeout": 5}), {"IN": np.zeros(1, np.float32)}, []))


def test_readiness_is_the_server_s_or_a_model_s() -> None:
    steps = PROTOCOL.is_ready("", "")
    assert asked(steps).path == "/readyz"
    assert outcome(steps, 200, {"ready": True}) is True
    steps = PROTOCOL.is_ready("m", "2")
    assert asked(steps).path == "/v2/models/m/versions/2/ready"
    assert outcome(steps, 503, {"error": "failing", "code": "MODEL_UNAVAILABLE"}) is False
    steps = PROTOCOL.is_ready("m", "")
    asked(steps)
    assert outcome(steps, 404, {"error": "no", "code": "MODEL_NOT_FOUND"}) is False


def test_models_are_listed_with_their_tensors() -> None:
    steps = PROTOCOL.models()
    asked(steps)
    spec = {"name": "IN", "datatype": "FP32", "shape": [-1, 16]}
    item = {"name": "m", "version": "1", "state": "failing", "ready": False, "error": "no file", "inputs": [spec]}
    (model,) = outcome(steps, 200, {"models": [item]})
    assert (model.name, model.state, model.ready, model.error) == ("m", "failing", False, "no file")
    assert model.inputs[0].shape == (-1, 16)


def test_unavailable_models_are_no_connection_failures() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "")
    asked(steps)
    with pytest.raises(ModelUnavailable) as caught:
        outcome(steps, 503, {"error": "cannot be loaded", "code": "MODEL_UNAVAILABLE"})
    assert not isinstance(caught.value, ConnectionError)


STEP = Sequence(5, True)


def test_a_step_of_a_sequence_says_so_in_the_query() -> None:
    for step, expected in (
        (STEP, {"sequence_id": ["5"], "sequence_start": ["true"]}),
        (Sequence("a/b"), {"sequence_id": ["a/b"]}),
        (Sequence(5, end=True), {"sequence_id": ["5"], "sequence_end": ["true"]}),
    ):
        path = asked(PROTOCOL.predict(call(sequence=step), PICTURE, "")).path
        assert parse_qs(urlsplit(path).query) == expected


def test_a_step_with_tensors_or_a_drawing_says_so_in_its_parameters() -> None:
    drawn = asked(PROTOCOL.predict(call(sequence=STEP), PICTURE, "jpeg"))
    tensors = asked(PROTOCOL.infer(call(sequence=STEP), {"x": np.zeros(1, np.float32)}, ()))
    for exchange in (drawn, tensors):
        head = msgspec.json.decode(exchange.body[: int(exchange.headers["inference-header-content-length"])])
        found = {name: value for name, value in head["parameters"].items() if name.startswith("sequence")}
        assert found == {"sequence_id": 5, "sequence_start": True}


def test_the_end_of_a_sequence_has_no_inputs() -> None:
    steps = PROTOCOL.end(call(version="2", timeout_s=1.0, sequence=Sequence("cam", end=True)))
    exchange = asked(steps)
    content = msgspec.json.decode(exchange.body)
    assert (exchange.path, content["inputs"]) == ("/v2/models/detector/versions/2/infer", [])
    expected = {"sequence_id": "cam", "sequence_end": True, "timeout": 1_000_000, "binary_data_output": True}
    assert content["parameters"] == expected
    assert outcome(steps, 200, {"model_name": "detector", "outputs": []}) is None


def test_a_lost_sequence_is_told_as_such() -> None:
    steps = PROTOCOL.end(call(sequence=Sequence(5, end=True)))
    asked(steps)
    with pytest.raises(SequenceLost, match="gone"):
        steps.send(
            HttpReply(503, {}, msgspec.json.encode({"error": "gone", "code": "SEQUENCE_LOST", "request_id": "r"}))
        )


def test_all_answers_are_given_and_of_several_the_last() -> None:
    several = {"predictions": [{"n": 1}, {"n": 2}], "served": SERVED}
    steps = PROTOCOL.predict_all(call(), PICTURE, "")
    asked(steps)
    assert [answer.value for answer in outcome(steps, 200, several)] == [{"n": 1}, {"n": 2}]
    steps = PROTOCOL.predict_all(call(), PICTURE, "")
    asked(steps)
    assert outcome(steps, 200, {"predictions": []}) == []
