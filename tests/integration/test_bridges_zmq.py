"""The ZeroMQ bridge over real sockets, spoken to in the frames of protos/wire.md."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.client import Client as OurClient
from inferoxy.client import ConnectionFailed
from tests.integration.answering_router import AnsweringRouter, quiet_socket
from tests.integration.bridge_process import Bridge
from tests.unit.pictures import bomb, encoded

JPEG = encoded("JPEG", 64, 48)
ROW = bytes(64)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path_factory.mktemp("zmq")) as router:
        yield router


@pytest.fixture(scope="module")
def bridge(router: AnsweringRouter) -> Iterator[Bridge]:
    with Bridge("zmq", router.endpoint, limits={"body_mib": 1.0}, log_level="warning") as bridge:
        yield bridge


@pytest.fixture(autouse=True)
def fresh(router: AnsweringRouter) -> None:
    router.is_dropping = router.is_holding = False
    router.requests.clear()
    router.cancelled.clear()
    router.gone.clear()


class Client:
    """A DEALER that sends frames and gives headers."""

    def __init__(self, bridge: Bridge) -> None:
        self._context = sockets.context()
        self.sock = quiet_socket(self._context, f"tcp://{bridge.address}")
        self._waiting: list[tuple[Any, list[bytes]]] = []

    def close(self) -> None:
        self._context.destroy(linger=0)

    def send(self, *frames: bytes) -> None:
        assert sockets.send(self.sock, frames)

    def recv(self) -> tuple[Any, list[bytes]]:
        while not self._waiting:
            self._waiting += [(h, list(f)) for h, f in wire.decode(self.sock.recv_multipart())]
        return self._waiting.pop(0)

    def ask(self, number: int, model: str, *tensors: tuple[m.Tensor, bytes], **more: Any) -> None:
        self.send(*envelope(number, model, *tensors, **more))


@pytest.fixture
def client(bridge: Bridge) -> Iterator[Client]:
    client = Client(bridge)
    client.send(*wire.encode(m.Ping()))
    while isinstance(client.recv()[0], m.Pong) and not client._waiting:  # Models follow once they are known
        time.sleep(0.02)
        client.send(*wire.encode(m.Ping()))
    client._waiting.clear()
    yield client
    client.close()


def envelope(number: int, model: str, *tensors: tuple[m.Tensor, bytes], **more: Any) -> list[bytes]:
    payload = m.Payload([t for t, _ in tensors], **{k: more.pop(k) for k in ("form", "picture") if k in more})
    header = m.Request(id=number, model=model, payload=wire.encode_payload(payload), **more)
    return wire.encode(header, [data for _, data in tensors])


def clients_of(router: AnsweringRouter) -> list[str]:
    """Who sent the steps of sequences, each once, in order."""
    return list({sent.sequence.client: None for sent in router.requests if sent.sequence})


ROW_TENSOR = (m.Tensor("INPUT0", "FP32", (1, 16)), ROW)
PICTURE = (m.Tensor("", "UINT8", (), encoding="jpeg"), JPEG)


def test_tensors_come_back_with_how_they_were_served(client: Client) -> None:
    client.ask(1, "echo", ROW_TENSOR)
    response, frames = client.recv()
    assert (response.id, response.code, response.final, frames) == (1, "", True, [ROW])
    assert wire.decode_result(response.payload).tensors == [m.Tensor("OUTPUT0", "FP32", (1, 16))]
    assert (response.served.batch_size, response.served.version) == (4, "1")


def test_encoded_picture_gets_its_shape_and_stays_encoded(client: Client, router: AnsweringRouter) -> None:
    client.ask(2, "detector", PICTURE, form="prediction", picture="png")
    response, frames = client.recv()
    result = wire.decode_result(response.payload)
    assert result.prediction["boxes"] == [[0, 0, 64, 48]]
    assert (result.tensors[0].name, result.tensors[0].encoding, frames) == ("picture", "png", [JPEG])
    assert router.requests[0].key == ":UINT8:P48,64,3"


def test_many_requests_in_one_message_are_answered_each(client: Client) -> None:
    frames: list[bytes] = []
    for number in range(1, 301):
        frames += envelope(number, "echo", (ROW_TENSOR[0], number.to_bytes(64, "little")))
    client.send(*frames)
    answers = {response.id: found[0] for response, found in (client.recv() for _ in range(300))}
    assert answers == {number: number.to_bytes(64, "little") for number in range(1, 301)}


def test_clients_may_use_the_same_ids(bridge: Bridge, client: Client) -> None:
    other = Client(bridge)
    try:
        client.ask(7, "echo", (ROW_TENSOR[0], b"a" * 64))
        other.ask(7, "echo", (ROW_TENSOR[0], b"b" * 64))
        assert (client.recv()[1], other.recv()[1]) == ([b"a" * 64], [b"b" * 64])
    finally:
        other.close()


def test_several_answers_end_with_a_final_one(client: Client) -> None:
    client.ask(3, "frames", PICTURE, form="prediction")
    answers = [client.recv()[0] for _ in range(4)]
    assert [(a.id, a.final) for a in answers] == [(3, False), (3, False), (3, False), (3, True)]
    assert answers[-1].payload == m.NO_PAYLOAD


@pytest.mark.parametrize(
    ("model", "tensor", "code"),
    [
        ("none", ROW_TENSOR, "MODEL_NOT_FOUND"),
        ("broken", ROW_TENSOR, "MODEL_ERROR"),
        ("full", ROW_TENSOR, "QUEUE_FULL"),
        ("silent", ROW_TENSOR, "DEADLINE_EXCEEDED"),
        ("echo", (m.Tensor("INPUT0", "FP32", (1, 17)), ROW), "INVALID_REQUEST"),
        ("echo", (m.Tensor("INPUT0", "FP32", (1, 16), 64), ROW), "INVALID_REQUEST"),
        ("detector", (m.Tensor("", "UINT8", (), encoding="jpeg"), b"no picture"), "INVALID_REQUEST"),
        ("detector", (m.Tensor("", "UINT8", (), encoding="png"), bomb()), "PAYLOAD_TOO_LARGE"),
        ("echo", (m.Tensor("INPUT0", "UINT8", (2**20 + 1,)), bytes(2**20 + 1)), "PAYLOAD_TOO_LARGE"),
    ],
)
def test_failures_are_answered_under_the_requests_id(
    client: Client, model: str, tensor: tuple[m.Tensor, bytes], code: str
) -> None:
    client.ask(5, model, tensor)
    response, frames = client.recv()
    assert (response.id, response.code, response.final, frames) == (5, code, True, [])
    assert response.error


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([b""], "header"),
        ([b"rubbish"], "header"),
        ([b"\x93\x02\x01\x00"], "expected protocol version 1, found 2"),
        ([b"\xdc\x00\x03\x02\x01\x00"], "expected protocol version 1, found 2"),
        ([b"\x93\x01\x7f\x00"], "kind 127"),
        ([b"\x93\x01\x13\x00"], "expected REQUEST, CANCEL or PING, found RESULT"),
        (wire.encode_joined(m.Requests, [], []), "expected REQUEST, CANCEL or PING, found REQUESTS"),
        (wire.encode_joined(m.Responses, [], []), "expected REQUEST, CANCEL or PING, found RESPONSES"),
        ([b"\x94\x01\x04\x05\x00", b""], "expected 5 tensor frames"),
        ([b"\x96\x01\x01\x00\x00\xa4echo\x91\x90"], "id: expected 1"),
        ([b"\x96\x01\x01\x00\xff\xa4echo\x91\x90"], "id: expected 1"),
        ([b"\x96\x01\x01\x00\xa1x\xa4echo\x91\x90"], "id: expected int, found str"),
    ],
)
def test_what_cannot_be_read_is_answered_with_id_0(client: Client, frames: list[bytes], why: str) -> None:
    client.send(*frames)
    response, _ = client.recv()
    assert (response.version, response.id, response.code) == (1, 0, "INVALID_REQUEST")
    assert why in response.error
    client.ask(6, "echo", ROW_TENSOR)
    assert client.recv()[0].id == 6


def test_payload_that_cannot_be_read_is_answered_under_its_id(client: Client) -> None:
    client.send(b"\x96\x01\x01\x00\x09\xa4echo\xa1x")
    response, _ = client.recv()
    assert (response.id, response.code) == (9, "INVALID_REQUEST")


def test_requests_before_a_broken_one_in_the_same_message_are_served(client: Client) -> None:
    client.send(*envelope(11, "echo", ROW_TENSOR), b"rubbish")
    assert {client.recv()[0].id for _ in range(2)} == {11, 0}


def test_repeated_request_is_run_once(client: Client, router: AnsweringRouter) -> None:
    router.is_holding = True
    client.ask(12, "echo", ROW_TENSOR)
    client.ask(12, "echo", ROW_TENSOR)
    router.wait_for(lambda: router.requests)
    router.is_holding = False
    assert client.recv()[0].id == 12
    client.send(*wire.encode(m.Ping()))
    assert isinstance(client.recv()[0], m.Pong)
    assert len(router.requests) == 1


def test_cancelled_request_is_answered_and_cancelled_behind_the_bridge(client: Client, router: AnsweringRouter) -> None:
    router.is_holding = True
    client.ask(13, "echo", ROW_TENSOR)
    router.wait_for(lambda: router.requests)
    client.send(*wire.encode(m.Cancel(ids=[13, 14])))
    response, _ = client.recv()
    assert (response.id, response.code) == (13, "CANCELLED")
    router.wait_for(lambda: router.cancelled == [router.requests[0].id])


def test_ping_is_answered_and_tells_what_is_registered_once(client: Client) -> None:
    client.send(*wire.encode(m.Ping()))
    pong, models = client.recv()[0], client.recv()[0]
    assert isinstance(pong, m.Pong)
    assert models.complete
    assert {v.spec.name for v in models.models} >= {"echo", "detector"}
    assert b"a secret of the model" not in msgspec.msgpack.encode(models)
    client.send(*wire.encode(m.Ping(revision=models.revision)), *wire.encode(m.Ping(revision=models.revision)))
    assert [client.recv()[0] for _ in range(2)] == [pong, pong]


def test_client_that_vanished_gives_up_what_it_had(bridge: Bridge, client: Client, router: AnsweringRouter) -> None:
    gone = Client(bridge)
    router.is_holding = True
    gone.ask(1, "echo", ROW_TENSOR)
    gone.ask(2, "silent", ROW_TENSOR, timeout_us=30_000_000)
    router.wait_for(lambda: len(router.requests) == 2)
    gone.close()
    time.sleep(0.2)
    router.is_holding = False  # the answer to 1 finds nobody, so nobody waits for 2 either
    router.wait_for(lambda: router.cancelled == [router.requests[1].id])
    client.ask(3, "echo", ROW_TENSOR)
    assert client.recv()[0].id == 3


def test_a_bare_end_has_no_tensors_and_a_sequence_its_client(client: Client, router: AnsweringRouter) -> None:
    client.ask(1, "tally", ROW_TENSOR, sequence=m.Sequence("cam", True, client="a lie"))
    client.ask(2, "tally", sequence=m.Sequence("cam", end=True))
    answers = {response.id: (response, frames) for response, frames in (client.recv() for _ in range(2))}
    response, frames = answers[2]
    assert (response.code, response.final, frames) == ("", True, [])
    assert wire.decode_result(response.payload) == m.ResultPayload([])
    start, end = (sent.sequence for sent in router.requests)
    assert start is not None
    assert start == m.Sequence("cam", True, client=start.client)
    assert end == m.Sequence("cam", end=True, client=start.client)
    bridge_name, _, own = start.client.partition(":")
    assert bridge_name.startswith("zmq-")
    assert bytes.fromhex(own)


def test_clients_that_use_the_same_sequence_id_are_told_apart(
    bridge: Bridge, client: Client, router: AnsweringRouter
) -> None:
    other = Client(bridge)
    try:
        for asker in (client, other):
            asker.ask(1, "tally", ROW_TENSOR, sequence=m.Sequence(5, True, True))
            assert asker.recv()[0].code == ""
    finally:
        other.close()
    assert len(clients_of(router)) == 2


def test_a_sequence_is_not_continued_on_another_connection(
    bridge: Bridge, client: Client, router: AnsweringRouter
) -> None:
    other = Client(bridge)
    try:
        other.ask(1, "tally", ROW_TENSOR, sequence=m.Sequence(5, True))
        assert other.recv()[0].code == ""
        for step in (m.Sequence(5), m.Sequence(5, end=True)):
            client.ask(1, "tally", ROW_TENSOR, sequence=step)
            response, _ = client.recv()
            assert (response.code, "was not started on this connection" in response.error) == ("SEQUENCE_UNKNOWN", True)
        assert len(router.requests) == 1
        client.ask(2, "echo", ROW_TENSOR, sequence=m.Sequence(5))
        assert client.recv()[0].code == ""  # a stateless model has no sequences to be lost
    finally:
        other.close()


@pytest.mark.parametrize(
    ("model", "step"), [("tally", None), ("tally", m.Sequence(5)), ("echo", m.Sequence(5, end=True))]
)
def test_request_without_tensors_that_ends_nothing_is_refused(
    client: Client, router: AnsweringRouter, model: str, step: m.Sequence | None
) -> None:
    client.ask(1, model, sequence=step)
    response, _ = client.recv()
    assert (response.id, response.code) == (1, "INVALID_REQUEST")
    assert "inputs: expected at least one, found none" in response.error
    assert not router.requests


def test_a_client_that_holds_a_sequence_hears_a_pong_a_second(client: Client) -> None:
    client.ask(1, "tally", ROW_TENSOR, sequence=m.Sequence(5, True))
    assert client.recv()[0].id == 1
    heard = [(client.recv()[0], time.monotonic()) for _ in range(3)]
    assert [type(header) for header, _ in heard] == [m.Pong] * 3
    assert 0.9 < heard[2][1] - heard[1][1] < 1.6
    client.ask(2, "tally", sequence=m.Sequence(5, end=True))
    assert client.recv()[0].id == 2
    client.sock.set(zmq.RCVTIMEO, 1_500)
    with pytest.raises(zmq.Again):
        client.recv()


def test_the_sequences_of_a_client_that_vanished_end(bridge: Bridge, client: Client, router: AnsweringRouter) -> None:
    gone = Client(bridge)
    client.ask(1, "tally", ROW_TENSOR, sequence=m.Sequence(5, True))
    router.wait_for(lambda: router.requests)
    gone.ask(1, "tally", ROW_TENSOR, sequence=m.Sequence(5, True))
    gone.ask(2, "counter", ROW_TENSOR, sequence=m.Sequence(6, True), timeout_us=30_000_000)
    router.wait_for(lambda: len(router.requests) == 3)
    stays, leaves = clients_of(router)
    gone.close()
    router.wait_for(lambda: leaves in router.gone)
    assert stays not in router.gone
    assert router.cancelled == [router.requests[2].id]
    assert client.recv()[0].id == 1  # who is still there was not disturbed
    assert isinstance(client.recv()[0], m.Pong)


def test_a_client_that_was_stopped_is_noticed(bridge: Bridge, router: AnsweringRouter) -> None:
    code = f"""
