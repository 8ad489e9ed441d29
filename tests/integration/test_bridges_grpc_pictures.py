"""inferoxy.v1.Inferoxy over real sockets, asked by generated stubs, with the batch manager's side played by a test."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from inferoxy import messages as m
from inferoxy import wire
from protos import inferoxy_v1_pb2 as pb
from protos import inferoxy_v1_pb2_grpc
from tests.integration.answering_router import AnsweringRouter
from tests.integration.bridge_process import Bridge
from tests.integration.test_bridges_grpc import refused
from tests.integration.test_bridges_grpc_streams import Open, bridge_without_complaints, ready_stub
from tests.unit.pictures import bomb, encoded

JPEG = encoded("JPEG", 64, 48)
PICTURE = pb.Picture(encoded=JPEG)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path_factory.mktemp("grpc")) as router:
        yield router


@pytest.fixture(scope="module")
def bridge(router: AnsweringRouter) -> Iterator[Bridge]:
    bridge = Bridge("grpc", router.endpoint, limits={"body_mib": 1.0}, log_level="warning")
    with bridge_without_complaints(bridge):
        yield bridge


@pytest.fixture(autouse=True)
def fresh(router: AnsweringRouter) -> Iterator[None]:
    router.is_holding = False
    router.requests.clear()
    router.cancelled.clear()
    router.gone.clear()
    yield
    router.is_holding = False


@pytest.fixture(scope="module")
def channel(bridge: Bridge) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(bridge.address) as channel:
        ready_stub(channel)
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return stub_of(channel)


def stub_of(channel: grpc.Channel) -> Any:
    return inferoxy_v1_pb2_grpc.InferoxyStub(channel)  # type: ignore[no-untyped-call]


def asked(model: str = "detector", **more: Any) -> pb.PredictRequest:
    return pb.PredictRequest(model=model, **{"picture": PICTURE, **more})


def begin(model: str = "detector", **more: Any) -> pb.StreamRequest:
    return pb.StreamRequest(start=pb.StreamStart(model=model, **more))


def frame(picture: pb.Picture = PICTURE, **more: Any) -> pb.StreamRequest:
    return pb.StreamRequest(frame=pb.Frame(picture=picture, **more))


def parameters_of(request: m.Request) -> dict[str, Any]:
    return wire.decode_payload(request.payload).parameters


# Predict


def test_a_picture_is_answered_with_detections_and_the_whole_prediction(stub: Any) -> None:
    answer, call = stub.Predict.with_call(asked(request_id="mine"))
    assert (answer.request_id, answer.model, answer.version) == ("mine", "detector", "1")
    assert (answer.image.width, answer.image.height) == (64, 48)
    (box,) = answer.detections
    assert (box.x1, box.y1, box.x2, box.y2, box.class_id, box.class_name) == (0, 0, 64, 48, 3, "square")
    assert not box.HasField("track_id")
    assert json.loads(answer.prediction_json)["boxes"] == [[0, 0, 64, 48]]
    assert (answer.served.queue_ms, answer.served.compute_ms, answer.served.decode_ms) == (1.5, 2.5, 0.5)
    assert (answer.served.batch_size, answer.served.closed, answer.served.instance) == (4, "full", "instance-1")
    assert (answer.drawn, len(answer.earlier)) == (b"", 0)
    assert dict(call.trailing_metadata())["x-request-id"] == "mine"


def test_pixels_are_a_picture_too(stub: Any, router: AnsweringRouter) -> None:
    raw = pb.RawPicture(height=2, width=3, rgb=bytes(18))
    answer = stub.Predict(asked(picture=pb.Picture(raw=raw)))
    assert (answer.image.width, answer.image.height) == (3, 2)
    tensor = wire.decode_payload(router.requests[0].payload).tensors[0]
    assert (tensor.datatype, tensor.shape, tensor.encoding) == ("UINT8", (2, 3, 3), "")


@pytest.mark.parametrize(("draw", "encoding"), [(pb.DRAW_JPEG, "jpeg"), (pb.DRAW_PNG, "png")])
def test_the_drawn_picture_comes_as_asked_for(stub: Any, router: AnsweringRouter, draw: Any, encoding: str) -> None:
    assert stub.Predict(asked(draw=draw)).drawn == JPEG
    assert wire.decode_payload(router.requests[0].payload).picture == encoding


def test_parameters_keep_their_types(stub: Any, router: AnsweringRouter) -> None:
    request = asked(parameters_json='{"seed": 9007199254740993, "text": "over"}')
    request.parameters.update({"whole": 2, "half": 0.5, "text": "under", "on": True, "none": None, "list": [1, [2.5]]})
    request.parameters.update({"inner": {"a": 1}})
    answer = stub.Predict(request)
    expected = {
        "whole": 2, "half": 0.5, "text": "over", "on": True, "none": None, "list": [1, [2.5]], "inner": {"a": 1},
        "seed": 2**53 + 1,
    }  # fmt: skip
    assert parameters_of(router.requests[0]) == expected
    assert json.loads(answer.prediction_json)["parameters"] == expected


def test_how_to_serve_a_request_reaches_the_batch_manager(stub: Any, router: AnsweringRouter) -> None:
    stub.Predict(asked("echo", version="2", priority=-7, timeout=Duration(seconds=1, nanos=500_000_000)))
    stub.Predict(asked("tally", sequence=pb.Sequence(number=2**64 - 1, start=True)), timeout=3.0)
    stub.Predict(asked("tally", sequence=pb.Sequence(name="cam", end=True)))
    first, second, third = router.requests
    assert (first.model_version, first.priority, first.timeout_us) == ("2", -7, 1_500_000)
    assert second.sequence == m.Sequence(2**64 - 1, True)
    assert 1_000_000 < second.timeout_us < 3_100_000
    assert third.sequence == m.Sequence("cam", end=True)


def test_a_request_without_a_picture_only_ends_its_sequence(stub: Any, router: AnsweringRouter) -> None:
    answer = stub.Predict(pb.PredictRequest(model="tally", sequence=pb.Sequence(name="cam", end=True)))
    assert (answer.model, answer.prediction_json, answer.HasField("image")) == ("tally", "", False)
    assert wire.decode_payload(router.requests[0].payload).tensors == []


def test_all_answers_of_a_model_that_answers_several_times_are_given(stub: Any) -> None:
    answer = stub.Predict(asked("frames"))
    told = [json.loads(each.prediction_json) for each in (*answer.earlier, answer)]
    assert told == [{"frame": 0}, {"frame": 1}, {"frame": 2}]


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        (pb.PredictRequest(model="detector"), INVALID, "picture: expected encoded or raw, found neither"),
        (asked(picture=pb.Picture()), INVALID, "picture: expected encoded or raw, found neither"),
        (asked(picture=pb.Picture(encoded=b"")), INVALID, "found none"),
        (asked(picture=pb.Picture(encoded=b"GIF89a")), INVALID, "JPEG, PNG or WebP"),
        (asked(picture=pb.Picture(encoded=bomb())), grpc.StatusCode.RESOURCE_EXHAUSTED, "60000x60000"),
        (asked(picture=pb.Picture(raw=pb.RawPicture(height=2, width=2, rgb=b"1"))), INVALID, "expected 12 bytes"),
        (asked(picture=pb.Picture(raw=pb.RawPicture(width=2))), INVALID, "at least 1 pixel"),
        (asked(draw=9), INVALID, "draw: expected DRAW_NONE, DRAW_JPEG, DRAW_PNG, found 9"),
        (asked(parameters_json="[1]"), INVALID, "parameters_json: expected a JSON object"),
        (asked(parameters_json="{"), INVALID, "parameters_json: expected a JSON object"),
        (asked(parameters_json='{"a": 1e999}'), INVALID, "parameters_json: expected a JSON object"),
        (asked(timeout=Duration(seconds=-1)), INVALID, "timeout: expected above 0"),
        (asked(timeout=Duration(seconds=86_401)), INVALID, "at most 24 hours"),
        (asked(priority=2_000_000), INVALID, "priority: expected"),
        (asked(sequence=pb.Sequence(start=True)), INVALID, "sequence: expected a number"),
        (asked(sequence=pb.Sequence(name="x" * 300)), INVALID, "sequence_id: expected 1..256"),
        (asked("echo"), INVALID, "takes tensors (INPUT0 FP32"),
        (asked("none"), grpc.StatusCode.NOT_FOUND, "'none' is not found"),
        (asked(version="9"), grpc.StatusCode.NOT_FOUND, "version '9'"),
        (asked("broken"), grpc.StatusCode.INTERNAL, "the model says no"),
        (asked("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, "its queue is full"),
        (asked("silent"), grpc.StatusCode.DEADLINE_EXCEEDED, ""),
    ],
)  # fmt: skip
def test_failures_say_what_is_wrong(stub: Any, request_: Any, status: grpc.StatusCode, text: str) -> None:
    request_.request_id = "mine"
    code, details, metadata = refused(stub.Predict, request_)
    assert (code, text in details, metadata["x-request-id"]) == (status, True, "mine"), details
    assert metadata["x-inferoxy-code"]


def test_a_cancelled_call_leaves_the_queue(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    call = stub.Predict.future(asked())
    router.wait_for(lambda: router.requests)
    call.cancel()
    router.wait_for(lambda: router.requests[-1].id in router.cancelled)


def test_models_are_listed_and_shown(stub: Any) -> None:
    listed = {(model.name, model.version): model for model in stub.ListModels(pb.ListModelsRequest()).models}
    assert {("echo", "1"), ("echo", "2"), ("cold", "1")} <= set(listed)
    echo = stub.GetModel(pb.GetModelRequest(name="echo"))
    assert echo == listed["echo", "1"]
    assert (list(echo.versions), echo.default, echo.ready, echo.stateless) == (["1", "2"], True, True, True)
    assert [(t.name, t.datatype, list(t.shape)) for t in echo.inputs] == [("INPUT0", "FP32", [-1, 16])]
    assert (listed["starting", "1"].state, listed["starting", "1"].ready) == ("starting", False)
    assert listed["frames", "1"].decoupled
    assert "secret" not in str(listed)
    assert refused(stub.GetModel, pb.GetModelRequest(name="none"))[0] is grpc.StatusCode.NOT_FOUND


# Stream


def numbers(responses: list[Any]) -> list[int]:
    return [response.frame for response in responses]


def outcomes(responses: list[Any]) -> list[str]:
    return [response.WhichOneof("outcome") for response in responses]


def test_frames_are_numbered_and_answered_in_order(stub: Any) -> None:
    frames = [frame(), frame(), frame(number=10), frame(), *(frame() for _ in range(100))]
    found = list(stub.Stream(iter([begin(request_id="film", draw=pb.DRAW_JPEG), *frames])))
    assert numbers(found) == [0, 1, *range(10, 112)]
    assert set(outcomes(found)) == {"answer"}
    assert all(response.last and response.answer.drawn == JPEG for response in found)
    assert [found[at].answer.request_id for at in (0, 2, 103)] == ["film/0", "film/2", "film/103"]
    assert len(found[0].answer.detections) == 1


def test_frames_of_a_stateless_model_run_at_the_same_time_within_the_window(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    for window, expected in ((0, 8), (3, 3)):
        router.requests.clear()
        stream = Open(stub.Stream)
        stream.send(begin(window=window), *(frame() for _ in range(20)))
        router.wait_for(lambda expected=expected: len(router.requests) == expected)  # type: ignore[misc]
        time.sleep(0.2)
        assert len(router.requests) == expected
        router.is_holding = False
        assert numbers(stream.rest()) == list(range(20))
        assert not router.requests[-1].sequence
        router.is_holding = True


def test_the_starts_parameters_hold_for_all_frames_and_a_frames_own_go_over_them(
    stub: Any, router: AnsweringRouter
) -> None:
    start, own = begin(parameters_json='{"b": 2}', priority=5, timeout=Duration(seconds=2), version="1"), frame()
    start.start.parameters.update({"a": 1})
    own.frame.parameters.update({"a": 7})
    list(stub.Stream(iter([start, frame(), own, frame(parameters_json='{"c": 3}')])))
    assert [parameters_of(request) for request in router.requests] == [
        {"a": 1, "b": 2}, {"a": 7, "b": 2}, {"a": 1, "b": 2, "c": 3},
    ]  # fmt: skip
    assert {(r.priority, r.timeout_us, r.model_version) for r in router.requests} == {(5, 2_000_000, "1")}


def test_a_frame_that_fails_is_told_in_its_place_and_the_stream_goes_on(stub: Any) -> None:
    large = pb.Picture(encoded=JPEG + bytes(2**20))
    frames = [frame(), frame(pb.Picture(encoded=b"no")), frame(large, number=9), frame(pb.Picture()), frame()]
    found = list(stub.Stream(iter([begin(request_id="film"), *frames])))
    assert numbers(found) == [0, 1, 9, 10, 11]
    assert outcomes(found) == ["answer", "error", "error", "error", "answer"]
    bad, too_large, none = (response.error for response in found[1:4])
    assert (bad.code, bad.status, bad.request_id) == ("INVALID_REQUEST", 3, "film/1")
    assert "JPEG, PNG or WebP" in bad.message
    assert (too_large.code, too_large.status, "limits.body_mib" in too_large.message) == ("PAYLOAD_TOO_LARGE", 8, True)
    assert "found neither" in none.message


@pytest.mark.parametrize(("model", "code"), [("broken", "MODEL_ERROR"), ("full", "QUEUE_FULL")])
def test_what_the_model_says_no_to_is_told_per_frame(stub: Any, model: str, code: str) -> None:
    found = list(stub.Stream(iter([begin(model), frame(), frame()])))
    assert [response.error.code for response in found] == [code, code]


def test_a_model_may_answer_a_frame_several_times(stub: Any) -> None:
    found = list(stub.Stream(iter([begin("frames"), frame(), frame()])))
    assert numbers(found) == [0] * 4 + [1] * 4
    assert [response.last for response in found] == [False, False, False, True] * 2
    assert outcomes(found) == ["answer", "answer", "answer", None] * 2
    assert [json.loads(response.answer.prediction_json) for response in found[:3]] == [{"frame": n} for n in range(3)]


def test_order_any_answers_as_frames_are_ready(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    stream = Open(stub.Stream)
    stream.send(begin(order=pb.ORDER_ANY), frame(), frame(pb.Picture(encoded=b"no")))
    assert numbers(stream.receive(1)) == [1]
    router.is_holding = False
    assert numbers(stream.rest()) == [0]


def test_drop_oldest_keeps_the_newest_frame_and_tells_of_the_others(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    stream = Open(stub.Stream)
    stream.send(begin(window=2, drop=pb.DROP_OLDEST), frame(), frame())
    router.wait_for(lambda: len(router.requests) == 2)
    stream.send(*(frame(parameters_json=f'{{"n": {n}}}') for n in range(2, 50)))
    stream.half_close()
    time.sleep(0.5)
    router.is_holding = False
    found = list(stream.call)
    assert numbers(found) == list(range(50))
    assert outcomes(found) == ["answer"] * 2 + ["dropped"] * 47 + ["answer"]
    assert parameters_of(router.requests[-1]) == {"n": 49}
    assert len(router.requests) == 3


def test_dropped_frames_beyond_number_are_not_read_while_none_is_answered(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    stream = Open(stub.Stream)
    tiny = frame(pb.Picture(raw=pb.RawPicture(height=1, width=1, rgb=b"rgb")))
    stream.send(begin(drop=pb.DROP_OLDEST), *(tiny for _ in range(10_000)))
    time.sleep(2.0)
    router.is_holding = False
    assert numbers(stream.rest()) == list(range(10_000))


def test_a_stateful_models_stream_is_one_sequence(stub: Any, router: AnsweringRouter) -> None:
    found = list(stub.Stream(iter([begin("tally", sequence="cam"), *(frame() for _ in range(5))])))
    assert numbers(found) == list(range(5))
    steps = [request.sequence for request in router.requests]
    assert [(step.id, step.start, step.end) for step in steps if step] == [
        ("cam", True, False), *[("cam", False, False)] * 4, ("cam", False, True),
    ]  # fmt: skip
    clients = {step.client for step in steps if step}
    assert len(clients) == 1
    assert clients != {""}
    assert router.gone == []


def test_two_streams_never_share_a_sequence(stub: Any, router: AnsweringRouter) -> None:
    streams = [Open(stub.Stream) for _ in range(2)]
    for stream in streams:
        stream.send(begin("tally", sequence="cam"), frame())
        stream.receive(1)
    for stream in streams:
        stream.rest()
    assert len({request.sequence.client for request in router.requests if request.sequence}) == 2


def test_the_start_is_answered_before_the_next_frame_is_sent(stub: Any, router: AnsweringRouter) -> None:
    router.is_holding = True
    stream = Open(stub.Stream)
    stream.send(begin("tally"), *(frame() for _ in range(5)))
    router.wait_for(lambda: router.requests)
    time.sleep(0.2)
    assert len(router.requests) == 1
    router.is_holding = False
    assert numbers(stream.rest()) == list(range(5))


@pytest.mark.parametrize("how", ["cancel", "vanish", "deadline"])
def test_a_cancelled_stream_ends_its_sequence_as_one_whose_client_is_gone(
    bridge: Bridge, router: AnsweringRouter, how: str
) -> None:
    router.is_holding = True
    with grpc.insecure_channel(bridge.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stream = Open(stub_of(channel).Stream, timeout=0.7 if how == "deadline" else None)
        stream.send(begin("tally"), frame(), frame())
        router.wait_for(lambda: router.requests)
        if how == "cancel":
            stream.call.cancel()
        elif how == "deadline":
            with pytest.raises(grpc.RpcError):
                stream.receive(1)
    sequence = router.requests[0].sequence
    assert sequence is not None
    router.wait_for(lambda: router.gone == [sequence.client])
    router.wait_for(lambda: router.requests[0].id in router.cancelled)
    stream.half_close()


@pytest.mark.parametrize(
    ("messages", "status", "text"),
    [
        ([frame()], INVALID, "expected a start as the first message, found frame"),
        ([pb.StreamRequest()], INVALID, "found neither start nor frame"),
        ([begin(), begin()], INVALID, "expected a frame behind the start, found start"),
        ([begin("none")], grpc.StatusCode.NOT_FOUND, "'none' is not found"),
        ([begin("echo")], INVALID, "takes tensors"),
        ([begin(window=257)], INVALID, "window: expected 1..256, found 257"),
        ([begin(drop=7)], INVALID, "drop: expected DROP_NONE, DROP_OLDEST, found 7"),
        ([begin(order=7)], INVALID, "order: expected ORDER_FRAMES, ORDER_ANY, found 7"),
        ([begin(draw=7)], INVALID, "draw: expected"),
        ([begin(sequence="x" * 257)], INVALID, "sequence: expected at most 256"),
        ([begin(parameters_json="1")], INVALID, "parameters_json: expected"),
    ],
)  # fmt: skip
def test_a_stream_that_begins_wrongly_fails_and_says_why(
    stub: Any, messages: list[Any], status: grpc.StatusCode, text: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Stream(iter(messages)))
    error: Any = caught.value
    assert (error.code(), text in error.details()) == (status, True), error.details()
    assert dict(error.trailing_metadata())["x-inferoxy-code"]


def test_frames_before_a_malformed_message_are_answered(channel: grpc.Channel) -> None:
    raw = channel.stream_stream("/inferoxy.v1.Inferoxy/Stream")
    call = raw(iter([begin().SerializeToString(), frame().SerializeToString(), b"\xff\xff"]))
    assert pb.StreamResponse.FromString(next(call)).answer.model == "detector"
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    error: Any = caught.value
    assert (error.code(), "inferoxy.v1.StreamRequest" in error.details()) == (INVALID, True)


def test_a_stream_without_a_message_is_nothing(stub: Any) -> None:
    assert list(stub.Stream(iter([]))) == []
    assert list(stub.Stream(iter([begin("tally")]))) == []


def test_draining_ends_a_stream_and_its_sequence(tmp_path: Path) -> None:
    with (
        AnsweringRouter(tmp_path) as router,
        Bridge("grpc", router.endpoint) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        ready_stub(channel)
        stream = Open(stub_of(channel).Stream)
        stream.send(begin("tally"), frame())
        stream.receive(1)
        ended = pool.submit(bridge.end)
        with pytest.raises(grpc.RpcError) as caught:
            stream.receive(1)
        error: Any = caught.value
        assert (error.code(), "ending" in error.details()) == (grpc.StatusCode.UNAVAILABLE, True)
        stream.half_close()
        code, log = ended.result()
        assert (code, "Traceback" in log) == (0, False), log
        assert [request.sequence.end for request in router.requests if request.sequence] == [False, True]
