"""Client operations as gRPC calls, without a server: what is asked, and what is made of the answers."""

from typing import Any

import msgspec
import numpy as np
import pytest

from inferoxy.client.calls import Call, ConnectionFailed
from inferoxy.client.grpc_protocol import GrpcExchange, GrpcProtocol, GrpcReply, error_of
from inferoxy.client.pictures import EncodedPicture
from inferoxy.client.results import Detections, Size
from inferoxy.errors import Code, DeadlineExceeded, InternalError, InvalidRequest, ModelNotFound
from inferoxy.messages import Sequence, TensorSpec
from protos import inference_pb2 as pb

PROTOCOL = GrpcProtocol("grpc://server:1")
PICTURE = EncodedPicture(b"\xff\xd8\xff picture", "jpeg", 40, 30)
FOUND = {"boxes": [[1.0, 2.0, 3.0, 4.0]], "confidence": [0.5], "class_id": [1], "class_name": ["star"]}


def asked(steps: Any) -> GrpcExchange:
    exchange: GrpcExchange = next(steps)
    return exchange


def outcome(steps: Any, message: Any, metadata: dict[str, str] | None = None) -> Any:
    with pytest.raises(StopIteration) as stop:
        steps.send(GrpcReply(message, metadata or {}))
    return stop.value.value


def answer(**outputs: bytes) -> Any:
    response = pb.ModelInferResponse(model_name="detector", model_version="2", id="r1")
    for name, data in outputs.items():
        response.outputs.add(name=name, datatype="BYTES", shape=[1])
        response.raw_output_contents.append(len(data).to_bytes(4, "little") + data)
    return response


def call(**more: Any) -> Call:
    return Call(**{"model": "detector", "request_id": "r1", **more})


def test_a_picture_file_travels_encoded_and_the_prediction_is_asked_for() -> None:
    exchange = asked(PROTOCOL.predict(call(version="2"), PICTURE, ""))
    request = exchange.request
    assert (exchange.method, request.model_name, request.model_version, request.id) == (
        "ModelInfer",
        "detector",
        "2",
        "r1",
    )
    assert [(i.name, i.datatype, list(i.shape)) for i in request.inputs] == [("", "BYTES", [1])]
    assert request.raw_input_contents[0] == len(PICTURE.data).to_bytes(4, "little") + PICTURE.data
    assert [o.name for o in request.outputs] == ["prediction"]


def test_an_array_travels_raw() -> None:
    array = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    request = asked(PROTOCOL.predict(call(), array, "")).request
    assert [(i.datatype, list(i.shape)) for i in request.inputs] == [("UINT8", [2, 3, 3])]
    assert request.raw_input_contents[0] == array.tobytes()


def test_detections_and_the_drawn_picture_come_in_one_answer() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "jpeg")
    request = asked(steps).request
    assert [o.name for o in request.outputs] == ["prediction", "picture"]
    assert request.parameters["draw"].string_param == "jpeg"
    metadata = {"x-inferoxy-batch-size": "4", "x-inferoxy-closed": "full", "x-inferoxy-queue-ms": "1.5"}
    found = outcome(steps, answer(prediction=msgspec.json.encode(FOUND), picture=b"drawn"), metadata)
    assert isinstance(found, Detections)
    assert found.boxes.tolist() == FOUND["boxes"]
    assert (found.picture, found.image_size, found.version, found.request_id) == (b"drawn", Size(40, 30), "2", "r1")
    assert (found.served.batch_size, found.served.closed, found.served.queue_ms) == (4, "full", 1.5)


def test_an_answer_without_a_prediction_is_an_error() -> None:
    steps = PROTOCOL.predict(call(), PICTURE, "")
    asked(steps)
    with pytest.raises(InternalError, match="expected an output 'prediction'"):
        outcome(steps, answer(other=b"x"))