import zmq, time
from inferoxy import messages as m, wire
sock = zmq.Context().socket(zmq.DEALER)
sock.connect("tcp://{bridge.address}")
payload = wire.encode_payload(m.Payload([m.Tensor("INPUT0", "UINT8", (1,))]))
sock.send_multipart(wire.encode(m.Request(id=1, model="tally", payload=payload, sequence=m.Sequence(5, True)), [b"x"]))
sock.recv_multipart()
print("started", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            (stopped,) = clients_of(router)
            process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            router.wait_for(lambda: stopped in router.gone, 20.0)
            assert 5.0 < time.monotonic() - began < 15.0
        finally:
            process.kill()


def test_what_the_bridge_fills_in_is_not_taken_from_clients(client: Client, router: AnsweringRouter) -> None:
    places = wire.encode_payload(m.Places([m.Slot("s", 0, 64)], m.Slot("r", 0, 64)))
    lies: dict[str, Any] = {"rows": 1_000, "key": "lie", "size": 1, "flags": 3, "data": b"lie", "places": places}
    client.ask(1, "echo", ROW_TENSOR, priority=3, trace="t", **lies)
    _, frames = client.recv()
    assert frames == [ROW]
    (sent,) = router.requests
    assert (sent.rows, sent.key, sent.size, sent.priority, sent.trace) == (1, "INPUT0:FP32:16", 64, 3, "t")
    assert (sent.flags, sent.data, sent.places) == (0, ROW, m.NO_PAYLOAD)
    assert sent.request_id


def test_equal_requests_are_answered_each_with_its_own_bytes(client: Client, router: AnsweringRouter) -> None:
    large = (m.Tensor("INPUT1", "UINT8", (100_000,)), bytes(100_000))
    for number in range(1, 4):
        row = bytes([number]) * 64
        client.ask(number, "echo", (ROW_TENSOR[0], row), large, (m.Tensor("INPUT2", "UINT8", (1,)), b"!"))
        response, frames = client.recv()
        assert (response.id, frames) == (number, [row, large[1], b"!"])
        assert all(tensor.inline is None for tensor in wire.decode_result(response.payload).tensors)
    assert len({bytes(sent.payload) for sent in router.requests}) == 1
    assert len({sent.request_id for sent in router.requests}) == 3


def test_the_clients_own_request_id_goes_on(client: Client, router: AnsweringRouter) -> None:
    for name in ("frame-1", "frame-2"):
        client.ask(1, "echo", ROW_TENSOR, request_id=name)
        assert client.recv()[1] == [ROW]
    assert [sent.request_id for sent in router.requests] == ["frame-1", "frame-2"]
    assert len({bytes(sent.payload) for sent in router.requests}) == 1


def test_tensors_without_elements_have_empty_frames(client: Client) -> None:
    none = (m.Tensor("INPUT0", "FP32", (0, 16)), b"")
    for tensors in ([none], [none, ROW_TENSOR]):
        client.ask(1, "echo", *tensors)
        response, frames = client.recv()
        assert (response.code, frames) == ("", [data for _, data in tensors])
        assert [t.inline for t in wire.decode_result(response.payload).tensors] == [None] * len(tensors)


def test_restarted_batch_manager_is_not_noticed_by_clients(client: Client, router: AnsweringRouter) -> None:
    router.is_dropping = True
    client.ask(1, "echo", ROW_TENSOR)
    router.wait_for(lambda: router.requests)
    router.is_dropping = False
    router.forget()
    assert client.recv()[0].code == ""


def test_sigterm_answers_what_is_in_flight_refuses_the_rest_and_exits_0(tmp_path: Path) -> None:
    with AnsweringRouter(tmp_path) as router, Bridge("zmq", router.endpoint) as bridge:
        client = Client(bridge)
        try:
            router.is_holding = True
            client.ask(1, "echo", ROW_TENSOR)
            router.wait_for(lambda: router.requests)
            bridge.process.terminate()
            time.sleep(0.3)
            client.ask(2, "echo", ROW_TENSOR)
            refusal, _ = client.recv()
            assert (refusal.id, refusal.code) == (2, "MODEL_UNAVAILABLE")
            router.is_holding = False
            assert client.recv()[0].id == 1
            assert bridge.process.wait(5.0) == 0
        finally:
            client.close()


def test_unix_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "zmq.sock"
    with AnsweringRouter(tmp_path) as router, Bridge("zmq", router.endpoint, zmq=f"ipc://{file}"):
        assert file.is_socket()
    assert not file.exists()


def test_taken_address_is_one_clear_line_and_exit_code_3(router: AnsweringRouter, bridge: Bridge) -> None:
    second = Bridge("zmq", router.endpoint, port=bridge.port)
    code, log = second.end()
    assert code == 3
    assert f"cannot listen on tcp://{bridge.address}: Address already in use" in log
    assert "Traceback" not in log


def test_frame_far_over_the_limit_ends_the_connection_only(bridge: Bridge, client: Client) -> None:
    large = Client(bridge)
    try:
        large.sock.set(zmq.RCVTIMEO, 500)
        large.ask(1, "echo", (m.Tensor("INPUT0", "UINT8", (5 * 2**20,)), bytes(5 * 2**20)))
        with pytest.raises(zmq.Again):
            large.recv()
    finally:
        large.close()
    client.ask(2, "echo", ROW_TENSOR)
    assert client.recv()[0].id == 2


def memory_mib(process: "subprocess.Popen[bytes]") -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) / 1024


