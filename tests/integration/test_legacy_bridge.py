"""The bridge of the first Inferoxy's ZeroMQ clients and its route, with a batch manager that can hold its answers."""

import asyncio
import json
import pickle
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import zmq

from bridges.legacy import calls, server
from bridges.link import Link
from inferoxy import messages as m
from inferoxy import sockets
from inferoxy.config import Settings, complete
from tests.integration.answering_router import PICTURE, AnsweringRouter, view
from tests.integration.bridge_process import Bridge, free_port
from tests.integration.stack import wait_until

IMAGE = np.zeros((2, 4, 3), np.uint8)
MODELS = [view("echo", PICTURE), view("other", PICTURE), view("steps", PICTURE, stateless=False)]
WAIT_S = 10.0


@pytest.fixture
def router(tmp_path: Path) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path, MODELS) as running:
        yield running
        running.is_holding = False


class User:
    """A client; its socket is the test's own."""

    def __init__(self, context: zmq.Context[Any], settings: Settings, source: str) -> None:
        self.source = source
        self.push = context.socket(zmq.PUSH)
        self.push.connect(settings.legacy_requests)
        self.dealer = context.socket(zmq.DEALER)
        self.dealer.set(zmq.IDENTITY, source.encode())
        self.dealer.set(zmq.RCVTIMEO, int(WAIT_S * 1e3))
        self.dealer.connect(settings.legacy_results)

    def send(self, model: str, count: int = 1, **parameters: Any) -> None:
        for index in range(count):
            sent = {"data": IMAGE, "parameters": {"index": index, **parameters}}
            self.push.send(pickle.dumps({"source_id": self.source, "model": model, "inputs": [sent]}))

    async def receive(self) -> dict[str, Any]:
        answer = pickle.loads(await asyncio.to_thread(self.dealer.recv))
        (output,) = answer["outputs"]
        found: dict[str, Any] = output
        return found


@asynccontextmanager
async def serving(router: AnsweringRouter, folder: Path) -> AsyncIterator[tuple[server.LegacyServer, Link, User]]:
    """The bridge in this process, and a client of it that is connected."""
    context = sockets.context()
    endpoints = {name: f"tcp://127.0.0.1:{free_port()}" for name in ("legacy_requests", "legacy_results")}
    settings = complete(Settings(data_dir=folder, frontend=router.endpoint, **endpoints))
    link = Link(context, router.endpoint, "legacy")
    running = await server.listen(settings, link, context)
    user = User(context, settings, "user")
    try:
        await settle(lambda: link.is_ready)
        user.send("echo")
        await user.receive()
        router.requests.clear()
        yield running, link, user
    finally:
        link.close()
        await running.close()
        context.destroy(linger=0)


def settle(condition: Any) -> Any:
    return asyncio.to_thread(wait_until, condition, WAIT_S)


def test_so_many_of_a_model_are_under_way_and_the_rest_is_held(router: AnsweringRouter, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(router, tmp_path) as (_, _, user):
            router.is_holding = True
            user.send("echo", 200)
            user.send("other", 3)
            await settle(lambda: len(router.requests) == calls.UNDER_WAY + 3)
            await asyncio.sleep(0.2)
            assert len(router.requests) == calls.UNDER_WAY + 3
            router.is_holding = False
            found = [await user.receive() for _ in range(203)]
            assert {output["error"] for output in found} == {None}
            assert len([output for output in found if output["parameters"]["index"] >= 3]) == 197

    asyncio.run(run())


def test_what_is_held_is_bounded(router: AnsweringRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "HELD_AT_MOST", 10)

    async def run() -> None:
        async with serving(router, tmp_path) as (_, _, user):
            router.is_holding = True
            user.send("echo", calls.UNDER_WAY + 15)
            refused = [await user.receive() for _ in range(5)]
            assert all(output["error"].startswith("[QUEUE_FULL]: expected at most 10 inputs") for output in refused)
            router.is_holding = False
            served = [await user.receive() for _ in range(calls.UNDER_WAY + 10)]
            assert {output["error"] for output in served} == {None}

    asyncio.run(run())


def test_the_end_of_the_server_waits_for_what_is_open_and_refuses_the_rest(
    router: AnsweringRouter, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serving(router, tmp_path) as (running, _, user):
            router.is_holding = True
            user.send("echo", 3)
            await settle(lambda: len(router.requests) == 3)
            draining = asyncio.ensure_future(running.drain(WAIT_S))
            await asyncio.sleep(0.05)
            user.send("echo", late=True)
            refused = await user.receive()
            assert refused["error"] == "[E001]: the server is ending: try again"
            assert refused["parameters"]["late"] is True
            assert not draining.done()
            router.is_holding = False
            await asyncio.wait_for(draining, WAIT_S)
            assert [(await user.receive())["error"] for _ in range(3)] == [None] * 3

    asyncio.run(run())


def test_the_first_frame_of_a_source_asks_alone(router: AnsweringRouter, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(router, tmp_path) as (_, _, user):
            router.is_holding = True
            user.send("steps", 3)
            await settle(lambda: router.requests)
            await asyncio.sleep(0.1)
            assert [request.sequence for request in router.requests] == [m.Sequence("user")]
            router.is_holding = False
            found = [await user.receive() for _ in range(3)]
            assert [output["parameters"]["index"] for output in found] == [0, 1, 2]
            assert [request.sequence for request in router.requests] == [m.Sequence("user")] * 3

    asyncio.run(run())


def test_a_client_that_does_not_read_loses_answers_beyond_a_bound(
    router: AnsweringRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "UNREAD_LIMIT_BYTES", 1_000_000)
    picture = np.zeros((100, 100, 3), np.uint8)  # answered by lists of about 70 kB

    async def run() -> None:
        async with serving(router, tmp_path) as (running, link, user):
            deaf = user.push.context.socket(zmq.DEALER)
            deaf.set(zmq.IDENTITY, b"deaf")
            deaf.set(zmq.RCVHWM, 1)
            deaf.set(zmq.RCVBUF, 4_096)
            deaf.connect(user.dealer.get(zmq.LAST_ENDPOINT).decode())
            for index in range(300):
                sent = {"data": picture, "parameters": {"index": index}}
                user.push.send(pickle.dumps({"source_id": "deaf", "model": "echo", "inputs": [sent]}))
            await settle(lambda: len(router.requests) == 300)
            await settle(lambda: link.open_requests == 0)
            user.send("echo")
            assert (await user.receive())["error"] is None
            assert running._unread.bytes_of(b"deaf") < 2_000_000
            received = 0
            while deaf.poll(500):
                deaf.recv()
                received += 1
            assert 0 < received < 300

    asyncio.run(run())


def test_inputs_of_a_client_that_has_gone_are_cancelled(router: AnsweringRouter) -> None:
    with Bridge("rest", router.endpoint) as bridge:
        url = f"http://{bridge.address}"
        wait_until(lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200, WAIT_S)
        sent = {"data": IMAGE.ravel().tolist(), "shape": [2, 4, 3], "parameters": {}}
        body = json.dumps({"source_id": "s", "model": "echo", "inputs": [sent] * 2})
        router.is_holding = True
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/infer", content=body, timeout=1.0, trust_env=False)
        router.wait_for(lambda: len(router.cancelled) == 2)
        router.is_holding = False
        assert httpx.post(f"{url}/infer", content=body, timeout=WAIT_S, trust_env=False).status_code == 200
