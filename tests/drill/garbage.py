"""Drills that send what nobody should: garbage to client ports and to internal sockets, and connections half made."""

import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from inferoxy import messages as m
from inferoxy import sockets, wire
from tests.drill.drill import Run
from tests.drill.load import SEQUENCES, Load, mixed
from tests.drill.managers import MODELS
from tests.drill.stack import DrillStack

HALF_OPEN = 100  # connections of each kind
GREETING = b"\xff" + bytes(8) + b"\x7f\x03"  # the first bytes of ZMTP 3
PACE_S = 0.002
PING = wire.encode(m.Ping(revision=2**31))


def garbage(run: Run) -> None:
    """Garbage on the client ports and on internal sockets, half-open connections: nobody else is disturbed."""
    with run.stack(MODELS) as stack, Load(stack, mixed() + SEQUENCES) as load:
        load.wait_right(20)
        pids = {name: stack.pid_of(name) for name in ("batch_manager", "bridge_zmq", "bridge_rest", "bridge_grpc")}
        instances = stack.instances("double")
        run_dir = f"ipc://{stack.data_dir}/run"
        targets = {
            "client port": (stack.zmq_endpoint, client_messages),
            "frontend": (f"{run_dir}/frontend.sock", frontend_messages),
            "backend": (f"{run_dir}/backend/backend.sock", backend_messages),
        }
        half = [_half_open(stack, data) for data in (b"", GREETING, b"GET / HT") for _ in range(HALF_OPEN)]
        over = threading.Event()
        threads = [
            threading.Thread(target=_shower, args=(*target, over, seed)) for seed, target in enumerate(targets.values())
        ]
        threads.append(threading.Thread(target=_noise, args=(stack, over)))
        for thread in threads:
            thread.start()
        try:
            run.pause(8.0)
        finally:
            over.set()
            for thread in threads:
                thread.join()
            for sock in half:
                sock.close()
        load.wait_right(60)
        outcomes = load.stop()
        found = {name: stack.pid_of(name) for name in pids}
        run.check(found == pids, f"a component has ended: {pids} became {found}")
        run.check(stack.instances("double") == instances, "an instance has ended")
    run.take(outcomes)


def client_messages() -> list[list[bytes]]:
    """What clients send, right but for the mutations that follow."""
    payload = wire.encode_payload(m.Payload([m.Tensor("INPUT", "INT32", (1, 4))]))
    good = m.Request(id=7, model="double", payload=payload, timeout_us=1_000_000)
    step = m.Request(id=8, model="sum", payload=payload, timeout_us=1_000_000, sequence=m.Sequence(5, True, False))
    return [
        wire.encode(good, [bytes(16)]),
        wire.encode(step, [bytes(16)]),
        wire.encode(m.Cancel(ids=[1, 2, 3])),
        wire.encode(m.Ping()),
        wire.encode(m.Hello(instance="i", model="double", model_version="1")),
        wire.encode(m.Catalog(revision="1", models=[])),
        wire.encode(m.Stop()),
    ]


def frontend_messages() -> list[list[bytes]]:
    """What bridges send, and requests that none would send."""
    payload = wire.encode_payload(m.Payload([m.Tensor("INPUT", "INT32", (1, 4), 16)]))
    elsewhere = wire.encode_payload(m.Places([m.Slot("../../../etc/passwd", 0, 16)]))
    outside = wire.encode_payload(m.Places([m.Slot("0123456789abcdef/1-a.1", 1 << 40, 1 << 40)], m.Slot("x", -1, -1)))
    odd: list[dict[str, Any]] = [
        {"size": 16, "data": bytes(16)},
        {"rows": -5, "size": -1},
        {"rows": 1 << 62, "size": 1 << 62, "data": bytes(16)},
        {"rows": 8, "data": bytes(16)},
        {"data": bytes(3)},
        {"priority": 1 << 60, "data": bytes(16)},
        {"timeout_us": -1, "data": bytes(16)},
        {"places": elsewhere, "flags": 3},
        {"places": outside, "flags": 1},
    ]
    items = [
        m.Request(**{"id": at, "model": "double", "key": "INPUT:INT32:16", "payload": payload} | fields)
        for at, fields in enumerate(odd)
    ]
    joined = [wire.encode_joined(m.Requests, [item], ()) for item in items]
    return [*client_messages(), *joined, wire.encode(m.Gone(clients=["nobody"]))]


def backend_messages() -> list[list[bytes]]:
    """What instances send; the token of this one is wrong."""
    hello = m.Hello(instance="double-1-0", model="double", model_version="1", token="0" * 64, batch_size=8)
    result = m.Result(batch=1 << 28, items=[m.ResultItem(0)], compute_us=1)
    return [wire.encode(hello), wire.encode(result), wire.encode(m.Heartbeat()), wire.encode(m.Stop()), PING]


def mutated(parts: list[bytes], chance: random.Random) -> list[bytes]:
    """The same message with something wrong about it, now and then as it is."""
    kind = chance.randrange(10)
    frames = [bytearray(part) for part in parts]
    frame = chance.choice(frames)
    if kind <= 3 and frame:
        for _ in range(chance.randint(1, 3)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
    elif kind == 4:
        del frame[chance.randint(0, len(frame)) :]
    elif kind == 5:
        frame += chance.randbytes(chance.randint(1, 200))
    elif kind == 6:
        frames.insert(chance.randrange(len(frames) + 1), bytearray(chance.randbytes(chance.randint(0, 50))))
    elif kind == 7:
        frames = [bytearray(chance.randbytes(chance.randint(0, 300))) for _ in range(chance.randint(1, 5))]
    elif kind == 8:
        depth = chance.randint(2, 5_000)
        frames = [bytearray(b"\x94\x01\x01\x00" + b"\x91" * depth)]
    return [bytes(frame) for frame in frames]


def _shower(endpoint: str, messages: Callable[[], list[list[bytes]]], over: threading.Event, seed: int) -> None:
    """Mutated messages until it is over, now and then from a new peer, whose answers are read or left."""
    chance = random.Random(seed)
    context = sockets.context()
    try:
        sock: Any = None
        for number in range(1 << 30):
            if over.is_set():
                return
            if number % 200 == 0:
                if sock is not None:
                    sock.close(0)
                sock = sockets.dealer(context, endpoint)
            sockets.send(sock, mutated(chance.choice(messages()), chance))
            if chance.random() < 0.5:
                sockets.recv(sock)
            time.sleep(PACE_S)
    finally:
        context.destroy(linger=0)


def _noise(stack: DrillStack, over: threading.Event) -> None:
    """Bytes that are not even the port's protocol."""
    chance = random.Random(99)
    addresses = [stack.rest_url, stack.grpc_address, stack.zmq_endpoint]
    while not over.wait(0.02):
        host, _, port = chance.choice(addresses).rpartition("/")[2].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5.0) as sock:
            try:
                sock.sendall(chance.choice((b"", GREETING, b"POST /v2/models/double/infer HTTP/1.1\r\n")))
                sock.sendall(chance.randbytes(chance.randint(1, 5_000)))
            except ConnectionError:
                continue


def _half_open(stack: DrillStack, data: bytes) -> socket.socket:
    """A connection to the ZeroMQ port that says no more than this."""
    host, _, port = stack.zmq_endpoint.rpartition("/")[2].rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=5.0)
    sock.sendall(data)
    return sock