def unread_client(bridge: Bridge) -> Client:
    """One whose socket takes in no more than a few answers until it is read."""
    client = Client(bridge)
    client.sock.close(0)
    client.sock = client._context.socket(zmq.DEALER)
    client.sock.set(zmq.RCVHWM, 2)
    client.sock.set(zmq.SNDHWM, 0)
    client.sock.set(zmq.RCVTIMEO, 5_000)
    client.sock.connect(f"tcp://{bridge.address}")
    return client


def test_a_client_that_does_not_read_takes_bounded_memory_and_disturbs_nobody(
    bridge: Bridge, client: Client, router: AnsweringRouter
) -> None:
    large = (m.Tensor("INPUT0", "UINT8", (900_000,)), bytes(900_000))
    count, slow, before = 1_200, unread_client(bridge), memory_mib(bridge.process)
    try:
        slow.send(*wire.encode(m.Ping()))
        epoch = slow.recv()[0].epoch
        slow._waiting.clear()
        for number in range(1, count + 1):
            slow.ask(number, "echo", large)
            if number % 100 == 0:
                began = time.monotonic()
                client.ask(number, "echo", ROW_TENSOR)
                assert client.recv()[0].code == ""
                assert time.monotonic() - began < 2.0
        router.wait_for(lambda: memory_mib(bridge.process) - before > 50)
        time.sleep(0.5)
        assert memory_mib(bridge.process) - before < 500  # of the 1030 MiB that were asked for
        codes: list[str] = []
        while slow._waiting or slow.sock.poll(2_000):
            header, _ = slow.recv()
            codes.append(header.code)
            if header.code:
                assert "answers: expected at most 67108864 bytes that are not read yet, found" in header.error
        assert set(codes) == {"", "QUEUE_FULL"}
        slow.send(*wire.encode(m.Ping()))
        assert (slow.recv()[0].epoch == epoch) == (len(codes) == count)  # all were answered, or it is told
        slow._waiting.clear()
        slow.ask(1, "echo", large)
        assert slow.recv()[0].code == ""  # it has read all, and may ask again
    finally:
        slow.close()


