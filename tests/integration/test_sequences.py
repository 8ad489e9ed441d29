"""Claims about sequences against a real stack, over every bridge and by the client."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import httpx
import pytest

from inferoxy import AsyncClient, Client, SequenceLost
from inferoxy.client import AsyncSequence, ConnectionFailed
from inferoxy.errors import Code, InferoxyError, InvalidRequest, ModelError, ModelNotFound
from tests.integration.client_models import PROTOCOLS, SAMPLE
from tests.integration.sequence_models import Served, one, red, serve_sequences
from tests.integration.stack import wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve_sequences(tmp_path_factory.mktemp("sequences"))


@pytest.fixture(params=PROTOCOLS)
def url(served: Served, request: pytest.FixtureRequest) -> str:
    return served.url(request.param)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


@pytest.fixture
def zmq_client(served: Served) -> Iterator[Client]:
    with Client(served.url("zmq")) as opened:
        yield opened


def sum_of(result: Any) -> int:
    """The sum in an answer of any of the models."""
    if hasattr(result, "value"):
        return int(result.value["sum"] if "sum" in result.value else result.value["SUM"][0])
    return int(result["SUM"][0])


# Steps and ends


def test_steps_share_a_state_in_order_and_the_model_is_told_of_the_end(client: Client, served: Served) -> None:
    with client.sequence("sums") as sequence:
        assert [sum_of(sequence.infer(one(value))) for value in (1, 2, 3)] == [1, 3, 6]
        assert served.told("sums", sequence.id) == ["start"]
    assert served.told("sums", sequence.id) == ["start", "ended"]


def test_pictures_are_steps_too(client: Client, served: Served) -> None:
    with client.sequence("frames") as sequence:
        assert [sum_of(sequence.predict(red(level))) for level in (10, 20, 30)] == [10, 30, 60]
    assert served.told("frames", sequence.id) == ["start", "ended"]
    with client.sequence("frames", sequence_id=sequence.id) as again:
        assert sum_of(again.predict(red(7))) == 7
    assert served.told("frames", sequence.id) == ["start", "ended"] * 2


def test_a_sequence_that_was_never_used_ends_without_a_word(client: Client, served: Served) -> None:
    with client.sequence("sums") as sequence:
        pass
    assert served.told("sums", sequence.id) == []
    with pytest.raises(InvalidRequest, match="expected it open, found it closed"):
        sequence.infer(one(1))
    sequence.close()


@pytest.mark.parametrize("id", [7, "7", "gate/west 2", 2**64 - 1, "ünï"])
def test_ids_may_be_numbers_or_text(client: Client, served: Served, id: int | str) -> None:
    before = len(served.told("sums", id))
    with client.sequence("sums", sequence_id=id) as sequence:
        assert sum_of(sequence.infer(one(1))) == 1
        assert sum_of(sequence.infer(one(2))) == 3
    assert served.told("sums", id)[before:] == ["start", "ended"]


def test_a_failing_step_leaves_the_state_alone(client: Client) -> None:
    with client.sequence("sums") as sequence:
        sequence.infer(one(1))
        with pytest.raises(ModelError, match="ValueError: not 5"):
            sequence.infer(one(5))
        with pytest.raises(InvalidRequest, match="expected one of IN, found 'OTHER'"):
            sequence.infer({"OTHER": one(1)["IN"]})
        with pytest.raises(OSError, match="nowhere"):
            sequence.predict("/nowhere.jpg")
        assert sum_of(sequence.infer(one(2))) == 3


def test_when_the_first_request_fails_the_next_one_starts(client: Client, served: Served) -> None:
    with client.sequence("sums") as sequence:
        for _ in range(2):
            with pytest.raises(ModelError, match="not 5"):
                sequence.infer(one(5))
        assert sum_of(sequence.infer(one(2))) == 2
    assert served.told("sums", sequence.id) == ["start", "failed"] * 2 + ["start", "ended"]


def test_an_unknown_model_has_no_sequences(client: Client) -> None:
    with client.sequence("nobody") as sequence:
        for _ in range(2):
            with pytest.raises(ModelNotFound, match="nobody"):
                sequence.infer(one(1))


def test_a_step_without_a_sequence_is_refused_and_says_what_is_missing(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="sequence_id"):
        client.infer("sums", one(1))


def test_an_exception_in_the_body_ends_the_sequence_and_is_not_hidden(client: Client, served: Served) -> None:
    def body() -> None:
        with sequence:
            sequence.infer(one(1))
            raise ZeroDivisionError

    sequence = client.sequence("sums")
    with pytest.raises(ZeroDivisionError):
        body()
    served.wait_told("sums", sequence.id, "start", "ended")


def test_a_client_that_is_closed_first_does_not_make_the_end_fail(served: Served, url: str) -> None:
    client = Client(url)
    with client.sequence("sums") as sequence:
        sequence.infer(one(1))
        client.close()
        with pytest.raises(ConnectionFailed, match="is closed"):
            sequence.infer(one(1))


def test_calls_at_the_same_time_are_refused(client: Client) -> None:
    with client.sequence("frames") as sequence, ThreadPoolExecutor(4) as pool:
        sequence.predict(red(0))
        calls = [pool.submit(sequence.predict, red(1)) for _ in range(4)]
        refused = [call.exception() for call in calls if call.exception()]
        assert refused
        assert all(isinstance(exc, InvalidRequest) and "one call at a time" in exc.message for exc in refused)
        assert sum_of(sequence.predict(red(0))) == len(calls) - len(refused)


# The first Inferoxy's functions


def test_init_comes_with_the_first_frame(client: Client) -> None:
    for start in (100, 200):
        with client.sequence("levels") as sequence:
            assert sum_of(sequence.predict(red(1), init={"start": start})) == start + 1
            assert [sum_of(sequence.predict(red(level))) for level in (2, 3)] == [start + 3, start + 6]


def test_all_results_of_one_frame_are_given(client: Client) -> None:
    with client.sequence("levels") as sequence:
        sequence.predict(red(1), init={"start": 0})
        found = sequence.predict_all(red(2), more=2)
        assert [answer.value for answer in found] == [
            {"left": 0, "finished": False}, {"left": 1, "finished": False}, {"sum": 3},
        ]  # fmt: skip
        last = sequence.predict(red(2), more=1)
        assert (sum_of(last), len(last.parts)) == (5, 2)
        assert [sum_of(answer) for answer in sequence.predict_all(red(1))] == [6]


def test_a_request_with_room_for_one_answer_says_so(served: Served) -> None:
    with Client(served.url("http")) as client, client.sequence("levels") as sequence:
        sequence.predict(red(1), init={"start": 0})
        with pytest.raises(InferoxyError, match="answers more than once") as caught:
            sequence.predict_all(red(2), draw="png", more=2)
        assert caught.value.code is Code.UNSUPPORTED


@pytest.mark.parametrize("draw", ["jpeg", "png"])
def test_frames_are_drawn_when_asked(client: Client, draw: Any) -> None:
    with client.sequence("levels") as sequence:
        found = sequence.predict(red(1), draw=draw, init={"start": 0})
        assert sum_of(found) == 1
        assert found.picture is not None
        assert sum_of(sequence.predict(red(1))) == 2


def test_several_results_are_given_outside_sequences_too(served: Served) -> None:
    with httpx.Client(base_url=served.stack.rest_url, trust_env=False) as http:
        flags = {"sequence_id": "4711", "sequence_start": "true", "sequence_end": "true", "more": "2"}
        body = SAMPLE.read_bytes()
        found = http.post("/v1/models/levels/predict", params=flags, content=body, timeout=20.0).json()
    assert [len(prediction) for prediction in found["predictions"]] == [2, 2, 1]


# One after another


def test_map_gives_the_answers_in_order(client: Client, served: Served) -> None:
    levels = [index % 4 for index in range(40)]
    with client.sequence("frames") as sequence:
        found = list(sequence.map(red(level) for level in levels))
        assert [sum_of(answer) for answer in found] == list(accumulate(levels))
        assert sum_of(sequence.predict(red(0))) == sum(levels)
        if "tcp" in repr(client):
            assert max(answer.served.batch_size for answer in found) == 4
        else:
            assert {answer.served.batch_size for answer in found} == {1}
    served.wait_told("frames", sequence.id, "start", "ended")


@pytest.mark.parametrize("window", [1, 2, 16])
def test_answers_do_not_depend_on_the_window(zmq_client: Client, window: int) -> None:
    with zmq_client.sequence("levels") as sequence:
        pictures = (red(level) for level in range(20))
        found = list(sequence.map(pictures, window=window, init={"start": 1000}))  # which is for the first alone
        assert [sum_of(answer) for answer in found] == list(accumulate(range(20), initial=1000))[1:]


def test_answers_that_are_there_do_not_wait_for_a_full_window(zmq_client: Client) -> None:
    taken: list[int] = []

    def camera() -> Iterator[Any]:
        for level in range(12):
            taken.append(level)
            yield red(1)
            time.sleep(0.1)

    with zmq_client.sequence("frames") as sequence:
        sequence.predict(red(0))
        for number, answer in enumerate(sequence.map(camera(), window=8), 1):
            assert sum_of(answer) == number
            assert len(taken) <= number + 4


def test_a_frame_that_fails_is_raised_where_it_stands(client: Client) -> None:
    with client.sequence("frames") as sequence:
        answers = sequence.map([red(1), red(2), red(5), red(3), red(6)])
        assert [sum_of(next(answers)), sum_of(next(answers))] == [1, 3]
        with pytest.raises(ModelError, match="not 5"):
            next(answers)
        with pytest.raises(StopIteration):
            next(answers)
        assert sum_of(sequence.predict(red(0))) in (3, 6, 12)  # those behind it may have been seen


def test_map_that_is_left_early_gives_way(client: Client) -> None:
    with client.sequence("frames") as sequence:
        for answer in sequence.map(red(1) for _ in range(20)):
            assert sum_of(answer) == 1
            break
        assert sum_of(sequence.predict(red(100))) > 100


def test_while_map_is_open_other_calls_are_refused_and_close_ends_it(client: Client, served: Served) -> None:
    with client.sequence("frames") as sequence:
        answers = sequence.map(red(1) for _ in range(20))
        sequence.predict(red(0))  # nothing has been taken of it yet
        next(answers)
        with pytest.raises(InvalidRequest, match="one call at a time, found another under way, or a map"):
            sequence.predict(red(1))
    with pytest.raises(StopIteration):
        next(answers)
    served.wait_told("frames", sequence.id, "start", "ended")


def test_a_source_that_fails_is_not_hidden(client: Client) -> None:
    def broken() -> Iterator[Any]:
        yield red(1)
        raise RuntimeError("the camera is gone")

    with client.sequence("frames") as sequence:
        with pytest.raises(RuntimeError, match="camera"):
            list(sequence.map(broken()))
        sequence.predict(red(1))


@pytest.mark.parametrize("wrong", [{"window": 0}, {"window": 2000}, {"window": 1.5}, {"draw": "gif"}])
def test_map_refuses_what_makes_no_sense_at_once(client: Client, wrong: dict[str, Any]) -> None:
    with client.sequence("frames") as sequence, pytest.raises(InvalidRequest, match=f"{next(iter(wrong))}: expected"):
        sequence.map([], **wrong)


# The same with tasks


async def fails(sequence: AsyncSequence) -> None:
    async with sequence:
        await sequence.infer(one(1))
        raise ZeroDivisionError


def test_async_sequences_behave_alike(served: Served, url: str) -> None:
    async def main() -> None:
        async with AsyncClient(url) as client:
            async with client.sequence("sums") as sequence:
                assert [sum_of(await sequence.infer(one(value))) for value in (1, 2, 3)] == [1, 3, 6]
                with pytest.raises(ModelError, match="not 5"):
                    await sequence.infer(one(5))
            assert served.told("sums", sequence.id) == ["start", "ended"]
            with pytest.raises(InvalidRequest, match="found it closed"):
                await sequence.infer(one(1))
            sequence = client.sequence("sums")
            with pytest.raises(ZeroDivisionError):
                await fails(sequence)
            assert served.told("sums", sequence.id) == ["start", "ended"]
            async with client.sequence("frames") as sequence:
                calls = [asyncio.ensure_future(sequence.predict(red(1))) for _ in range(3)]
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                assert [isinstance(outcome, InvalidRequest) for outcome in outcomes] == [False, True, True]

    asyncio.run(main())


async def camera(levels: list[int]) -> AsyncIterator[Any]:
    for level in levels:
        await asyncio.sleep(0)
        yield red(level)


@pytest.mark.parametrize("is_async", [False, True])
def test_async_map_gives_the_answers_in_order(url: str, is_async: bool) -> None:
    levels = [index % 4 for index in range(24)]

    async def main() -> None:
        async with AsyncClient(url) as client:
            async with client.sequence("levels") as sequence:
                answers = sequence.map([red(1)] * 6, init={"start": 10})
                assert [sum_of(answer) async for answer in answers] == [11, 12, 13, 14, 15, 16]
            await on_frames(client)

    async def on_frames(client: AsyncClient) -> None:
        async with client.sequence("frames") as sequence:
            source: Any = camera(levels) if is_async else [red(level) for level in levels]
            found = [answer async for answer in sequence.map(source)]
            assert [sum_of(answer) for answer in found] == list(accumulate(levels))
            if url.startswith("tcp"):
                assert max(answer.served.batch_size for answer in found) > 1

    asyncio.run(main())


def test_async_map_that_is_left_early_or_fails_gives_way(served: Served, url: str) -> None:
    async def main() -> None:
        async with AsyncClient(url) as client:
            async with client.sequence("frames") as sequence:
                async for answer in sequence.map([red(1)] * 20):
                    assert sum_of(answer) == 1
                    break
                gc.collect()
                assert sum_of(await sequence.predict(red(100))) > 100
                answers = sequence.map([red(5)] * 8)
                with pytest.raises(ModelError, match="not 5"):
                    await anext(answers)
                with pytest.raises(StopAsyncIteration):
                    await anext(answers)
                answers = sequence.map([red(1)] * 8)
                await anext(answers)
                with pytest.raises(InvalidRequest, match="one call at a time"):
                    await sequence.predict(red(1))
            with pytest.raises(StopAsyncIteration):
                await anext(answers)
            assert served.told("frames", sequence.id) == ["start", "ended"]

    asyncio.run(main())


def test_a_task_that_is_cancelled_leaves_a_sequence_that_can_go_on(url: str) -> None:
    async def main() -> None:
        async with AsyncClient(url) as client, client.sequence("frames") as sequence:
            await sequence.predict(red(0))

            async def go_on() -> None:
                async for _ in sequence.map([red(1)] * 100):
                    pass

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(go_on(), 0.3)
            await sequence.predict(red(1))

    asyncio.run(main())


# States never mix


def test_clients_may_use_the_same_id_over_zeromq(served: Served) -> None:
    with Client(served.url("zmq")) as first, Client(served.url("zmq")) as second:
        with first.sequence("sums", sequence_id=77) as mine, second.sequence("sums", sequence_id=77) as other:
            for number in range(1, 30):
                assert sum_of(mine.infer(one(1))) == number
                assert sum_of(other.infer(one(100))) == 100 * number
        assert len(served.told("sums", 77)) == 2


def test_many_sequences_of_many_clients_keep_their_own_states(served: Served) -> None:
    """More than there are places: some wait for their turn."""

    def work(number: int) -> list[int]:
        with Client(served.url(PROTOCOLS[number % 3])) as client, client.sequence("sums") as sequence:
            return [sum_of(sequence.infer(one(number * 1000 + 6 + step))) for step in range(20)]

    with ThreadPoolExecutor(12) as pool:
        for number, found in enumerate(pool.map(work, range(12))):
            assert found == list(accumulate(number * 1000 + 6 + step for step in range(20)))


# Ends that are not the client's


def test_an_idle_sequence_ends_and_the_client_is_told_with_its_next_request(client: Client, served: Served) -> None:
    with client.sequence("fleeting") as sequence:
        assert sum_of(sequence.infer(one(1))) == 1
        served.wait_told("fleeting", sequence.id, "start", "idle")
        with pytest.raises(SequenceLost, match="idle for 1 s"):
            sequence.infer(one(1))
        assert sum_of(sequence.infer(one(2))) == 2
    served.wait_told("fleeting", sequence.id, "start", "idle", "start", "ended")


def test_closing_what_has_ended_by_idleness_is_no_error(client: Client, served: Served) -> None:
    with client.sequence("fleeting") as sequence:
        sequence.infer(one(1))
        served.wait_told("fleeting", sequence.id, "start", "idle")


def test_the_sequences_of_a_client_that_is_killed_end(served: Served) -> None:
    code = f"""
