"""Claims about many requests of one client against a real stack, over every protocol."""

import asyncio
import io
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inferoxy.client import AsyncClient, Client, ConnectionFailed, Detections, InferItem, Item
from inferoxy.errors import InvalidRequest, ModelError, ModelNotFound
from tests.integration.client_models import PROTOCOLS, SAMPLE, colour, serve, url_of
from tests.integration.stack import Stack, wait_until

BRIDGES = {"http": "bridge_rest", "grpc": "bridge_grpc", "zmq": "bridge_zmq"}
WINDOW = 4


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from serve(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=PROTOCOLS)
def url(stack: Stack, request: pytest.FixtureRequest) -> str:
    return url_of(stack, request.param)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


def pictures(count: int, taken: list[int]) -> Iterator[Any]:
    for number in range(count):
        taken.append(number)
        yield colour(number % 256, number // 256, 0)


def red(item: Item) -> int:
    assert item.answer is not None, item.error
    mean: list[float] = item.answer.value["mean"]
    return round(mean[0]) + 256 * round(mean[1])


def test_items_come_in_order_and_sources_are_taken_only_when_there_is_room(client: Client) -> None:
    taken: list[int] = []
    for number, item in enumerate(client.predict_many("mean", pictures(300, taken), window=WINDOW)):
        assert red(item) == number
        assert item.source[0, 0].tolist() == [number % 256, number // 256, 0]  # type: ignore[index]
        assert len(taken) <= number + WINDOW
    assert len(taken) == 300


def test_sources_are_taken_by_the_thread_that_iterates(client: Client) -> None:
    threads: set[int] = set()

    def sources() -> Iterator[Any]:
        for number in range(20):
            threads.add(threading.get_ident())
            yield colour(number, 0, 0)

    assert len(list(client.predict_many("mean", sources()))) == 20
    assert threads == {threading.get_ident()}


def test_a_source_that_fails_leaves_the_others_alone(client: Client, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    sources: list[Any] = [
        colour(1, 0, 0),
        tmp_path / "gone.jpg",
        colour(2, 0, 0),
        tmp_path / "notes.jpg",
        colour(3, 0, 0),
    ]
    items = list(client.predict_many("mean", sources))
    assert [type(item.error) for item in items] == [
        type(None),
        FileNotFoundError,
        type(None),
        InvalidRequest,
        type(None),
    ]
    assert [red(items[at]) for at in (0, 2, 4)] == [1, 2, 3]
    assert [item.source is source for item, source in zip(items, sources, strict=True)] == [True] * 5
    angry = list(client.predict_many("mean", [colour(0, 0, 0)] * 3, anger=5))
    assert [type(item.error) for item in angry] == [ModelError] * 3
    assert {type(item.error) for item in client.predict_many("nobody", [colour(0, 0, 0)] * 3)} == {ModelNotFound}


def test_a_folder_is_sent_whole_with_parameters_and_drawings(client: Client, tmp_path: Path) -> None:
    for name in ("b.jpg", "a/c.jpg", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(SAMPLE.read_bytes())
    items = list(client.predict_many("detector", str(tmp_path), draw="jpeg", confidence=0.5))
    assert [item.source for item in items] == [tmp_path / "a/c.jpg", tmp_path / "b.jpg"]
    for item in items:
        assert isinstance(item.answer, Detections)
        assert item.answer.confidence.min() >= 0.5
        assert item.answer.picture is not None
        assert item.answer.picture.startswith(b"\xff\xd8\xff")
    assert len({item.answer.request_id for item in items if item.answer}) == 2


def test_every_kind_of_source_may_stand_in_one_list(client: Client) -> None:
    pixels = np.asarray(Image.open(SAMPLE))
    data = SAMPLE.read_bytes()
    with SAMPLE.open("rb") as file:
        items = list(
            client.predict_many(
                "detector", [SAMPLE, str(SAMPLE), data, io.BytesIO(data), file, pixels, Image.open(SAMPLE)]
            )
        )
    boxes = [item.answer.boxes for item in items if isinstance(item.answer, Detections)]
    assert len(boxes) == 7
    assert all(np.array_equal(boxes[0], found) for found in boxes[1:5])
    assert all(np.allclose(boxes[0], found, atol=1.0) for found in boxes[5:])  # another decoder


def test_many_tensors_are_inferred_alike(client: Client) -> None:
    good = [{"IN": np.full((1, 4), number, np.float32)} for number in range(30)]
    batches: list[Any] = [*good, {"IN": np.zeros((1, 4))}, [1, 2], {"IN": [[1], [1, 2]]}]
    items = list(client.infer_many("scale", iter(batches), outputs=["SUM"]))
    assert all(isinstance(item, InferItem) for item in items)
    assert [item.answer["SUM"].item() for item in items[:30] if item.answer] == [4 * number for number in range(30)]
    assert [str(item.error)[:40] for item in items[30:]] == [
        "input 'IN': expected datatype FP32, found"[:40],
        "inputs: expected arrays by name, found list"[:40],
        "input 'IN': expected an array, found what"[:40],
    ]


def test_progress_is_told_of_each_item_before_it_is_given(client: Client) -> None:
    told: list[tuple[int, int | None]] = []
    for number, _ in enumerate(
        client.predict_many("mean", [colour(0, 0, 0)] * 5, progress=lambda *it: told.append(it))
    ):
        assert told == [(done, 5) for done in range(1, number + 2)]
    told.clear()
    list(client.predict_many("mean", pictures(3, []), progress=lambda *it: told.append(it)))
    assert told == [(1, None), (2, None), (3, None)]


def test_closing_takes_back_what_has_not_begun(client: Client) -> None:
    client.predict("mean", colour(0, 0, 0))
    with closing(client.predict_many("mean", [colour(0, 0, 0)] * 60, window=40, sleep_s=0.05)) as items:
        next(items)
    began = time.monotonic()
    client.predict("mean", colour(0, 0, 0), timeout_s=10.0)
    assert time.monotonic() - began < 1.2  # all forty would take two seconds


def test_closing_the_client_ends_the_items_with_connection_failed(client: Client) -> None:
    items = client.predict_many("mean", [colour(0, 0, 0)] * 40, sleep_s=0.1)
    next(items)
    client.close()
    with pytest.raises(ConnectionFailed, match="is closed"):
        list(items)
    with pytest.raises(ConnectionFailed, match="is closed"):
        list(client.predict_many("mean", [colour(0, 0, 0)]))


def test_arguments_are_checked_before_anything_is_taken(client: Client) -> None:
    taken: list[int] = []
    for wrong in ({"window": 0}, {"window": 5_000}, {"draw": "gif"}, {"timeout_s": -1.0}):
        with pytest.raises(InvalidRequest, match=f"{next(iter(wrong))}: expected"):
            client.predict_many("mean", pictures(3, taken), **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="sources: expected a folder or an iterable"):
        client.predict_many("mean", SAMPLE)
    assert taken == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_lost_ends_the_items_and_the_client_goes_on_when_it_is_back(
    stack: Stack, protocol: str
) -> None:
    with Client(url_of(stack, protocol)) as client:
        items = client.predict_many("mean", [colour(0, 0, 0)] * 200, sleep_s=0.1)
        for _ in range(12):  # a ZeroMQ client must have heard the server since it sent
            next(items)
        old = stack.kill(BRIDGES[protocol])
        with pytest.raises(ConnectionFailed, match="broke before the answer came"):
            list(items)
        stack.wait_back(BRIDGES[protocol], old)
        wait_until(client.is_ready, 10.0)
        assert [red(item) for item in client.predict_many("mean", pictures(5, []))] == list(range(5))


def test_several_threads_may_each_have_items_of_one_client(client: Client) -> None:
    ends: list[bool] = []

    def work(offset: int) -> None:
        sources = [colour(offset + number, 0, 0) for number in range(30)]
        ends.append([red(item) for item in client.predict_many("mean", sources)] == list(range(offset, offset + 30)))

    threads = [threading.Thread(target=work, args=(40 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert ends == [True] * 6


# AsyncClient


def test_async_items_come_in_order_from_any_kind_of_iterable(url: str) -> None:
    async def camera() -> AsyncIterator[Any]:
        for number in range(60):
            await asyncio.sleep(0.001)
            yield colour(number, 0, 0)

    async def work() -> None:
        async with AsyncClient(url) as client:
            assert [red(item) async for item in client.predict_many("mean", camera())] == list(range(60))
            assert [red(item) async for item in client.predict_many("mean", pictures(60, []))] == list(range(60))
            inputs = ({"IN": np.full((1, 4), number, np.float32)} for number in range(20))
            sums = [item.answer["SUM"].item() async for item in client.infer_many("scale", inputs) if item.answer]
            assert sums == [4 * number for number in range(20)]
            failed = [item async for item in client.predict_many("mean", [b"x", SAMPLE, Path("gone")], draw="png")]
            assert [type(item.error) for item in failed] == [InvalidRequest, type(None), FileNotFoundError]

    asyncio.run(work())


def test_async_items_that_are_closed_cancelled_or_forgotten_are_taken_back(url: str) -> None:
    async def work() -> None:
        async with AsyncClient(url) as client:
            await client.predict("mean", colour(0, 0, 0))
            items = client.predict_many("mean", [colour(0, 0, 0)] * 60, window=40, sleep_s=0.05)
            await anext(items)
            await items.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(items)

            async def consume() -> None:
                async for _ in client.predict_many("mean", [colour(0, 0, 0)] * 60, window=40, sleep_s=0.05):
                    pass

            consumer = asyncio.ensure_future(consume())
            await asyncio.sleep(0.3)
            consumer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consumer
            async for _ in client.predict_many("mean", [colour(0, 0, 0)] * 60, window=40, sleep_s=0.05):
                break
            began = time.monotonic()
            await client.predict("mean", colour(0, 0, 0), timeout_s=10.0)
            assert time.monotonic() - began < 2.0  # what was under way three times would take six seconds

    asyncio.run(work())


def test_two_tasks_cannot_iterate_over_the_same_items(url: str) -> None:
    async def work() -> None:
        async with AsyncClient(url) as client:
            items = client.predict_many("mean", [colour(0, 0, 0)] * 9, sleep_s=0.05)
            first = asyncio.ensure_future(anext(items))
            await asyncio.sleep(0)
            with pytest.raises(InvalidRequest, match="expected one task to iterate"):
                await anext(items)
            assert red(await first) == 0
            await items.aclose()

    asyncio.run(work())


# The bar


SCRIPT = """
import sys
from inferoxy import Client
with Client(sys.argv[1]) as client:
    done = sum(item.error is None for item in client.predict_many("mean", [sys.argv[2]] * 6, progress=True))
print("done", done)
"""


def test_the_bar_is_shown_on_a_terminal_and_nowhere_else(stack: Stack) -> None:
    command = [sys.executable, "-c", SCRIPT, stack.rest_url, str(SAMPLE)]
    plain = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=True)
    assert (plain.stdout, plain.stderr) == ("done 6\n", "")
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    shown = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        timeout=30.0,
        check=True,
        env=environment,
    )
    os.close(theirs)
    text = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert shown.stdout == b"done 6\n"
    assert "mean" in text
    assert "6/6" in text
