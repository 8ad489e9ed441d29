"""ModelStreamInfer over real sockets, asked by generated stubs, with the batch manager's side played by a test."""

import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from inferoxy import messages as m
from protos import inference_pb2 as pb
from protos import inference_pb2_grpc
from tests.integration.answering_router import AnsweringRouter
from tests.integration.bridge_process import Bridge
from tests.integration.test_bridges_grpc import JPEG, picture_request, row_request

WINDOW = 256


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path_factory.mktemp("grpc")) as router:
        yield router


@pytest.fixture(scope="module")
def bridge(router: AnsweringRouter) -> Iterator[Bridge]:
    bridge = Bridge("grpc", router.endpoint, limits={"body_mib": 1.0}, log_level="warning")
    with bridge_without_complaints(bridge):
        yield bridge


@contextmanager
def bridge_without_complaints(bridge: Bridge) -> Iterator[Bridge]:
    """A bridge that must end in order and have had nothing unexpected to log."""
    try:
        assert bridge.is_ready
        yield bridge
    finally:
        code, log = bridge.end()
    assert code == 0, log
    assert "Traceback" not in log, log
    assert "unexpected" not in log, log


@pytest.fixture(autouse=True)
def fresh(router: AnsweringRouter) -> None:
    router.is_holding = False
    router.requests.clear()
    router.cancelled.clear()


@pytest.fixture(scope="module")
def stub(bridge: Bridge) -> Iterator[Any]:
    with grpc.insecure_channel(bridge.address) as channel:
        yield ready_stub(channel)


def ready_stub(channel: grpc.Channel) -> Any:
    stub: Any = inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
    end = time.monotonic() + 10.0
    while not stub.ServerReady(pb.ServerReadyRequest(), wait_for_ready=True).ready:
        assert time.monotonic() < end
        time.sleep(0.02)
    return stub


class Open:
    """A stream held open: `send` and `receive` until `half_close`."""

    def __init__(self, method: Any, **more: Any) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        self.call = method(iter(self._requests.get, None), **more)

    def send(self, *requests: Any) -> None:
        for request in requests:
            self._requests.put(request)

    def half_close(self) -> None:
        self._requests.put(None)

    def receive(self, count: int) -> list[Any]:
        return [next(self.call) for _ in range(count)]

    def rest(self) -> list[Any]:
        self.half_close()
        return list(self.call)


def numbered(number: int, model: str = "echo", **more: Any) -> pb.ModelInferRequest:
    request = row_request(model, id=str(number), **more)
    request.raw_input_contents[0] = np.full(16, number, "<f4").tobytes()
    return request


def step(number: int, model: str = "tally", sequence: str = "cam", *, start: bool = False) -> pb.ModelInferRequest:
    request = numbered(number, model)
    request.parameters["sequence_id"].string_param = sequence
    request.parameters["sequence_start"].bool_param = start
    return request


def ids(responses: list[Any]) -> list[str]:
    return [response.infer_response.id for response in responses]


def test_each_request_gets_its_own_answer(stub: Any) -> None:
    responses = list(stub.ModelStreamInfer(numbered(number) for number in range(1000)))
    assert sorted(map(int, ids(responses))) == list(range(1000))
    for response in responses:
        answered = response.infer_response
        assert not response.error_message
        assert answered.raw_output_contents[0] == np.full(16, int(answered.id), "<f4").tobytes()
        assert answered.parameters["triton_final_response"].bool_param


def test_requests_run_at_the_same_time_and_answers_come_as_they_are_ready(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    stream = Open(stub.ModelStreamInfer)
    stream.send(*(numbered(number) for number in range(8)))
    router.wait_for(lambda: len(router.requests) == 8)
    stream.send(numbered(8, "none"))
    assert ids(stream.receive(1)) == ["8"]
    router.is_holding = False
    assert sorted(ids(stream.rest())) == [str(number) for number in range(8)]


def test_half_close_waits_for_all_answers(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    stream = Open(stub.ModelStreamInfer)
    stream.send(numbered(1), numbered(2))
    stream.half_close()
    router.wait_for(lambda: len(router.requests) == 2)
    time.sleep(0.1)
    router.is_holding = False
    assert sorted(ids(stream.receive(2))) == ["1", "2"]
    assert list(stream.call) == []
    assert stream.call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (numbered(7, "none"), "MODEL_NOT_FOUND", "unknown model"),
        (numbered(7, "broken"), "MODEL_ERROR", "the model says no"),
        (numbered(7, "silent"), "DEADLINE_EXCEEDED", ""),
        (pb.ModelInferRequest(model_name="echo", id="7"), "INVALID_REQUEST", "inputs: expected at least one"),
        (picture_request(b"no picture", id="7"), "INVALID_REQUEST", "JPEG, PNG or WebP"),
    ],
)
def test_an_error_is_an_answer_and_the_stream_goes_on(stub: Any, request_: Any, code: str, text: str) -> None:
    stream = Open(stub.ModelStreamInfer)
    stream.send(request_)
    (error,) = stream.receive(1)
    assert error.error_message
    assert text in error.error_message
    assert error.infer_response.id == "7"
    assert error.infer_response.parameters["x-inferoxy-code"].string_param == code
    stream.send(numbered(8))
    (answer,) = stream.rest()
    assert (answer.error_message, answer.infer_response.id) == ("", "8")


def test_messages_that_are_too_large_or_no_messages_are_answered_in_the_stream(bridge: Bridge, stub: Any) -> None:
    with grpc.insecure_channel(bridge.address) as channel:
        raw = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        large = picture_request(bytes(2**20), id="large").SerializeToString()
        found = list(raw(iter([b"\xff\xff", large, numbered(3).SerializeToString()])))
    texts = [pb.ModelStreamInferResponse.FromString(data).error_message for data in found]
    assert sum("expected inference.ModelInferRequest" in text for text in texts) == 1
    assert sum("limits.body_mib" in text for text in texts) == 1
    assert texts.count("") == 1