def test_a_client_that_loses_answers_is_told_by_another_epoch(
    bridge: Bridge, client: Client, router: AnsweringRouter
) -> None:
    large = (m.Tensor("INPUT0", "UINT8", (1_000_000,)), bytes(1_000_000))
    count, slow = 400, unread_client(bridge)
    try:
        slow.send(*wire.encode(m.Ping()))
        epoch = slow.recv()[0].epoch
        slow._waiting.clear()
        client.send(*wire.encode(m.Ping()))
        undisturbed = client.recv()[0].epoch
        client._waiting.clear()
        slow.ask(count + 1, "tally", ROW_TENSOR, sequence=m.Sequence("cam", True))
        assert slow.recv()[0].code == ""
        name = clients_of(router)[0]
        router.is_holding = True
        for number in range(1, count + 1):
            slow.ask(number, "echo", large)
        slow.ask(count + 2, "silent", ROW_TENSOR, timeout_us=60_000_000)
        router.wait_for(lambda: len(router.requests) == count + 2, 20.0)
        router.is_holding = False
        router.wait_for(lambda: name in router.gone, 20.0)
        assert router.requests[-1].id in router.cancelled
        answered = 0
        while slow._waiting or slow.sock.poll(1_000):
            header, _ = slow.recv()
            answered += isinstance(header, m.Response) and header.code == ""
        assert 200 < answered < count
        slow.send(*wire.encode(m.Ping()))
        assert slow.recv()[0].epoch != epoch
        slow._waiting.clear()
        client.send(*wire.encode(m.Ping()))
        assert client.recv()[0].epoch == undisturbed
        slow.ask(1, "echo", large)
        while not isinstance((last := slow.recv()[0]), m.Response):
            pass
        assert last.code == ""
    finally:
        slow.close()


