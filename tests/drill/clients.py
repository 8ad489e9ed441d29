"""Drills with clients that behave badly: they vanish, reset, send half of something, or one byte at a time."""

import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.drill.drill import Run
from tests.drill.flows import Flow
from tests.drill.http_port import request_of
from tests.drill.load import LARGE, Load, mixed
from tests.drill.questions import Question, elements_of
from tests.drill.stack import STATEFUL, DrillStack, models_yaml
from tests.integration.stack import wait_until

HEADER_TIMEOUT_S, BODY_TIMEOUT_S = 1.0, 2.0
LATE_S = 2.0  # beyond a timeout, until the server must have acted
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
EMPTY_S = 15.0
PLACES = 4  # sequences that the stateful model can hold
SEQUENCES = Flow("http sequences", "http", "sum", users=2, steps=5, pause_s=0.05)


def misbehave(run: Run) -> None:
    """Clients vanish, reset, send half a body or one byte a second: they are cut off, the others notice nothing."""
    models = models_yaml(
        double={"options": {"service_ms": 10}},
        sum=STATEFUL | {"max_sequences": PLACES},
    )
    settings = {"limits": {"header_timeout_s": HEADER_TIMEOUT_S, "body_timeout_s": BODY_TIMEOUT_S}}
    with run.stack(models, settings=settings) as stack, Load(stack, [*mixed(), SEQUENCES]) as load:
        load.wait_right(20)
        bad = [_Bad(stack, what) for what in (_half_body, _slow_header, _slow_body, _half_header) for _ in range(5)]
        for _ in range(run.few(4, 1)):
            run.say("clients vanish")
            with Load(stack, _greedy()) as gone:
                gone.wait_right(10)
                gone.vanish()
            run.say("clients reset their connections")
            for cut in (None, 20_000, 200, 10):
                for _ in range(10):
                    _reset(stack, cut)
        for client in bad:
            client.join()
            run.check(not client.problem, f"{client.name}: {client.problem}")
        load.wait_right(60)
        outcomes = load.stop()
        _check_all_given_back(run, stack)
    run.take(outcomes)


def _greedy() -> list[Flow]:
    """Many large requests at once, and sequences that never end: as many as all but one of the places there are."""
    large = [Flow(f"{p} greedy", p, users=16, elements=LARGE) for p in ("http", "grpc", "zmq")]
    return [*large, Flow("zmq endless", "zmq", "sum", users=PLACES - 1, steps=1_000_000, pause_s=0.02)]


class _Bad(threading.Thread):
    """One connection to the REST bridge on which something goes wrong; `problem` is what the server did not do."""

    def __init__(self, stack: DrillStack, what: Callable[[socket.socket, list[bytes]], str]) -> None:
        super().__init__(name=what.__name__.strip("_"), daemon=True)
        self.problem = "it has not ended"
        self._stack, self._what = stack, what
        self.start()

    def run(self) -> None:
        with _connect(self._stack) as sock:
            try:
                self.problem = self._what(sock, _request())
            except OSError as exc:
                self.problem = f"{type(exc).__name__}: {exc}"


def _half_body(sock: socket.socket, request: list[bytes]) -> str:
    lines, head, body = request
    sock.sendall(lines + head + body[: len(body) // 2])
    return _expect_end(sock, BODY_TIMEOUT_S, b" 408 ")


def _slow_body(sock: socket.socket, request: list[bytes]) -> str:
    lines, head, body = request
    sock.sendall(lines)
    return _drip(sock, head + body, BODY_TIMEOUT_S, b" 408 ")


def _half_header(sock: socket.socket, request: list[bytes]) -> str:
    sock.sendall(request[0][:40])
    return _expect_end(sock, HEADER_TIMEOUT_S)


def _slow_header(sock: socket.socket, request: list[bytes]) -> str:
    return _drip(sock, request[0], HEADER_TIMEOUT_S)


def _drip(sock: socket.socket, data: bytes, limit_s: float, answer: bytes = b"") -> str:
    """Send a byte at a time until the server has had enough."""
    until = time.monotonic() + limit_s + LATE_S
    for byte in data:
        sock.settimeout(0.25)
        try:
            sock.sendall(bytes([byte]))
            found = sock.recv(1000)
        except TimeoutError:
            if time.monotonic() > until:
                return f"expected an end within {limit_s + LATE_S:g} s, found none"
            continue
        except ConnectionError:
            return ""
        return "" if answer in found else f"expected {answer!r}, found {found!r}"
    return "it took the whole request, byte for byte"


def _expect_end(sock: socket.socket, limit_s: float, answer: bytes = b"") -> str:
    """Wait for the server's answer and the end of the connection."""
    sock.settimeout(limit_s + LATE_S)
    found = b""
    try:
        while data := sock.recv(10_000):
            found += data
    except TimeoutError:
        return f"expected an end within {limit_s + LATE_S:g} s, found none behind {found!r}"
    except ConnectionError:
        pass
    return "" if answer in found else f"expected {answer!r}, found {found!r}"


def _reset(stack: DrillStack, cut: int | None) -> None:
    """Send a request, or the beginning of it, and reset the connection."""
    sock = _connect(stack)
    sock.sendall(b"".join(_request())[:cut])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def _connect(stack: DrillStack) -> socket.socket:
    host, _, port = stack.rest_url.rpartition("/")[2].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5.0)


def _request() -> list[bytes]:
    elements = elements_of(1, LARGE)
    return request_of(Question("double", (1, LARGE), elements.tobytes(), b"", 10.0), "drill")


def _check_all_given_back(run: Run, stack: DrillStack) -> None:
    """No request is open any more, and no shared memory is in use."""

    def is_empty() -> bool:
        said = stack.status()["components"].get("batch_manager", {})
        arenas: list[dict[str, Any]] = [bridge.get("arena", {}) for bridge in said.get("bridges", {}).values()]
        return bool(arenas) and not said["open_requests"] and not any(arena.get("used_slots") for arena in arenas)

    try:
        wait_until(is_empty, EMPTY_S)
    except AssertionError:
        run.problems.append(f"something is still held: {stack.status()['components'].get('batch_manager')}")