import sys, time
import numpy as np
from inferoxy import Client
client = Client({served.url("zmq")!r})
sequence = client.sequence("sums", sequence_id="killed")
sequence.infer({{"IN": np.array([1], np.int32)}})
print("started", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        assert served.told("sums", "killed") == ["start"]
        time.sleep(1.5)
        assert served.told("sums", "killed") == ["start"]  # who is there and says nothing keeps it
        process.kill()
    began = time.monotonic()
    served.wait_told("sums", "killed", "start", "client_gone")
    assert time.monotonic() - began < 5.0


def test_a_bridge_that_is_killed_loses_its_clients_sequences(served: Served) -> None:
    with Client(served.url("zmq")) as client, client.sequence("sums", sequence_id="bridged") as sequence:
        sequence.infer(one(1))
        old = served.stack.kill("bridge_zmq")
        served.stack.wait_back("bridge_zmq", old)
        wait_until(client.is_ready, 10.0)
        with pytest.raises(InferoxyError):  # the state is gone, or what was sent
            sequence.infer(one(1))
        deadline = time.monotonic() + 20.0
        while True:
            try:
                assert sum_of(sequence.infer(one(7))) == 7
                break
            except (SequenceLost, ConnectionFailed):
                assert time.monotonic() < deadline


def test_a_killed_instance_loses_its_sequences_and_a_new_start_works(client: Client, served: Served) -> None:
    with client.sequence("sums") as sequence:
        assert sum_of(sequence.infer(one(1))) == 1
        os.kill(served.pid("sums"), signal.SIGKILL)
        with pytest.raises(SequenceLost):
            sequence.infer(one(1))
        assert sum_of(sequence.infer(one(2))) == 2
        with pytest.raises(SequenceLost, match="was lost"):
            sequence.infer(one(4))  # it takes the instance with it
        assert sum_of(sequence.infer(one(3))) == 3


def test_frames_under_way_are_lost_with_their_instance_and_map_says_so(zmq_client: Client, served: Served) -> None:
    with zmq_client.sequence("frames") as sequence:
        with pytest.raises(SequenceLost):
            list(sequence.map([red(1), red(2), red(4), *[red(1)] * 20]))
        assert [sum_of(answer) for answer in sequence.map([red(1), red(2)])] == [1, 3]


def test_a_killed_batch_manager_loses_sequences_and_a_new_start_works(client: Client, served: Served) -> None:
    with client.sequence("sums") as sequence:
        sequence.infer(one(1))
        old = served.stack.kill("batch_manager")
        served.stack.wait_back("batch_manager", old)
        with pytest.raises(SequenceLost):
            sequence.infer(one(1))
        assert sum_of(sequence.infer(one(2))) == 2
    served.wait_told("sums", sequence.id, "start", "failed", "start", "ended")


# By hand


def test_a_sequence_is_ended_over_rest_by_deleting_it(served: Served) -> None:
    with httpx.Client(base_url=served.stack.rest_url, trust_env=False, timeout=20.0) as http:
        inputs = [{"name": "IN", "shape": [1], "datatype": "INT32", "data": [3]}]
        parameters = {"sequence_id": "by hand", "sequence_start": True}
        answer = http.post("/v2/models/sums/infer", json={"inputs": inputs, "parameters": parameters})
        assert answer.json()["outputs"][0]["data"] == [3]
        ended = http.delete("/v1/models/sums/sequences/by%20hand")
        assert (ended.status_code, ended.json()) == (
            200, {"model": "sums", "sequence_id": "by hand", "ended": True},
        )  # fmt: skip
        assert served.told("sums", "by hand") == ["start", "ended"]
        again = http.delete("/v1/models/sums/sequences/by%20hand")
        assert (again.status_code, again.json()["code"]) == (400, "SEQUENCE_UNKNOWN")
        never = http.delete("/v1/models/sums/sequences/never")
        assert (never.status_code, never.json()["code"]) == (400, "SEQUENCE_UNKNOWN")


def infer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inferoxy", "infer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)