class Relay:
    """A TCP relay in a thread, whose connections can be cut."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def cut(self) -> None:
        """End all connections; new ones may come."""
        ends, self._ends = self._ends, []
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._ends += [near, far]
            for source, target in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._copy, args=(source, target)))
                self._threads[-1].start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        source.close()


def test_a_connection_that_was_cut_is_told_by_another_epoch(bridge: Bridge, router: AnsweringRouter) -> None:
    with Relay(bridge.address) as relay:
        context = sockets.context()
        try:
            sock = quiet_socket(context, relay.url)

            def epoch() -> int:
                sock.send_multipart(wire.encode(m.Ping()))
                while True:
                    for header, _ in wire.decode(sock.recv_multipart()):
                        if isinstance(header, m.Pong):
                            return int(header.epoch)

            first = epoch()
            assert epoch() == first
            relay.cut()
            time.sleep(0.3)
            assert epoch() not in (0, first)
        finally:
            context.destroy(linger=0)


def test_our_own_client_does_not_wait_for_answers_to_a_connection_that_was_cut(
    bridge: Bridge, router: AnsweringRouter
) -> None:
    with Relay(bridge.address) as relay, OurClient(relay.url) as client, ThreadPoolExecutor(1) as pool:
        row = {"INPUT0": np.zeros((1, 16), np.float32)}
        client.infer("echo", row)
        router.is_holding = True
        waiting = pool.submit(client.infer, "echo", row)
        router.wait_for(lambda: len(router.requests) == 2)
        time.sleep(1.2)  # so that the server was heard since it was sent: it is not sent again
        relay.cut()
        with pytest.raises(ConnectionFailed, match="broke before the answer came"):
            waiting.result(5.0)
        router.is_holding = False
        client.infer("echo", row)


def test_client_needs_nothing_but_the_document(bridge: Bridge, router: AnsweringRouter) -> None:
    context = sockets.context()
    try:
        sock = quiet_socket(context, f"tcp://{bridge.address}")
        payload = [[["INPUT0", "FP32", [1, 16]]], {"threshold": 0.5}]
        request = msgspec.msgpack.encode([1, 1, 1, 7, "echo", payload])
        sock.send_multipart([request, ROW, msgspec.msgpack.encode([1, 4, 0])])
        frames: list[bytes] = []
        while len(frames) < 3:  # a Response with one tensor frame, and a Pong; Models may follow
            frames += sock.recv_multipart()
        headers = {}
        while frames:
            header = msgspec.msgpack.decode(frames.pop(0))
            headers[header[1]] = (header, [frames.pop(0) for _ in range(header[2])])
        response, tensors = headers[2]
        assert (response[3:7], tensors) == ([7, "", "", True], [ROW])
        assert response[7][0] == [["OUTPUT0", "FP32", [1, 16], None, ""]]
        assert headers[5][0][3] > 0
    finally:
        context.destroy(linger=0)
