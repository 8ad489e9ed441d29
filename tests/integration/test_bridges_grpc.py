"""The gRPC bridge over real sockets, asked by the stubs that are generated from protos/inference.proto."""

import concurrent.futures
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from inferoxy import messages as m
from inferoxy.tensors import decode_strings, encode_strings
from protos import inference_pb2 as pb
from protos import inference_pb2_grpc
from tests.integration.answering_router import AnsweringRouter
from tests.integration.bridge_process import Bridge
from tests.unit.pictures import bomb, encoded

JPEG = encoded("JPEG", 64, 48)
ROW = np.arange(16, dtype="<f4")
Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path_factory.mktemp("grpc")) as router:
        yield router


@pytest.fixture(scope="module")
def bridge(router: AnsweringRouter) -> Iterator[Bridge]:
    with Bridge("grpc", router.endpoint, limits={"body_mib": 1.0}, log_level="warning") as bridge:
        yield bridge


@pytest.fixture(autouse=True)
def fresh(router: AnsweringRouter) -> None:
    router.is_dropping = router.is_holding = False
    router.requests.clear()
    router.cancelled.clear()


@pytest.fixture(scope="module")
def channel(bridge: Bridge) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(bridge.address) as channel:
        end = time.monotonic() + 10.0
        while not stub_of(channel).ServerReady(pb.ServerReadyRequest()).ready:
            assert time.monotonic() < end
            time.sleep(0.02)
        yield channel


def stub_of(channel: grpc.Channel) -> Any:
    return inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return stub_of(channel)


def row_request(model: str = "echo", **more: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[Input(name="INPUT0", datatype="FP32", shape=[1, 16])],
        raw_input_contents=[ROW.tobytes()],
        **more,
    )


def picture_request(data: bytes, model: str = "detector", **more: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[Input(name="image", datatype="BYTES", shape=[1])],
        raw_input_contents=[encode_strings([data])],
        **more,
    )


def refused(call: Any, request: Any, **more: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **more)
    error: Any = caught.value
    assert error.details()
    return error.code(), error.details(), dict(error.trailing_metadata())


def test_raw_and_typed_inputs_are_answered_raw(stub: Any) -> None:
    typed = pb.ModelInferRequest(
        model_name="echo",
        id="7",
        inputs=[
            Input(name="INPUT0", datatype="FP32", shape=[1, 16], contents=pb.InferTensorContents(fp32_contents=ROW))
        ],
    )
    for request in (row_request(id="7"), typed):
        response = stub.ModelInfer(request)
        assert (response.model_name, response.model_version, response.id) == ("echo", "1", "7")
        assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [("OUTPUT0", "FP32", [1, 16])]
        assert list(response.raw_output_contents) == [ROW.tobytes()]