def test_a_timeout_is_told_to_the_server_and_none_leaves_the_model_s_own() -> None:
    with_timeout = asked(PROTOCOL.infer(call(timeout_s=1.5, priority=3), {"A": np.zeros(1, np.float32)}, []))
    assert with_timeout.request.parameters["timeout"].int64_param == 1_500_000
    assert with_timeout.request.parameters["priority"].int64_param == 997
    assert with_timeout.timeout_s == with_timeout.wait_s > 1.5
    without = asked(PROTOCOL.infer(call(), {"A": np.zeros(1, np.float32)}, []))
    assert "timeout" not in without.request.parameters
    assert without.timeout_s == 0


def test_parameters_keep_their_types() -> None:
    parameters = {"a": True, "b": -5, "c": 2**63, "d": 0.5, "e": "x"}
    found = asked(PROTOCOL.predict(call(parameters=parameters), PICTURE, "")).request.parameters
    assert {name: found[name].WhichOneof("parameter_choice") for name in parameters} == {
        "a": "bool_param", "b": "int64_param", "c": "uint64_param", "d": "double_param", "e": "string_param",
    }  # fmt: skip


@pytest.mark.parametrize("value", [[1, 2], {"x": 1}, None, 2**64])
def test_parameters_that_the_protocol_has_no_form_for_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="parameter 'p': over gRPC expected text"):
        asked(PROTOCOL.predict(call(parameters={"p": value}), PICTURE, ""))


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


def test_models_are_known_by_the_index_and_their_metadata() -> None:
    steps = PROTOCOL.models()
    assert asked(steps).method == "RepositoryIndex"
    index = pb.RepositoryIndexResponse()
    index.models.add(name="a", version="1", state="READY")
    index.models.add(name="gone", version="1", state="READY")
    index.models.add(name="b", version="2", state="UNAVAILABLE", reason="no file")
    exchange = steps.send(GrpcReply(index, {}))
    assert (exchange.method, exchange.request.name, exchange.request.version) == ("ModelMetadata", "a", "1")
    metadata = pb.ModelMetadataResponse(platform="python")
    metadata.inputs.add(name="IN", datatype="FP32", shape=[-1, 16])
    steps.send(GrpcReply(metadata, {}))
    steps.throw(ModelNotFound("unregistered meanwhile"))
    first, second = outcome(steps, pb.ModelMetadataResponse())
    assert (first.name, first.state, first.ready, first.platform) == ("a", "ready", True, "python")
    assert first.inputs == (TensorSpec("IN", "FP32", (-1, 16)),)
    assert (second.version, second.state, second.ready, second.error) == ("2", "failing", False, "no file")
    assert second.batch_size is None


def test_a_step_of_a_sequence_says_so_in_its_parameters() -> None:
    request = asked(PROTOCOL.predict(call(sequence=Sequence(2**63, True)), PICTURE, "")).request
    assert request.parameters["sequence_id"].uint64_param == 2**63
    assert request.parameters["sequence_start"].bool_param
    assert "sequence_end" not in request.parameters
    request = asked(PROTOCOL.infer(call(sequence=Sequence("cam")), {"x": np.zeros(1, np.float32)}, ())).request
    assert request.parameters["sequence_id"].string_param == "cam"


def test_the_end_of_a_sequence_has_no_inputs() -> None:
    steps = PROTOCOL.end(call(version="2", sequence=Sequence(5, end=True)))
    request = asked(steps).request
    assert (request.model_version, len(request.inputs), len(request.raw_input_contents)) == ("2", 0, 0)
    assert (request.parameters["sequence_id"].int64_param, request.parameters["sequence_end"].bool_param) == (5, True)
    assert outcome(steps, pb.ModelInferResponse(model_name="detector")) is None


def test_init_travels_as_its_json() -> None:
    steps = PROTOCOL.predict(call(parameters={"init": {"fps": 25, "size": [640, 480]}}), PICTURE, "")
    assert msgspec.json.decode(asked(steps).request.parameters["init"].string_param) == {"fps": 25, "size": [640, 480]}
    for wrong in ({"init": {"x": object()}}, {"other": {}}):
        with pytest.raises(InvalidRequest, match=r"parameter '(init|other)'"):
            asked(PROTOCOL.predict(call(parameters=wrong), PICTURE, ""))
