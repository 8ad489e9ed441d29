"""Client operations as gRPC calls, without a server: what is asked, and what is made of the answers."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from inferoxy.client.calls import Call, ConnectionFailed
from inferoxy.client.grpc_protocol import GrpcExchange, GrpcProtocol, GrpcReply, error_of
from inferoxy.client.pictures import EncodedPicture
from inferoxy.client.results import Detections, Size
from inferoxy.errors import Code, DeadlineExceeded, InternalError, InvalidRequest, ModelNotFound, SequenceLost
from inferoxy.messages import Sequence, TensorSpec
from protos import inference_pb2 as pb
from protos import inferoxy_v1_pb2 as pictures_pb

PROTOCOL = GrpcProtocol("grpc://server:1")
PICTURE = EncodedPicture(b"\xff\xd8\xff picture", "jpeg", 40, 30)
TENSORS = {"IN": np.zeros(1, np.float32)}
FOUND = {"boxes": [[1.0, 2.0, 3.0, 4.0]], "confidence": [0.5], "class_id": [1], "class_name": ["star"]}


def asked(steps: Any) -> GrpcExchange:
    exchange: GrpcExchange = next(steps)
    return exchange


def outcome(steps: Any, message: Any, metadata: dict[str, str] | None = None) -> Any:
    with pytest.raises(StopIteration) as stop:
        steps.send(GrpcReply(message, metadata or {}))
    return stop.value.value


def answer(prediction: Any = None, **more: Any) -> Any:
    text = "" if prediction is None else msgspec.json.encode(prediction).decode()
    return pictures_pb.Answer(request_id="r1", model="detector", version="2", prediction_json=text, **more)


def call(**more: Any) -> Call:
    return Call(**{"model": "detector", "request_id": "r1", **more})


def test_a_picture_file_travels_as_it_is_to_our_own_service() -> None:
    exchange = asked(PROTOCOL.predict(call(version="2", priority=3, timeout_s=1.5), PICTURE, "png"))
    request = exchange.request
    assert (exchange.service, exchange.method) == ("inferoxy.v1.Inferoxy", "Predict")
    assert (request.model, request.version, request.request_id) == ("detector", "2", "r1")
    assert (request.picture.WhichOneof("form"), request.picture.encoded) == ("encoded", PICTURE.data)
    assert (request.draw, request.priority) == (pictures_pb.DRAW_PNG, 3)
    assert request.timeout.ToMicroseconds() == 1_500_000
    assert exchange.timeout_s == exchange.wait_s > 1.5


def test_what_is_not_said_is_left_out() -> None:
    request = asked(PROTOCOL.predict(call(), PICTURE, "")).request
    assert [field.name for field, _ in request.ListFields()] == ["model", "picture", "request_id"]


def test_an_array_travels_raw() -> None:
    array = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    raw = asked(PROTOCOL.predict(call(), array, "")).request.picture.raw
    assert (raw.height, raw.width, raw.rgb) == (2, 3, array.tobytes())


def test_detections_and_the_drawn_picture_come_in_one_answer() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "jpeg")
    asked(steps)
    served = pictures_pb.Served(batch_size=4, closed="full", queue_ms=1.5, instance="i-1")
    found = outcome(steps, answer(FOUND, drawn=b"drawn", served=served))
    assert isinstance(found, Detections)
    assert found.boxes.tolist() == FOUND["boxes"]
    assert (found.picture, found.image_size, found.version, found.request_id) == (b"drawn", Size(40, 30), "2", "r1")
    assert (found.served.batch_size, found.served.closed, found.served.queue_ms) == (4, "full", 1.5)


def test_a_model_that_answers_several_times_gives_all_its_answers_in_order() -> None:
    steps = PROTOCOL.predict_all(call(), PICTURE, "")
    asked(steps)
    earlier = [pictures_pb.Answer(prediction_json=f'{{"n": {n}}}', drawn=b"x" * n) for n in (1, 2)]
    found = outcome(steps, answer({"n": 2**60}, earlier=earlier))
    assert [part.value["n"] for part in found] == [1, 2, 2**60]
    assert [part.picture for part in found] == [b"x", b"xx", None]
    assert {(part.version, part.request_id) for part in found} == {("2", "r1")}


def test_a_model_that_answers_no_times_gives_no_answers() -> None:
    steps = PROTOCOL.predict_all(call(), PICTURE, "")
    asked(steps)
    assert outcome(steps, answer()) == []


def test_an_answer_without_json_is_an_error() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "")
    asked(steps)
    with pytest.raises(InternalError, match="expected a prediction of JSON"):
        outcome(steps, pictures_pb.Answer(prediction_json="{"))


def test_a_timeout_is_told_to_the_server_and_none_leaves_the_model_s_own() -> None:
    with_timeout = asked(PROTOCOL.infer(call(timeout_s=1.5, priority=3), {"A": np.zeros(1, np.float32)}, []))
    assert with_timeout.request.parameters["timeout"].int64_param == 1_500_000
    assert with_timeout.request.parameters["priority"].int64_param == 997
    assert with_timeout.timeout_s == with_timeout.wait_s > 1.5
    without = asked(PROTOCOL.infer(call(), {"A": np.zeros(1, np.float32)}, []))
    assert "timeout" not in without.request.parameters
    assert without.timeout_s == 0


def test_a_picture_s_parameters_may_be_anything_that_json_can_hold() -> None:
    parameters = {"a": True, "b": -5, "c": 2**70, "d": 0.5, "e": "x", "f": [1, {"g": None}]}
    request = asked(PROTOCOL.predict(call(parameters=parameters), PICTURE, "")).request
    assert json.loads(request.parameters_json) == parameters
    with pytest.raises(InvalidRequest, match="parameters: expected what JSON can hold"):
        asked(PROTOCOL.predict(call(parameters={"x": object()}), PICTURE, ""))


def test_a_tensor_request_s_parameters_keep_their_types() -> None:
    parameters = {"a": True, "b": -5, "c": 2**63, "d": 0.5, "e": "x"}
    found = asked(PROTOCOL.infer(call(parameters=parameters), TENSORS, ())).request.parameters
    assert {name: found[name].WhichOneof("parameter_choice") for name in parameters} == {
        "a": "bool_param", "b": "int64_param", "c": "uint64_param", "d": "double_param", "e": "string_param",
    }  # fmt: skip


@pytest.mark.parametrize("value", [[1, 2], {"x": 1}, None, 2**64])
def test_a_tensor_request_s_parameters_that_the_protocol_has_no_form_for_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="parameter 'p': over gRPC expected text"):
        asked(PROTOCOL.infer(call(parameters={"p": value}), TENSORS, ()))


def test_tensors_of_a_model_that_answers_several_times_are_asked_for_in_a_stream_from_then_on() -> None:
    protocol = GrpcProtocol("grpc://server:1")
    steps = protocol.infer_all(call(), TENSORS, ["OUT"])
    assert asked(steps).method == "ModelInfer"
    exchange = steps.throw(error_of("u", 12, "use ModelStreamInfer", {"x-inferoxy-code": "UNSUPPORTED"}))
    assert (exchange.method, exchange.is_streamed) == ("ModelStreamInfer", True)
    parts = [pb.ModelStreamInferResponse() for _ in range(2)]
    for number, part in enumerate(parts):
        part.infer_response.outputs.add(name="OUT", datatype="UINT8", shape=[1])
        part.infer_response.raw_output_contents.append(bytes((number,)))
    assert [result["OUT"].tolist() for result in outcome(steps, parts)] == [[0], [1]]
    assert asked(protocol.infer_all(call(), TENSORS, [])).method == "ModelStreamInfer"
    assert asked(protocol.infer_all(call(model="other"), TENSORS, [])).method == "ModelInfer"


def test_other_errors_of_a_tensor_request_are_not_followed_by_a_stream() -> None:
    steps = PROTOCOL.infer_all(call(), TENSORS, [])
    asked(steps)
    with pytest.raises(ModelNotFound):
        steps.throw(error_of("u", 5, "no model", {}))


def test_an_error_in_a_stream_keeps_its_code() -> None:
    protocol = GrpcProtocol("grpc://server:1")
    for code, kind in (("SEQUENCE_LOST", SequenceLost), ("", InternalError)):
        steps = protocol.infer_all(call(), TENSORS, [])
        if asked(steps).method == "ModelInfer":
            steps.throw(error_of("u", 12, "", {}))
        part = pb.ModelStreamInferResponse(error_message="it is gone")
        part.infer_response.id = "r1"
        if code:
            part.infer_response.parameters["x-inferoxy-code"].string_param = code
        with pytest.raises(kind, match="it is gone") as caught:
            outcome(steps, [part])
        assert caught.value.request_id == "r1"


def test_output_tensors_are_read_raw() -> None:
    steps = PROTOCOL.infer(call(), {"IN": np.zeros(1, np.float32)}, ["OUT"])
    asked(steps)
    message = pb.ModelInferResponse(model_name="m", model_version="1")
    message.outputs.add(name="OUT", datatype="FP32", shape=[2, 2])
    message.raw_output_contents.append(np.arange(4, dtype=np.float32).tobytes())
    message.parameters["note"].string_param = "hi"
    result = outcome(steps, message)
    assert result["OUT"].tolist() == [[0, 1], [2, 3]]
    assert result["OUT"].flags.writeable
    assert result.parameters == {"note": "hi"}


def test_output_tensors_of_the_wrong_size_are_an_error() -> None:
    steps = PROTOCOL.infer(call(), {"IN": np.zeros(1, np.float32)}, [])
    asked(steps)
    message = pb.ModelInferResponse(model_name="m")
    message.outputs.add(name="OUT", datatype="FP32", shape=[2, 2])
    message.raw_output_contents.append(b"123")
    with pytest.raises(InternalError, match="expected 16 bytes"):
        outcome(steps, message)


def test_the_server_s_code_wins_over_grpc_s_status() -> None:
    found = error_of("u", 8, "queue full", {"x-inferoxy-code": "QUEUE_FULL", "x-request-id": "r7"})
    assert (found.code, found.message, found.request_id) == (Code.QUEUE_FULL, "queue full", "r7")
    assert error_of("u", 8, "too big", {"x-inferoxy-code": "PAYLOAD_TOO_LARGE"}).code is Code.PAYLOAD_TOO_LARGE
    assert not isinstance(error_of("u", 14, "no image", {"x-inferoxy-code": "MODEL_UNAVAILABLE"}), ConnectionFailed)


@pytest.mark.parametrize(
    ("status", "details", "kind", "code"),
    [
        (3, "bad", InvalidRequest, Code.INVALID_REQUEST),
        (5, "no model", ModelNotFound, Code.MODEL_NOT_FOUND),
        (4, "Deadline Exceeded", DeadlineExceeded, Code.DEADLINE_EXCEEDED),
        (8, "Received message larger than max (9 vs. 4)", Exception, Code.PAYLOAD_TOO_LARGE),
        (8, "exhausted", Exception, Code.QUEUE_FULL),
        (12, "", Exception, Code.UNSUPPORTED),
        (13, "boom", InternalError, Code.INTERNAL),
        (2, "unknown", InternalError, Code.INTERNAL),
        (16, "who are you", Exception, Code.UNAUTHENTICATED),
    ],
)
def test_without_our_code_the_status_is_mapped(status: int, details: str, kind: type, code: Code) -> None:
    found = error_of("grpc://server:1", status, details, {})
    assert isinstance(found, kind)
    assert found.code is code


def test_connections_that_were_never_made_are_told_from_those_that_broke() -> None:
    refused = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"
    assert str(error_of("grpc://h:1", 14, refused, {})).startswith("cannot connect to grpc://h:1 (Connection refused)")
    assert str(error_of("grpc://h:1", 14, "Socket closed", {})).startswith("the connection to grpc://h:1 broke")
    assert isinstance(error_of("grpc://h:1", 14, refused, {}), ConnectionError)


def test_models_are_known_by_one_call_of_our_own_service() -> None:
    steps = PROTOCOL.models()
    exchange = asked(steps)
    assert (exchange.service, exchange.method) == ("inferoxy.v1.Inferoxy", "ListModels")
    listed = pictures_pb.ListModelsResponse()
    model = listed.models.add(name="a", version="1", default=True, state="ready", ready=True, platform="python")
    model.stateless, model.batch_size = True, 8
    model.inputs.add(name="IN", datatype="FP32", shape=[-1, 16])
    listed.models.add(name="b", version="2", state="failing", error="no file")
    first, second = outcome(steps, listed)
    assert (first.name, first.state, first.ready, first.platform) == ("a", "ready", True, "python")
    assert (first.default, first.stateless, first.batch_size) == (True, True, 8)
    assert first.inputs == (TensorSpec("IN", "FP32", (-1, 16)),)
    assert (second.version, second.state, second.ready, second.error) == ("2", "failing", False, "no file")
    assert (second.default, second.stateless) == (False, False)


def test_a_step_of_a_sequence_says_so() -> None:
    step = asked(PROTOCOL.predict(call(sequence=Sequence(2**63, True)), PICTURE, "")).request.sequence
    assert (step.number, step.start, step.end) == (2**63, True, False)
    step = asked(PROTOCOL.predict(call(sequence=Sequence("cam")), PICTURE, "")).request.sequence
    assert (step.name, step.start, step.end) == ("cam", False, False)
    request = asked(PROTOCOL.infer(call(sequence=Sequence("cam", True)), TENSORS, ())).request
    assert request.parameters["sequence_id"].string_param == "cam"
    assert request.parameters["sequence_start"].bool_param
    assert "sequence_end" not in request.parameters


def test_the_end_of_a_sequence_has_no_inputs() -> None:
    steps = PROTOCOL.end(call(version="2", sequence=Sequence(5, end=True)))
    request = asked(steps).request
    assert (request.model_version, len(request.inputs), len(request.raw_input_contents)) == ("2", 0, 0)
    assert (request.parameters["sequence_id"].int64_param, request.parameters["sequence_end"].bool_param) == (5, True)
    assert outcome(steps, pb.ModelInferResponse(model_name="detector")) is None


def test_init_of_a_tensor_request_travels_as_its_json() -> None:
    steps = PROTOCOL.infer(call(parameters={"init": {"fps": 25, "size": [640, 480]}}), TENSORS, ())
    assert msgspec.json.decode(asked(steps).request.parameters["init"].string_param) == {"fps": 25, "size": [640, 480]}
    for wrong in ({"init": {"x": object()}}, {"other": {}}):
        with pytest.raises(InvalidRequest, match=r"parameter '(init|other)'"):
            asked(PROTOCOL.infer(call(parameters=wrong), TENSORS, ()))
