"""Both gRPC services against a real stack: real models, their configuration, sequences, shared memory and overload."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from inferoxy.tensors import decode_strings
from protos import inference_pb2 as pb
from protos import inference_pb2_grpc, inferoxy_v1_pb2_grpc
from protos import inferoxy_v1_pb2 as pictures_pb
from tests.integration.client_models import SAMPLE
from tests.integration.sequence_models import SUMS
from tests.integration.stack import Stack
from tests.integration.test_bridges_grpc import refused
from tests.integration.test_bridges_grpc_streams import Open, ready_stub

pytestmark = pytest.mark.timeout(180)

SCORES = """
from inferoxy.runtime import Model

class Scores(Model):
    inputs = {"IN": ("FP32", [-1, 4])}
    outputs = {"SAME": ("FP32", [-1, 4]), "SUM": ("FP32", [-1, 1])}

    def infer(self, inputs):
        return {"SAME": inputs["IN"], "SUM": inputs["IN"].sum(1, keepdims=True)}
"""
REPEAT = """
import numpy as np

from inferoxy.runtime import Model

class Repeat(Model):
    inputs = {"COUNT": ("INT32", [1])}
    outputs = {"AT": ("INT32", [-1])}
    decoupled = True

    def infer_each(self, requests):
        return [self.count(int(r["COUNT"][0]), int(r.parameters.get("size", 1))) for r in requests]

    def count(self, count, size):
        for at in range(count):
            yield {"AT": np.full(size, at, np.int32)}
"""
PACED = SUMS.replace('value = int(inputs["IN"][0])', 'value = int(inputs["IN"][0])\n        time.sleep(0.01)')
TRACKS = """
def predict_batch(samples, draw):
    return [
        {
            "prediction": {
                "boxes": [[0.5, 1.5, 2.5, 3.5]], "confidence": [0.25], "class_id": [7], "track_id": [2**40],
                "big": 2**60 + 1, "none": float("nan"),
            },
            "image": None,
        }
        for sample in samples
    ]