def test_the_command_sends_the_frames_of_a_sequence_in_order(url: str, tmp_path: Path) -> None:
    files = []
    for number, level in enumerate((1, 2, 5, 3)):
        files.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(files[-1], red(level)[..., ::-1])
    done = infer("frames", *files, "--sequence", "--json", "-", "--url", url)
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    said = [entry.get("code") or entry["prediction"]["SUM"] for entry in entries]
    assert said == [[1], [3], "MODEL_ERROR", "SEQUENCE_LOST"]  # what the model has seen behind a failure is not known
    assert (done.returncode, "not 5" in done.stderr) == (1, True)
    alone = infer("frames", files[0], "--no-sequence", "--url", url)
    assert (alone.returncode, "--no-sequence" in alone.stderr) == (2, True), alone.stderr


def test_a_start_that_finds_no_place_waits_until_its_deadline(served: Served) -> None:
    with Client(served.url("grpc")) as client, client.sequence("levels") as holder:
        holder.predict(red(1), init={"start": 0})
        with client.sequence("levels", timeout_s=0.5) as waiting:
            began = time.monotonic()
            with pytest.raises(InferoxyError) as caught:
                waiting.predict(red(1))
            assert caught.value.code is Code.DEADLINE_EXCEEDED
            assert 0.4 < time.monotonic() - began < 2.0
        done: list[int] = []
        with client.sequence("levels") as patient:
            thread = threading.Thread(target=lambda: done.append(sum_of(patient.predict(red(2), init={"start": 40}))))
            thread.start()
            time.sleep(0.3)
            assert not done
            assert sum_of(holder.predict(red(1))) == 2
            holder.close()
            thread.join(10.0)
            assert done == [42]