def test_a_bare_end_has_no_inputs_and_no_outputs(stub: Any, router: AnsweringRouter) -> None:
    request = pb.ModelInferRequest(model_name="tally", id="7", outputs=[Output(name="OUTPUT0")])
    request.parameters["sequence_id"].string_param = "cam"
    code, details, _ = refused(stub.ModelInfer, request)
    assert (code, "inputs: expected at least one" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    request.parameters["sequence_end"].bool_param = True
    response = stub.ModelInfer(request)
    assert (response.model_name, response.id, len(response.outputs), len(response.raw_output_contents)) == (
        "tally", "7", 0, 0,
    )  # fmt: skip
    assert [sent.sequence for sent in router.requests] == [m.Sequence("cam", end=True)]
    request.model_name = "echo"
    code, details, _ = refused(stub.ModelInfer, request)
    assert (code, "stateless" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_trailing_metadata_tells_how_it_was_served(stub: Any) -> None:
    _, call = stub.ModelInfer.with_call(row_request(), metadata=[("x-request-id", "mine")])
    metadata = dict(call.trailing_metadata())
    assert metadata["x-request-id"] == "mine"
    assert (metadata["x-inferoxy-batch-size"], metadata["x-inferoxy-closed"]) == ("4", "full")


def test_encoded_picture_is_sent_as_bytes_and_stays_encoded(stub: Any, router: AnsweringRouter) -> None:
    request = picture_request(JPEG, outputs=[Output(name="prediction"), Output(name="picture")])
    request.parameters["draw"].string_param = "jpeg"
    request.parameters["confidence"].double_param = 0.5
    response = stub.ModelInfer(request)
    prediction, picture = (decode_strings("x", [1], data)[0] for data in response.raw_output_contents)
    assert json.loads(prediction)["boxes"] == [[0, 0, 64, 48]]
    assert json.loads(prediction)["parameters"] == {"confidence": 0.5}
    assert picture == JPEG
    assert router.requests[0].size == len(JPEG)


def test_raw_picture_may_have_a_leading_1(stub: Any) -> None:
    for shape in ([48, 64, 3], [1, 48, 64, 3]):
        request = pb.ModelInferRequest(
            model_name="detector",
            inputs=[Input(name="image", datatype="UINT8", shape=shape)],
            raw_input_contents=[bytes(48 * 64 * 3)],
        )
        assert list(stub.ModelInfer(request).outputs[0].shape) == [48, 64, 3]


def test_metadata_and_readiness(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    server = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (server.name, "binary_tensor_data" in server.extensions) == ("inferoxy", True)
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="echo", version="1"))
    assert (list(model.versions), list(model.inputs[0].shape)) == (["1", "2"], [-1, 16])
    ready = {name: stub.ModelReady(pb.ModelReadyRequest(name=name)).ready for name in ("echo", "starting", "none")}
    assert ready == {"echo": True, "starting": False, "none": False}
    states = {model.name: model.state for model in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models}
    assert (states["echo"], states["starting"]) == ("READY", "LOADING")


def test_request_parameters_and_the_deadline_reach_the_batch_manager(stub: Any, router: AnsweringRouter) -> None:
    request = row_request(model_version="2")
    request.parameters["sequence_id"].uint64_param = 2**63 + 1
    request.parameters["sequence_start"].bool_param = True
    request.parameters["priority"].uint64_param = 1
    stub.ModelInfer(request, timeout=3.0)
    request.parameters["timeout"].int64_param = 500_000
    stub.ModelInfer(request, timeout=3.0)
    by_deadline, by_parameter = router.requests
    assert (by_deadline.model_version, by_deadline.priority) == ("2", 999)
    assert by_deadline.sequence == m.Sequence(2**63 + 1, True)
    assert 1_000_000 < by_deadline.timeout_us < 3_100_000  # gRPC rounds deadlines up
    assert by_parameter.timeout_us == 500_000


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("none", grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        ("broken", grpc.StatusCode.INTERNAL, "MODEL_ERROR"),
        ("full", grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
        ("silent", grpc.StatusCode.UNAVAILABLE, "DEADLINE_EXCEEDED"),
        ("frames", grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED"),
    ],
)
def test_failures_have_their_status_and_our_code(stub: Any, model: str, status: grpc.StatusCode, code: str) -> None:
    found, _, metadata = refused(
        stub.ModelInfer, row_request(model) if model != "frames" else picture_request(JPEG, model)
    )
    assert (found, metadata["x-inferoxy-code"]) == (status, code)
    assert metadata.get("retry-after") == ("1" if code == "QUEUE_FULL" else None)
    assert metadata["x-request-id"]


@pytest.mark.parametrize(
    "request_",
    [
        pb.ModelInferRequest(model_name="echo"),
        picture_request(b"no picture"),
        picture_request(b""),
        row_request(outputs=[Output(name="none")]),
        pb.ModelInferRequest(
            model_name="echo",
            inputs=[Input(name="INPUT0", datatype="FP32", shape=[1, 16])],
            raw_input_contents=[b"short"],
        ),
    ],
)
def test_bad_requests_are_invalid_arguments(stub: Any, router: AnsweringRouter, request_: Any) -> None:
    assert refused(stub.ModelInfer, request_)[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert router.requests == []


def test_bomb_and_too_large_message_are_resource_exhausted(stub: Any) -> None:
    status, details, _ = refused(stub.ModelInfer, picture_request(bomb()))
    assert (status, "60000x60000" in details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    status, details, _ = refused(stub.ModelInfer, picture_request(bytes(2**20)))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "expected at most 1048576 bytes (limits.body_mib), found 10486" in details
    assert refused(stub.ModelInfer, picture_request(bytes(2**22)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady", "RepositoryModelLoad"])
def test_bytes_that_are_no_message_are_invalid_arguments(channel: grpc.Channel, method: str) -> None:
    call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    code, details, metadata = refused(call, b"\xff\xff\xff")
    assert (code, metadata["x-inferoxy-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert f"expected inference.{method}Request" in details


@pytest.mark.parametrize("coding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_taken(stub: Any, coding: grpc.Compression) -> None:
    assert stub.ModelInfer(row_request(), compression=coding).raw_output_contents[0] == ROW.tobytes()
    status, _, _ = refused(stub.ModelInfer, picture_request(bytes(2**26)), compression=coding)
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_call_that_is_late_is_told_of_its_own_deadline_not_to_try_again(stub: Any) -> None:
    code, _, _ = refused(stub.ModelInfer, row_request("silent"), timeout=0.3)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_model_that_answers_several_times_is_to_be_streamed(stub: Any) -> None:
    code, details, _ = refused(stub.ModelInfer, picture_request(JPEG, "frames"))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "ModelStreamInfer" in details


def test_methods_that_are_not_there_are_unimplemented(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/inference.GRPCInferenceService/TraceSetting")
    assert refused(call, b"")[0] is grpc.StatusCode.UNIMPLEMENTED


def test_cancelled_call_is_cancelled_behind_the_bridge(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    call = stub.ModelInfer.future(row_request())
    router.wait_for(lambda: router.requests)
    call.cancel()
    router.wait_for(lambda: router.requests[-1].id in router.cancelled)


def test_deadline_of_a_call_cancels_it_behind_the_bridge(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    assert refused(stub.ModelInfer, row_request(), timeout=0.2)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    router.wait_for(lambda: router.cancelled)


def test_health_and_reflection_are_served(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    services = {"inference.GRPCInferenceService", "inferoxy.v1.Inferoxy"}
    for name in ("", *services):
        end = time.monotonic() + 5.0
        while (
            health.Check(health_pb2.HealthCheckRequest(service=name)).status != health_pb2.HealthCheckResponse.SERVING
        ):
            assert time.monotonic() < end
            time.sleep(0.02)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
    names = {service.name for service in next(iter(answers)).list_services_response.service}
    assert services | {"grpc.health.v1.Health"} <= names
    ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol="inferoxy.v1.Inferoxy")
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
    assert b"PredictRequest" in b"".join(next(iter(answers)).file_descriptor_response.file_descriptor_proto)


def test_concurrent_calls_each_get_their_own_answer(stub: Any) -> None:
    def call(number: int) -> None:
        row = np.full(16, number, "<f4")
        request = row_request(id=str(number))
        request.raw_input_contents[0] = row.tobytes()
        response = stub.ModelInfer(request)
        assert (response.id, response.raw_output_contents[0]) == (str(number), row.tobytes())

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(call, range(200)))


def test_sigterm_answers_what_is_in_flight_and_exits_0(tmp_path: Path) -> None:
    with (
        AnsweringRouter(tmp_path) as router,
        Bridge("grpc", router.endpoint) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        stub = stub_of(channel)
        router.is_holding = True
        waiting = pool.submit(stub.ModelInfer, row_request(), wait_for_ready=True)
        router.wait_for(lambda: router.requests)
        ended = pool.submit(bridge.end)
        time.sleep(0.3)
        router.is_holding = False
        assert waiting.result().raw_output_contents[0] == ROW.tobytes()
        assert ended.result()[0] == 0


def test_taken_address_is_one_clear_line_and_exit_code_3(router: AnsweringRouter, bridge: Bridge) -> None:
    second = Bridge("grpc", router.endpoint, port=bridge.port)
    code, log = second.end()
    assert code == 3
    assert f"cannot listen on {bridge.address}" in log
    assert "Traceback" not in log