def test_steps_of_a_sequence_are_answered_in_order_even_those_that_are_refused(
    stub: Any, router: AnsweringRouter
) -> None:
    router.is_holding = True
    stream = Open(stub.ModelStreamInfer)
    bad = step(2)
    bad.raw_input_contents[0] = b"short"
    stream.send(step(1, start=True), bad, step(3), step(11, sequence="other", start=True), numbered(20, "none"))
    router.wait_for(lambda: len(router.requests) == 3)
    assert ids(stream.receive(1)) == ["20"]
    router.is_holding = False
    found = ids(stream.rest())
    assert [number for number in found if number != "11"] == ["1", "2", "3"]
    assert "11" in found
    assert [r.sequence for r in router.requests if r.sequence and r.sequence.id == "cam"] == [
        m.Sequence("cam", True), m.Sequence("cam"),
    ]  # fmt: skip


def test_a_model_may_answer_any_number_of_times(stub: Any) -> None:
    def ask(*, tells_end: bool) -> list[Any]:
        request = picture_request(
            JPEG, "frames", id="7", outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="prediction")]
        )
        request.parameters["triton_enable_empty_final_response"].bool_param = tells_end
        return [response.infer_response for response in stub.ModelStreamInfer(iter([request]))]

    for tells_end in (False, True):
        found = ask(tells_end=tells_end)
        assert {answer.id for answer in found} == {"7"}
        assert [answer.parameters["triton_final_response"].bool_param for answer in found] == [False] * 3 + [
            True
        ] * tells_end
        assert [len(answer.outputs) for answer in found] == [1] * 3 + [0] * tells_end


def test_parameters_for_the_stream_do_not_reach_the_model(stub: Any) -> None:
    request = numbered(1)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    request.parameters["mine"].string_param = "kept"
    (response,) = stub.ModelStreamInfer(iter([request]))
    assert set(response.infer_response.parameters) == {"mine", "triton_final_response"}


def test_cancelling_a_stream_cancels_what_is_open(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    stream = Open(stub.ModelStreamInfer)
    stream.send(*(numbered(number) for number in range(5)))
    router.wait_for(lambda: len(router.requests) == 5)
    stream.call.cancel()
    router.wait_for(lambda: sorted(router.cancelled) == sorted(request.id for request in router.requests))
    stream.half_close()


def test_a_streams_deadline_is_that_of_its_requests(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    stream = Open(stub.ModelStreamInfer, timeout=0.5)
    stream.send(numbered(1))
    with pytest.raises(grpc.RpcError) as caught:
        stream.receive(1)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    router.wait_for(lambda: router.cancelled == [request.id for request in router.requests])
    assert 0 < router.requests[0].timeout_us <= 600_000
    stream.half_close()


def test_a_client_that_vanishes_leaves_no_request_behind(bridge: Bridge, stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    with grpc.insecure_channel(bridge.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stream = Open(ready_stub(channel).ModelStreamInfer)
        stream.send(*(numbered(number) for number in range(5)))
        router.wait_for(lambda: len(router.requests) == 5)
    router.wait_for(lambda: len(router.cancelled) == 5)
    stream.half_close()


def test_requests_beyond_the_window_are_not_read_until_there_is_room(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    stream = Open(stub.ModelStreamInfer)
    stream.send(*(numbered(number) for number in range(2 * WINDOW)))
    router.wait_for(lambda: len(router.requests) == WINDOW)
    time.sleep(0.3)
    assert len(router.requests) == WINDOW
    router.is_holding = False
    assert sorted(map(int, ids(stream.rest()))) == list(range(2 * WINDOW))


def test_a_client_that_does_not_read_is_not_read(bridge: Bridge, stub: Any, router: AnsweringRouter) -> None:
    options = [
        ("grpc.http2.lookahead_bytes", 65_535),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]

    def request(number: int) -> pb.ModelInferRequest:
        return pb.ModelInferRequest(
            model_name="echo",
            id=str(number),
            inputs=[pb.ModelInferRequest.InferInputTensor(name="INPUT0", datatype="UINT8", shape=[1, 100_000])],
            raw_input_contents=[bytes(100_000)],
        )

    with grpc.insecure_channel(bridge.address, options=options) as channel:
        stream = Open(ready_stub(channel).ModelStreamInfer)
        total = 3 * WINDOW
        stream.send(*(request(number) for number in range(total)))
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            assert len(router.requests) < total
            time.sleep(0.05)
        assert sorted(map(int, ids(stream.rest()))) == list(range(total))


def test_draining_answers_what_was_read_and_ends_the_stream(tmp_path: Path) -> None:
    with (
        AnsweringRouter(tmp_path) as router,
        Bridge("grpc", router.endpoint) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        stream = Open(ready_stub(channel).ModelStreamInfer)
        idle = Open(ready_stub(channel).ModelStreamInfer)
        idle.send(numbered(0))
        idle.receive(1)
        router.is_holding = True
        stream.send(numbered(1))
        router.wait_for(lambda: len(router.requests) == 2)
        began = time.monotonic()
        ended = pool.submit(bridge.end)
        time.sleep(0.3)
        router.is_holding = False
        assert ids(stream.receive(1)) == ["1"]
        for open_stream in (stream, idle):
            with pytest.raises(grpc.RpcError) as caught:
                open_stream.receive(1)
            error: Any = caught.value
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            open_stream.half_close()
        code, log = ended.result()
        assert (code, "Traceback" in log) == (0, False), log
        assert time.monotonic() - began < 2.5
