"""The batch manager as a process of its own, spoken to over its real sockets."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.config import Settings, load
from inferoxy.errors import Code

WAIT_MS = 10_000


class Peers:
    """A bridge, an instance, a task manager and a model manager around one broker process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.context = sockets.context()
        self.registry = sockets.router(self.context, settings.registry)
        self.bridge = sockets.dealer(self.context, settings.frontend, b"rest-test")
        self.instance = sockets.dealer(self.context, settings.backend, b"i1")
        self.unread: dict[Any, list[Any]] = {}  # what came in one message with what was expected
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        code = (
            "import sys; from pathlib import Path; from inferoxy.config import load;"
            "from batch_manager.broker import run;"
            f"sys.exit(run(load(data_dir=Path({str(self.settings.data_dir)!r}), drain_s=2)))"
        )
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stderr=subprocess.DEVNULL)
        self.give_catalog()
        return process

    def give_catalog(self) -> None:
        while True:
            peer, *parts = self.recv(self.registry)
            if any(isinstance(header, m.Subscribe) for header, _ in wire.decode(parts)):
                break
        models = [m.ModelSpec(name="m", address="image", batch_size=4)]
        sockets.send(self.registry, [peer, *wire.encode(m.Catalog(revision="1", models=models))])

    def recv(self, sock: "zmq.Socket[bytes]") -> list[Any]:
        assert sock.poll(WAIT_MS), "nothing came"
        parts = sockets.recv(sock)
        assert parts is not None
        return parts

    def expect(self, sock: "zmq.Socket[bytes]", kind: type[m.Header]) -> tuple[Any, list[Any]]:
        """The next message of a kind; others are passed over."""
        end = time.monotonic() + WAIT_MS / 1e3
        unread = self.unread.setdefault(sock, [])
        while time.monotonic() < end:
            while unread:
                item, own = unread.pop(0)
                if isinstance(item, kind):
                    return item, list(own)
            for header, frames in wire.decode(self.recv(sock)):
                unread += wire.each(header, frames)
        pytest.fail(f"no {kind.__name__} came")

    def join(self) -> None:
        token = wire.instance_token(self.settings.secret, "i1", "m", "1")
        hello = m.Hello(instance="i1", model="m", model_version="1", batch_size=4, token=token)
        sockets.send(self.instance, wire.encode(hello))
        self.expect(self.instance, m.Welcome)

    def request(self, number: int, body: bytes) -> None:
        sockets.send(self.bridge, wire.encode(m.Request(id=number, model="m", size=len(body)), [body]))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.context.destroy(linger=0)


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(load(data_dir=tmp_path))
    yield made
    made.close()


def answer(peers: Peers) -> m.Batch:
    batch, frames = peers.expect(peers.instance, m.Batch)
    items = [m.ResultItem(item.ticket, 1) for item in batch.items]
    sockets.send(peers.instance, wire.encode(m.Result(batch=batch.id, items=items), [bytes(f)[::-1] for f in frames]))
    return batch


def test_a_request_goes_to_the_instance_and_its_answer_comes_back(peers: Peers) -> None:
    peers.join()
    peers.request(1, b"abc")
    answer(peers)
    response, frames = peers.expect(peers.bridge, m.Response)
    assert (response.id, response.code, [bytes(f) for f in frames]) == (1, "", [b"cba"])


def test_inline_bytes_and_places_of_joined_requests_pass_through(peers: Peers) -> None:
    peers.join()
    places = wire.encode_payload(m.Places([m.Slot("s", 0, 8)], m.Slot("r", 8, 16)))
    requests = [m.Request(id=1, model="m", request_id="a", data=b"abc", places=places), m.Request(id=2, model="m")]
    requests[1].frames = 1
    sockets.send(peers.bridge, wire.encode_joined(m.Requests, requests, [b"frame"]))
    batch, frames = peers.expect(peers.instance, m.Batch)
    first, second = batch.items
    assert (first.data, first.places, first.request_id, first.frames) == (b"abc", places, "a", 0)
    assert (second.data, second.frames, [bytes(f) for f in frames]) == (b"", 1, [b"frame"])
    answers = [m.ResultItem(first.ticket, data=b"cba", places=places), m.ResultItem(second.ticket, 1)]
    sockets.send(peers.instance, wire.encode(m.Result(batch=batch.id, items=answers), [b"emarf"]))
    response, frames = peers.expect(peers.bridge, m.Response)
    assert (response.id, response.data, response.places, frames) == (1, b"cba", places, [])
    response, frames = peers.expect(peers.bridge, m.Response)
    assert (response.id, response.data, [bytes(f) for f in frames]) == (2, b"", [b"emarf"])


