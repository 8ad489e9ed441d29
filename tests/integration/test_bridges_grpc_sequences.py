"""inferoxy.v1 streams of stateful models against a real stack: what becomes of their sequences."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

import grpc
import httpx
import pytest

from protos import inferoxy_v1_pb2 as pb
from protos import inferoxy_v1_pb2_grpc
from tests.integration.sequence_models import Served, red, serve_sequences
from tests.integration.test_bridges_grpc_streams import Open, ready_stub

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve_sequences(tmp_path_factory.mktemp("sequences"))


@pytest.fixture(scope="module")
def stub(served: Served) -> Iterator[Any]:
    with grpc.insecure_channel(served.stack.grpc_address) as channel:
        ready_stub(channel)
        yield inferoxy_v1_pb2_grpc.InferoxyStub(channel)  # type: ignore[no-untyped-call]


def picture(level: int) -> pb.Picture:
    pixels = red(level)
    return pb.Picture(raw=pb.RawPicture(height=pixels.shape[0], width=pixels.shape[1], rgb=pixels.tobytes()))


def begin(name: str, model: str = "frames", **more: Any) -> pb.StreamRequest:
    return pb.StreamRequest(start=pb.StreamStart(model=model, sequence=name, **more))


def frame(level: int, **more: Any) -> pb.StreamRequest:
    return pb.StreamRequest(frame=pb.Frame(picture=picture(level), **more))


def said(responses: list[Any]) -> list[Any]:
    """Each answer's prediction, or the code in its place."""
    return [r.error.code or json.loads(r.answer.prediction_json) for r in responses]


def test_frames_share_a_state_in_order_and_batches(stub: Any, served: Served) -> None:
    levels = [index % 4 for index in range(40)]
    found = list(stub.Stream(iter([begin("in order"), *(frame(level) for level in levels)])))
    assert said(found) == [{"SUM": [total]} for total in accumulate(levels)]
    assert max(response.answer.served.batch_size for response in found) == 4
    assert served.told("frames", "in order") == ["start", "ended"]


def test_a_sequence_of_tensors_is_ended_without_a_picture(stub: Any, served: Served) -> None:
    asked = {
        "inputs": [{"name": "IN", "shape": [1], "datatype": "INT32", "data": [2]}],
        "parameters": {"sequence_id": "by stub", "sequence_start": True},
    }
    assert httpx.post(f"{served.stack.rest_url}/v2/models/sums/infer", json=asked, timeout=30.0).is_success
    stub.Predict(pb.PredictRequest(model="sums", sequence=pb.Sequence(name="by stub", end=True)))
    assert served.told("sums", "by stub") == ["start", "ended"]


def test_streams_of_one_name_are_sequences_of_their_own(stub: Any, served: Served) -> None:
    def film(_: int) -> list[Any]:
        return said(list(stub.Stream(iter([begin("same"), *(frame(1) for _ in range(10))]))))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(film, range(4))) == [[{"SUM": [n]} for n in range(1, 11)]] * 4
    told = [note.split()[0] for note in served.notes("frames") if "same" in note]
    assert (told.count("start"), told.count("ended"), len(told)) == (4, 4, 8)


def test_a_cancelled_stream_ends_its_sequence(stub: Any, served: Served) -> None:
    stream = Open(stub.Stream)
    stream.send(begin("left alone"), frame(1))
    assert said(stream.receive(1)) == [{"SUM": [1]}]
    stream.call.cancel()
    served.wait_told("frames", "left alone", "start", "client_gone")
    stream.half_close()


def test_a_frame_that_fails_leaves_the_state_alone(stub: Any, served: Served) -> None:
    found = list(stub.Stream(iter([begin("angry"), frame(1), frame(5), frame(2)])))
    assert said(found) == [{"SUM": [1]}, "MODEL_ERROR", {"SUM": [3]}]
    assert "ValueError: not 5" in found[1].error.message
    assert served.told("frames", "angry") == ["start", "ended"]


def test_when_the_first_frame_fails_the_next_one_starts(stub: Any, served: Served) -> None:
    found = list(stub.Stream(iter([begin("slow start"), frame(5), frame(5), frame(2), frame(1)])))
    assert said(found) == ["MODEL_ERROR", "MODEL_ERROR", {"SUM": [2]}, {"SUM": [3]}]
    assert served.told("frames", "slow start") == ["start", "failed"] * 2 + ["start", "ended"]


def test_a_lost_state_is_told_to_the_frames_it_befalls_and_the_next_one_begins_anew(stub: Any, served: Served) -> None:
    stream = Open(stub.Stream)
    stream.send(begin("lost"), frame(1), frame(4), frame(1), frame(1))
    assert said(stream.receive(4)) == [{"SUM": [1]}, *["SEQUENCE_LOST"] * 3]
    stream.send(frame(2), frame(3))
    assert said(stream.rest()) == [{"SUM": [2]}, {"SUM": [5]}]
    served.wait_told("frames", "lost", "start", "start", "ended")


def test_a_sequence_that_was_idle_for_too_long_begins_anew(stub: Any, served: Served) -> None:
    stream = Open(stub.Stream)
    stream.send(begin("idle", "fleeting"))
    stream.half_close()
    assert list(stream.call) == []
    stream = Open(stub.Stream)
    stream.send(begin("idle", "levels"), frame(1, parameters_json='{"init": {"start": 100}}'), frame(2))
    assert said(stream.receive(2)) == [{"sum": 101}, {"sum": 103}]
    assert stream.rest() == []


def test_all_results_of_a_frame_are_given_in_turn(stub: Any) -> None:
    frames = [frame(1, parameters_json='{"init": {"start": 0}}'), frame(2, parameters_json='{"more": 2}'), frame(1)]
    found = list(stub.Stream(iter([begin("several", "levels", draw=pb.DRAW_PNG), *frames])))
    assert [(r.frame, r.last) for r in found] == [(0, True), (1, False), (1, False), (1, True), (2, True)]
    assert said(found)[1:4] == [{"left": 0, "finished": False}, {"left": 1, "finished": False}, {"sum": 3}]
    assert found[4].answer.drawn.startswith(b"\x89PNG")


def test_the_state_is_lost_with_the_batch_manager_and_the_stream_goes_on(stub: Any, served: Served) -> None:
    stream = Open(stub.Stream)
    stream.send(begin("restarted", timeout={"seconds": 20}), frame(1))
    assert said(stream.receive(1)) == [{"SUM": [1]}]
    pid = served.stack.kill("batch_manager")
    served.stack.wait_back("batch_manager", pid)
    stream.send(frame(2))
    assert said(stream.receive(1))[0] in ("SEQUENCE_LOST", "SEQUENCE_UNKNOWN")
    stream.send(frame(3))
    assert said(stream.rest()) == [{"SUM": [3]}]


def test_a_hundred_streams_at_once_each_get_their_own_answers(stub: Any) -> None:
    barrier = threading.Barrier(100)

    def film(number: int) -> list[Any]:
        barrier.wait()
        frames = [frame(0, number=number * 1_000 + at) for at in range(3)]
        found = list(stub.Stream(iter([begin(f"many {number}", timeout={"seconds": 60}), *frames])))
        assert [response.frame for response in found] == [number * 1_000 + at for at in range(3)]
        return said(found)

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(film, range(100))) == [[{"SUM": [0]}] * 3] * 100