"""
SOURCES = {"scores": SCORES, "repeat": REPEAT, "sums": PACED, "tracks": TRACKS}
SETTINGS = {
    "scores": "batch_size: 8",
    "repeat": "timeout_ms: 60000",
    "sums": "stateless: false, max_sequences: 4",
    "tracks": "batch_size: 4",
}
Input = pb.ModelInferRequest.InferInputTensor


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("models")
    lines = []
    for name, source in SOURCES.items():
        (folder / name).mkdir()
        (folder / name / "model.py").write_text(source)
        options = f", options: {{log: {folder / name / 'notes'}}}"
        lines.append(f"{name}: {{artifact: {folder / name}, runtime: python, {SETTINGS[name]}{options}}}")
    detector = SAMPLE.with_name("detector.onnx")
    lines.append(f"detector: {{artifact: {detector}, runtime: yolo, batch_size: 4}}")
    with Stack("\n".join(lines) + "\n") as running:
        yield running


@pytest.fixture(scope="module")
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.grpc_address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        ready_stub(channel)
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture
def pictures(channel: grpc.Channel) -> Any:
    return inferoxy_v1_pb2_grpc.InferoxyStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture
def shared_object() -> Iterator[Path]:
    path = Path("/dev/shm") / f"test-grpc-{secrets.token_hex(6)}"
    path.write_bytes(bytes(4096))
    yield path
    path.unlink(missing_ok=True)


def rows(data: list[list[float]], **more: Any) -> pb.ModelInferRequest:
    array = np.array(data, "<f4")
    return pb.ModelInferRequest(
        model_name="scores",
        inputs=[Input(name="IN", datatype="FP32", shape=array.shape)],
        raw_input_contents=[array.tobytes()],
        **more,
    )


def wanted(name: str, **parameters: int | str) -> Any:
    made = pb.ModelInferRequest.InferRequestedOutputTensor(name=name)
    put(made.parameters, **parameters)
    return made


def put(parameters: Any, **values: int | str) -> None:
    for name, value in values.items():
        if isinstance(value, str):
            parameters[name].string_param = value
        else:
            parameters[name].int64_param = value


def one(model: str, name: str, value: int, **more: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[Input(name=name, datatype="INT32", shape=[1])],
        raw_input_contents=[np.array([value], "<i4").tobytes()],
        **more,
    )


def step(value: int, sequence: int, *, start: bool = False, end: bool = False) -> pb.ModelInferRequest:
    request = one("sums", "IN", value, id=f"{sequence}:{value}")
    request.parameters["sequence_id"].int64_param = sequence
    request.parameters["sequence_start"].bool_param = start
    request.parameters["sequence_end"].bool_param = end
    return request


# The Open Inference Protocol


def test_a_models_first_request_may_be_classified(stub: Any) -> None:
    response = stub.ModelInfer(rows([[1, 4, 3, 2], [9, 8, 7, 10]], outputs=[wanted("SAME", classification=2)]))
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [("SAME", "BYTES", [2, 2])]
    classes = decode_strings("SAME", [4], response.raw_output_contents[0]).tolist()
    assert [element.split(b":")[1] for element in classes] == [b"1", b"2", b"3", b"0"]


def test_configuration_has_what_perf_analyzer_reads_and_starts_a_model_that_has_never_run(stub: Any) -> None:
    config = stub.ModelConfig(pb.ModelConfigRequest(name="scores")).config
    assert (config.name, config.max_batch_size, config.HasField("sequence_batching")) == ("scores", 8, False)
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("IN", pb.TYPE_FP32, [4])]
    assert [(o.name, list(o.dims)) for o in config.output] == [("SAME", [4]), ("SUM", [1])]
    sequences = stub.ModelConfig(pb.ModelConfigRequest(name="sums", version="1")).config
    assert (sequences.max_batch_size, list(sequences.input[0].dims)) == (0, [1])
    assert sequences.sequence_batching.max_sequence_idle_microseconds == 30_000_000
    assert stub.ModelConfig(pb.ModelConfigRequest(name="repeat")).config.model_transaction_policy.decoupled
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="repeat"))
    assert [(i.name, i.datatype, list(i.shape)) for i in metadata.inputs] == [("COUNT", "INT32", [1])]
    assert refused(stub.ModelConfig, pb.ModelConfigRequest(name="none"))[0] is grpc.StatusCode.NOT_FOUND


def test_statistics_count_rows_runs_and_requests(stub: Any) -> None:
    def read() -> Any:
        (found,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="scores")).model_stats
        return found

    stub.ModelInfer(rows([[0] * 4]))
    before = read()
    for _ in range(3):
        stub.ModelInfer(rows([[0] * 4, [1] * 4]))
    after = read()
    assert (after.name, after.version) == ("scores", "1")
    assert after.inference_count - before.inference_count == 6
    assert after.execution_count - before.execution_count == 3
    assert after.inference_stats.success.count - before.inference_stats.success.count == 3
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert all(after.inference_stats.HasField(f.name) for f in after.inference_stats.DESCRIPTOR.fields)
    assert abs(after.last_inference / 1e3 - time.time()) < 60
    assert len(stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats) >= 1
    assert refused(stub.ModelStatistics, pb.ModelStatisticsRequest(name="none"))[0] is grpc.StatusCode.NOT_FOUND


def test_models_are_loaded_and_unloaded(stub: Any, stack: Stack) -> None:
    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="tracks"))
    assert stub.ModelReady(pb.ModelReadyRequest(name="tracks")).ready
    index = {model.name: model for model in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models}
    assert (index["tracks"].version, index["tracks"].state) == ("1", "READY")
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="tracks"))
    for method, kind in (
        (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest),
        (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest),
    ):
        assert refused(method, kind(model_name="none"))[0] is grpc.StatusCode.NOT_FOUND
    configured = pb.RepositoryModelLoadRequest(model_name="tracks")
    configured.parameters["config"].string_param = "{}"
    assert refused(stub.RepositoryModelLoad, configured)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_inputs_and_outputs_lie_in_shared_memory(stub: Any, shared_object: Path) -> None:
    register = pb.SystemSharedMemoryRegisterRequest(name="r", key=f"/{shared_object.name}", offset=64, byte_size=256)
    stub.SystemSharedMemoryRegister(register)
    assert refused(stub.SystemSharedMemoryRegister, register)[0] is grpc.StatusCode.ALREADY_EXISTS
    status = stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest()).regions
    assert (status["r"].name, status["r"].key, status["r"].offset, status["r"].byte_size) == (
        "r", f"/{shared_object.name}", 64, 256,
    )  # fmt: skip
    with shared_object.open("r+b") as file:
        for number in range(2):
            data = np.arange(4, dtype="<f4") + number
            os.pwrite(file.fileno(), data.tobytes(), 64 + 16)
            request = pb.ModelInferRequest(
                model_name="scores", inputs=[Input(name="IN", datatype="FP32", shape=[1, 4])]
            )
            place = {"shared_memory_region": "r", "shared_memory_byte_size": 16, "shared_memory_offset": 16}
            put(request.inputs[0].parameters, **place)
            request.outputs.extend(
                [wanted("SUM"), wanted("SAME", **{**place, "shared_memory_offset": 128, "shared_memory_byte_size": 99})]
            )
            for response in (
                stub.ModelInfer(request),
                next(iter(stub.ModelStreamInfer(iter([request])))).infer_response,
            ):
                assert [(o.name, list(o.shape)) for o in response.outputs] == [("SUM", [1, 1]), ("SAME", [1, 4])]
                assert list(response.raw_output_contents) == [data.sum().astype("<f4").tobytes(), b""]
                assert os.pread(file.fileno(), 16, 64 + 128) == data.tobytes()
    request.outputs[1].parameters["shared_memory_byte_size"].int64_param = 15
    code, details, _ = refused(stub.ModelInfer, request)
    assert (code, "'SAME'" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="other"))
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())
    assert not stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest()).regions
    code, details, _ = refused(stub.ModelInfer, request)
    assert (code, "'r' is not registered" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_server_without_cuda_says_so_only_when_it_is_asked_for_it(stub: Any) -> None:
    assert not stub.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest()).regions
    stub.CudaSharedMemoryUnregister(pb.CudaSharedMemoryUnregisterRequest())
    register = pb.CudaSharedMemoryRegisterRequest(name="r", raw_handle=b"h", byte_size=1)
    code, details, _ = refused(stub.CudaSharedMemoryRegister, register)
    assert (code, "CUDA" in details) == (grpc.StatusCode.UNIMPLEMENTED, True)


def test_sequences_on_one_stream_run_in_order_each(stub: Any) -> None:
    requests = [
        step(value, sequence, start=value == 1, end=value == 3)
        for value in (1, 2, 3)
        for sequence in (2**62, 2**62 + 1, 2**62 + 2)
    ]
    found: dict[str, list[int]] = {}
    for response in stub.ModelStreamInfer(iter(requests)):
        assert not response.error_message
        answer = response.infer_response
        sequence, value = answer.id.split(":")
        found.setdefault(sequence, []).append(int(value))
        assert np.frombuffer(answer.raw_output_contents[0], "<i4")[0] == sum(range(int(value) + 1))
    assert list(found.values()) == [[1, 2, 3]] * 3


def test_a_step_of_a_sequence_that_is_not_live_is_an_invalid_argument(stub: Any) -> None:
    code, details, metadata = refused(stub.ModelInfer, step(1, 99))
    assert (code, metadata["x-inferoxy-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "SEQUENCE_UNKNOWN")
    assert "99" in details
    (response,) = stub.ModelStreamInfer(iter([step(1, 99)]))
    assert (response.infer_response.id, "99" in response.error_message) == ("99:1", True)


def test_answers_of_a_decoupled_model_are_counted_out(stub: Any) -> None:
    request = one("repeat", "COUNT", 5, id="five")
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    none = one("repeat", "COUNT", 0, id="none")
    none.parameters["triton_enable_empty_final_response"].bool_param = True
    found: dict[str, list[Any]] = {"five": [], "none": []}
    for response in stub.ModelStreamInfer(iter([request, none, one("repeat", "COUNT", 0, id="silent")])):
        found[response.infer_response.id].append(response.infer_response)
    assert [np.frombuffer(a.raw_output_contents[0], "<i4")[0] for a in found["five"] if a.outputs] == list(range(5))
    for answers in found.values():
        flags = [answer.parameters["triton_final_response"].bool_param for answer in answers]
        assert flags == [False] * (len(answers) - 1) + [True]
    assert len(found["none"]) == 1
    code, details, _ = refused(stub.ModelInfer, request)
    assert (code, "ModelStreamInfer" in details) == (grpc.StatusCode.UNIMPLEMENTED, True)


def test_who_asks_for_answers_without_end_and_does_not_read_loses_the_stream(stack: Stack, stub: Any) -> None:
    options = [
        ("grpc.http2.lookahead_bytes", 65_535),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    pid = stack.pid_of("bridge_grpc")
    with grpc.insecure_channel(stack.grpc_address, options=options) as channel:
        stream = Open(ready_stub(channel).ModelStreamInfer)
        request = one("repeat", "COUNT", 40_000)
        put(request.parameters, size=10_000)
        stream.send(request)
        highest = 0
        for _ in range(40):
            highest = max(highest, rss_mib(pid))
            time.sleep(0.1)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream.call)
        error: Any = caught.value
        assert (error.code(), "expected the client to read" in error.details()) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED, True,
        )  # fmt: skip
        stream.half_close()
    assert highest < 1_000
    assert stub.ModelInfer(rows([[1] * 4])).outputs
    assert stack.pid_of("bridge_grpc") == pid


def test_a_message_that_grows_without_end_when_it_is_unpacked_is_refused(stack: Stack, channel: grpc.Channel) -> None:
    pid = stack.pid_of("bridge_grpc")
    before = rss_mib(pid)
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    code, _, _ = refused(call, bytes(2**30), compression=grpc.Compression.Gzip)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rss_mib(pid) - before < 400


def rss_mib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


# Pictures


def test_the_detector_answers_pictures(pictures: Any) -> None:
    request = pictures_pb.PredictRequest(model="detector", draw=pictures_pb.DRAW_JPEG)
    request.picture.encoded = SAMPLE.read_bytes()
    request.parameters.update({"confidence": 0.5})
    answer = pictures.Predict(request)
    prediction = json.loads(answer.prediction_json)
    assert len(answer.detections) == len(prediction["boxes"]) > 0
    for box, found in zip(answer.detections, prediction["boxes"], strict=True):
        assert np.allclose([box.x1, box.y1, box.x2, box.y2], found, atol=1e-3)
    assert [box.class_name for box in answer.detections] == prediction["class_name"]
    assert min(box.confidence for box in answer.detections) >= 0.5
    assert answer.drawn.startswith(b"\xff\xd8\xff")
    model = pictures.GetModel(pictures_pb.GetModelRequest(name="detector"))
    assert [list(tensor.shape) for tensor in model.inputs] == [[-1, -1, 3]]


def test_large_integers_survive_and_nan_is_null(pictures: Any) -> None:
    picture = pictures_pb.Picture(encoded=SAMPLE.read_bytes())
    answer = pictures.Predict(pictures_pb.PredictRequest(model="tracks", picture=picture))
    found = json.loads(answer.prediction_json)
    assert (found["big"], found["none"]) == (2**60 + 1, None)
    (box,) = answer.detections
    assert (box.x1, box.class_id, box.class_name, box.track_id) == (0.5, 7, "", 2**40)


def test_a_video_of_a_stateless_model_shares_batches(pictures: Any) -> None:
    start = pictures_pb.StreamRequest(start=pictures_pb.StreamStart(model="detector", window=16))
    picture = pictures_pb.Picture(encoded=SAMPLE.read_bytes())
    frames = [pictures_pb.StreamRequest(frame=pictures_pb.Frame(picture=picture)) for _ in range(60)]
    found = list(pictures.Stream(iter([start, *frames])))
    assert [response.frame for response in found] == list(range(60))
    assert max(response.answer.served.batch_size for response in found) > 1
    assert len({len(response.answer.detections) for response in found}) == 1