def test_large_tensors_pass_through_unchanged(peers: Peers) -> None:
    peers.join()
    body = os.urandom(3 << 20)
    peers.request(1, body)
    answer(peers)
    _, frames = peers.expect(peers.bridge, m.Response)
    assert bytes(sockets.buffer(frames[0])) == body[::-1]


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"\xc1garbage"],
        [b"\x93\x07\x01\x00"],
        [b"\x93\x01\x63\x00"],
        [b"\x93\x01\x01\x09"],
        wire.encode(m.Welcome()),
        wire.encode(m.Requests(items=[m.Request(id=1, model="m", frames=2)]), [b"one"]),
        wire.encode_joined(m.Responses, [m.Response(id=1)], []),
        [os.urandom(2000)],
    ],
)
def test_a_malformed_message_is_answered_and_disturbs_nobody(peers: Peers, parts: list[bytes]) -> None:
    peers.join()
    sockets.send(peers.bridge, parts)
    refusal, _ = peers.expect(peers.bridge, m.Response)
    assert refusal.code == Code.INVALID_REQUEST
    assert refusal.error
    peers.request(2, b"fine")
    answer(peers)
    response, _ = peers.expect(peers.bridge, m.Response)
    assert (response.id, response.code) == (2, "")


def test_garbage_from_an_instance_disturbs_nobody(peers: Peers) -> None:
    peers.join()
    sockets.send(peers.instance, [b"\xff", b"\x00"])
    sockets.send(peers.instance, wire.encode(m.Result(batch=12345, items=[m.ResultItem(0, 0)])))
    peers.request(1, b"fine")
    answer(peers)
    response, _ = peers.expect(peers.bridge, m.Response)
    assert response.code == ""


def test_an_instance_whose_process_is_gone_is_noticed_before_its_silence(peers: Peers) -> None:
    peers.join()
    peers.request(1, b"abc")
    peers.expect(peers.instance, m.Batch)
    peers.instance.close(0)
    began = time.monotonic()
    peers.instance = sockets.dealer(peers.context, peers.settings.backend, b"i2")
    token = wire.instance_token(peers.settings.secret, "i2", "m", "1")
    sockets.send(peers.instance, wire.encode(m.Hello(instance="i2", model="m", model_version="1", token=token)))
    batch = answer(peers)
    assert len(batch.items) == 1
    response, _ = peers.expect(peers.bridge, m.Response)
    assert response.code == ""
    assert time.monotonic() - began < 3.0


def test_sigterm_finishes_what_the_instance_holds(peers: Peers) -> None:
    peers.join()
    peers.request(1, b"abc")
    batch, frames = peers.expect(peers.instance, m.Batch)
    peers.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert peers.process.poll() is None
    sockets.send(peers.instance, wire.encode(m.Result(batch=batch.id, items=[m.ResultItem(0, 1)]), frames))
    response, _ = peers.expect(peers.bridge, m.Response)
    assert (response.id, response.code) == (1, "")
    assert peers.process.wait(5) == 0
    assert not list(peers.settings.run_dir.glob("front*"))


def test_a_killed_batch_manager_comes_back_with_another_epoch_and_asks_the_instance_who_it_is(peers: Peers) -> None:
    peers.join()
    sockets.send(peers.bridge, wire.encode(m.Ping()))
    first, _ = peers.expect(peers.bridge, m.Pong)
    peers.process.kill()
    peers.process.wait()
    peers.process = peers.start()
    sockets.send(peers.instance, wire.encode(m.Heartbeat()))
    peers.expect(peers.instance, m.Who)
    peers.join()
    sockets.send(peers.bridge, wire.encode(m.Ping()))
    second, _ = peers.expect(peers.bridge, m.Pong)
    assert second.epoch != first.epoch
    peers.request(7, b"abc")
    answer(peers)
    response, _ = peers.expect(peers.bridge, m.Response)
    assert response.id == 7
