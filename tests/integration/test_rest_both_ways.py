"""The hot path and the FastAPI routes behind it answer every request alike, however its bytes arrive."""

import base64
import concurrent.futures
import json
import random
import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridges.models import ModelIndex
from bridges.rest.handlers import Handlers
from bridges.rest.head import HeadReader
from inferoxy.config import LimitSettings
from tests.integration.answering_router import AnsweringRouter
from tests.integration.bridge_process import Bridge
from tests.unit.pictures import bomb, encoded

LIMITS = {"body_mib": 1.0, "header_timeout_s": 1.0, "body_timeout_s": 1.0, "pictures_per_request": 3}
JPEG, PNG = encoded("JPEG", 64, 48), encoded("PNG", 31, 17)
PREDICT, INFER = "/v1/models/detector/predict", "/v2/models/echo/infer"
COLD = "Upgrade: nothing"  # makes a request unusual, and means nothing
IDS = iter(range(10**9))


class Post(NamedTuple):
    """One request."""

    path: str
    body: bytes
    headers: tuple[str, ...] = ()
    method: str = "POST"

    def bytes(self, *more: str) -> bytes:
        """As it is sent."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: x", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, *self.headers, *more, "", ""]).encode("latin-1") + self.body


class Answer(NamedTuple):
    """One answer, as it came."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])


class Wire:
    """One connection."""

    def __init__(self, bridge: Bridge) -> None:
        self.sock = socket.create_connection(("127.0.0.1", bridge.port), 15.0)
        self._stream = self.sock.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()
        self.sock.close()

    def recv(self) -> Answer:
        """The next answer."""
        head = b""
        length = 0
        while not head.endswith(b"\r\n\r\n"):
            line = self._stream.readline()
            assert line, f"the connection was closed after {head!r}"
            head += line
            if line.startswith(b"content-length: "):
                length = int(line[16:])
        return Answer(head, self._stream.read(length))

    def ask(self, data: bytes) -> Answer:
        """Send a request and get its answer."""
        self.sock.sendall(data)
        return self.recv()

    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self._stream.read(1) == b""


def v2(*inputs: dict[str, Any], blob: bytes = b"", **more: Any) -> tuple[bytes, tuple[str, ...]]:
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + blob, (f"Inference-Header-Content-Length: {len(head)}",)


def row(**more: Any) -> dict[str, Any]:
    return {"name": "INPUT0", "shape": [1, 16], "datatype": "FP32", **more}


BINARY = row(parameters={"binary_data_size": 64})
BLOB = np.arange(16, dtype="<f4").tobytes()
TEXT = base64.b64encode(JPEG).decode()
FORM = (
    b'--X\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    + JPEG
    + b'\r\n--X\r\nContent-Disposition: form-data; name="b"; filename="b"\r\n\r\nno picture\r\n--X--\r\n'
)


def js(content: Any) -> bytes:
    return json.dumps(content).encode()


CORPUS = [
    Post(PREDICT, JPEG),
    Post(PREDICT, PNG, ("Content-Type: image/png",)),
    Post(PREDICT + "?confidence=0.5&classes=1&classes=2&x=a%20b&flag=true", JPEG),
    Post(PREDICT + "?timeout_ms=2000&priority=5&version=1&sequence_id=4&sequence_start=true", JPEG),
    Post(PREDICT + "?timeout_ms=oops", JPEG),
    Post(PREDICT + "?version=9", JPEG),
    Post(PREDICT + "?", JPEG),
    Post(PREDICT, JPEG, ("Accept: image/jpeg",)),
    Post(PREDICT, JPEG, ("Accept: image/png, */*;q=0.1",)),
    Post(PREDICT, JPEG, ("Accept: text/html, */*",)),
    Post(PREDICT, b""),
    Post(PREDICT, b"no picture"),
    Post(PREDICT, JPEG[:30]),
    Post(PREDICT, bomb()),
    Post(PREDICT, JPEG, ("Content-Type: text/plain",)),
    Post(PREDICT, FORM, ("Content-Type: multipart/form-data; boundary=X",)),
    Post(PREDICT, FORM[:-9], ("Content-Type: multipart/form-data; boundary=X",)),
    Post(PREDICT, FORM, ("Content-Type: multipart/form-data",)),
    Post(PREDICT, js({"image": TEXT, "parameters": {"k": [1, {"a": None}]}}), ("Content-Type: application/json",)),
    Post(PREDICT, js({"images": [TEXT, "%", [[[1, 2, 3]]]]}), ("Content-Type: application/json",)),
    Post(PREDICT, js({"images": ["%", "%"]}), ("Content-Type: application/json",)),
    Post(PREDICT, js({"images": [TEXT] * 4}), ("Content-Type: application/json",)),
    Post(PREDICT, b"{", ("Content-Type: application/json",)),
    Post("/v1/models/frames/predict", JPEG),
    Post("/v1/models/broken/predict", JPEG),
    Post("/v1/models/full/predict", JPEG),
    Post("/v1/models/silent/predict?timeout_ms=50", JPEG),
    Post("/v1/models/echo/predict", JPEG),
    Post("/v1/models/none/predict", JPEG),
    Post("/v1/models/cold/predict", JPEG),
    Post(PREDICT, JPEG, ("X-Request-Id: not a good one",)),
    Post(PREDICT, JPEG, ("Connection: keep-alive",)),
    Post(PREDICT, JPEG, ("X-Unused: \xe9\xff",)),
    Post(INFER, js({"id": "1", "inputs": [row(data=list(range(16)))]})),
    Post(INFER, js({"id": "\u20ac", "inputs": [row(data=[[0.5] * 16])], "outputs": [{"name": "OUTPUT0"}]})),
    Post(INFER, *v2(BINARY, blob=BLOB)),
    Post(INFER, *v2(BINARY, blob=BLOB, parameters={"binary_data_output": True})),
    Post(INFER, *v2(BINARY, blob=BLOB, outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": True}}])),
    Post(INFER, *v2(BINARY, blob=BLOB, parameters={"timeout": 10**6, "priority": 1, "sequence_id": 2**63, "a": 1.5})),
    Post("/v2/models/echo/versions/2/infer?ignored=1", *v2(BINARY, blob=BLOB)),
    Post("/v2/models/echo/versions/9/infer", *v2(BINARY, blob=BLOB)),
    Post(INFER, *v2(BINARY, blob=BLOB[:-1])),
    Post(INFER, *v2(BINARY, blob=BLOB + b"x")),
    Post(INFER, *v2(BINARY, blob=BLOB, outputs=[{"name": "none"}])),
    Post(INFER, *v2(BINARY, blob=BLOB, parameters={"timeout": -1})),
    Post(INFER, b"", ("Inference-Header-Content-Length: 9",)),
    Post(INFER, b"{}", ("Inference-Header-Content-Length: x",)),
    Post(INFER, b""),
    Post(INFER, b"\xff\xfe"),
    Post(INFER, b"[" * 5_000),
    Post("/v2/models/detector/infer", *v2(
        {"name": "", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(JPEG) + 4}},
        blob=len(JPEG).to_bytes(4, "little") + JPEG,
        outputs=[{"name": "prediction"}, {"name": "picture", "parameters": {"binary_data": True}}],
        parameters={"draw": "jpeg"},
    )),
    Post("/v2/models/frames/infer", *v2(BINARY, blob=BLOB)),
    Post("/v2/models/tally/infer", *v2(parameters={"sequence_id": 5, "sequence_end": True})),
    Post("/v2/models/tally/infer", js({"id": "e", "parameters": {"sequence_id": "cam", "sequence_end": True}})),
    Post("/v2/models/tally/infer", *v2(blob=b"x", parameters={"sequence_id": 5, "sequence_end": True})),
    Post("/v2/models/tally/infer", *v2(parameters={"sequence_id": 5})),
    Post(INFER, *v2(parameters={"sequence_id": 5, "sequence_end": True})),
    Post("/v1/models/tally/predict?sequence_id=5&sequence_start=true&sequence_end=true", FORM,
         ("Content-Type: multipart/form-data; boundary=X",)),
    Post("/v2/models/cold/infer", *v2(
        {"name": "INPUT0", "shape": [700_000], "datatype": "UINT8", "parameters": {"binary_data_size": 700_000}},
        blob=bytes(700_000), parameters={"binary_data_output": True},
    )),
]  # fmt: skip


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path_factory.mktemp("ways")) as router:
        yield router


@pytest.fixture(scope="module")
def bridge(router: AnsweringRouter) -> Iterator[Bridge]:
    with Bridge("rest", router.endpoint, limits=LIMITS, log_level="warning") as bridge:
        end = time.monotonic() + 10.0
        with Wire(bridge) as wire:
            while wire.ask(Post("/readyz", b"", method="GET").bytes()).status != 200:
                assert time.monotonic() < end
        yield bridge


@pytest.fixture(scope="module")
def heads() -> HeadReader:
    """What the bridge has, to see which way a request takes."""
    return HeadReader(Handlers(ModelIndex(), lambda: True, LimitSettings()), 2**20)


def is_hot(heads: HeadReader, data: bytes) -> bool:
    return heads.read(data[: data.index(b"\r\n\r\n") + 4]) is not None


def named() -> str:
    return f"X-Request-Id: id-{next(IDS)}"


@pytest.mark.parametrize("post", CORPUS, ids=lambda post: f"{post.path[:40]}-{len(post.body)}")
def test_every_request_is_answered_alike(bridge: Bridge, heads: HeadReader, post: Post) -> None:
    name = () if any(h.startswith("X-Request-Id") for h in post.headers) else (named(),)
    hot, cold = post.bytes(*name), post.bytes(*name, COLD)
    assert is_hot(heads, hot)
    assert not is_hot(heads, cold)
    with Wire(bridge) as first, Wire(bridge) as second:
        answers = [first.ask(hot), second.ask(cold)]
        answers += [second.ask(hot), first.ask(cold)]  # and on connections that have been the other way
    if not name:
        answers = [without_id(answer) for answer in answers]
    assert answers == [answers[0]] * 4


def without_id(answer: Answer) -> Answer:
    """An answer without the request id that was made up for it."""
    found = next(line[14:] for line in answer.head.split(b"\r\n") if line.startswith(b"x-request-id: "))
    return Answer(answer.head.replace(found, b""), answer.body.replace(found, b""))


@pytest.mark.parametrize("rows", [1, 100, 2_000])
@pytest.mark.parametrize("is_binary", [True, False])
def test_requests_with_one_json_part_are_answered_each_with_its_own_bytes(
    bridge: Bridge, rows: int, is_binary: bool
) -> None:
    item = row(shape=[rows, 16], parameters={"binary_data_size": 64 * rows})
    with Wire(bridge) as wire:
        for number in range(6):
            array = np.full((rows, 16), number, "<f4")
            post = Post(INFER, *v2(item, blob=array.tobytes(), parameters={"binary_data_output": is_binary}))
            answer = wire.ask(post.bytes(*(() if number % 3 else (COLD,))))
            assert answer.status == 200
            if is_binary:
                assert answer.body.endswith(b"}" + array.tobytes())
            else:
                assert json.loads(answer.body)["outputs"][0]["data"] == array.ravel().tolist()
            short = post._replace(body=post.body[:-1])
            refused = wire.ask(short.bytes())
            assert (refused.status, b"binary bytes" in refused.body) == (400, True)


def test_sequences_are_ended_on_connections_that_go_either_way(bridge: Bridge) -> None:
    step = Post("/v1/models/tally/predict?sequence_id=5&sequence_start=true", JPEG)
    end = Post("/v1/models/tally/sequences/5", b"", method="DELETE")
    with Wire(bridge) as wire:
        answers = [wire.ask(post.bytes("X-Request-Id: one")) for post in (step, end, step, end, end)]
    assert [answer.status for answer in answers] == [200] * 5
    assert answers[0] == answers[2]
    assert answers[1] == answers[3] == answers[4]


@pytest.mark.parametrize("ways", [("Connection: close",), ("Connection: close", COLD)])
def test_last_request_closes_the_connection(bridge: Bridge, ways: tuple[str, ...]) -> None:
    with Wire(bridge) as wire:
        answer = wire.ask(Post(PREDICT, JPEG).bytes(*ways))
        assert answer.status == 200
        assert b"\r\nconnection: close\r\n" in answer.head
        assert wire.is_closed()


bodies = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([post.body for post in CORPUS if len(post.body) < 5_000]).flatmap(
        lambda body: st.builds(
            lambda at, byte: body[:at] + bytes([byte]) + body[at + 1 :], st.integers(0, len(body)), st.integers(0, 255)
        )
    ),
)
header_lines = st.sampled_from([line for post in CORPUS for line in post.headers if "Connection" not in line])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(sorted({post.path for post in CORPUS if "silent" not in post.path})),
    body=bodies,
    lines=st.lists(header_lines, max_size=2, unique_by=lambda line: line.split(":")[0]),
)
def test_damaged_requests_are_answered_alike(bridge: Bridge, path: str, body: bytes, lines: list[str]) -> None:
    post = Post(path, body, tuple(line for line in lines if not line.startswith("X-Request-Id")))
    name = named()
    with Wire(bridge) as wire:
        assert wire.ask(post.bytes(name)) == wire.ask(post.bytes(name, COLD))


def test_requests_may_arrive_in_pieces_cut_anywhere(bridge: Bridge) -> None:
    rng = random.Random(7)
    post = Post(INFER, *v2(BINARY, blob=BLOB))
    with Wire(bridge) as wire:
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for ways in ((), (COLD,)) * 4:
            data = post.bytes(*ways)
            cuts = sorted(rng.sample(range(1, len(data)), 5))
            for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
                wire.sock.sendall(data[start:stop])
                time.sleep(0.002)
            assert wire.recv().status == 200


def test_large_bodies_that_come_together_are_whole_however_they_are_cut(bridge: Bridge) -> None:
    large = CORPUS[-1].bytes()
    rng = random.Random(5)
    with Wire(bridge) as first, Wire(bridge) as second, Wire(bridge) as third:
        wires = [first, second, third]
        alone = first.ask(large)
        assert (alone.status, len(large) > 700_000) == (200, True)
        for _ in range(3):
            sent = [0, 0, 0]
            while any(at < len(large) for at in sent):
                for number, wire in enumerate(wires):
                    upto = min(len(large), sent[number] + rng.choice([1, 10_000, 300_000, 600_000]))
                    upto = len(large) - 10 if sent[number] < len(large) - 10 < upto else upto  # the end comes by itself
                    wire.sock.sendall(large[sent[number] : upto])
                    sent[number] = upto
            for wire in wires:
                assert wire.recv().body == alone.body
        for wire in wires:  # what was arranged for large bodies holds up no small request
            assert wire.ask(Post(PREDICT, JPEG).bytes()).status == 200


def test_requests_sent_ahead_are_answered_in_order_whichever_way_they_take(bridge: Bridge) -> None:
    rng = random.Random(11)
    data, expected = b"", []
    for number in range(300):
        post = rng.choice([Post(PREDICT, PNG), Post(INFER, *v2(BINARY, blob=BLOB)), Post("/livez", b"", method="GET")])
        ways = (COLD,) if rng.random() < 0.3 else ()
        data += post.bytes(f"X-Request-Id: n{number}", *ways)
        expected.append(f"x-request-id: n{number}\r\n".encode())
    with Wire(bridge) as wire:
        wire.sock.sendall(data)
        for line in expected:
            answer = wire.recv()
            assert (answer.status, line in answer.head) == (200, True)


def test_client_that_does_not_read_holds_up_nobody_but_itself(bridge: Bridge) -> None:
    large = CORPUS[-1].bytes()
    with Wire(bridge) as slow, Wire(bridge) as other:
        assert other.ask(Post(PREDICT, JPEG).bytes()).status == 200  # from here on it may be idle for more than 1 s
        slow.sock.setblocking(False)
        sent, waiting = 0, large * 20
        end = time.monotonic() + 1.0
        while sent < len(waiting) and time.monotonic() < end:
            try:
                sent += slow.sock.send(waiting[sent : sent + 100_000])
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < len(waiting)  # the server stopped reading what it could not answer
        assert other.ask(Post(PREDICT, JPEG).bytes()).status == 200
        slow.sock.settimeout(15.0)
        begun = -(-sent // len(large))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            rest = pool.submit(slow.sock.sendall, waiting[sent : begun * len(large)])
            for _ in range(begun):
                assert len(slow.recv().body) > 700_000
            rest.result()


@pytest.mark.parametrize("ways", [(), (COLD,)])
def test_slow_body_is_told_so_both_ways(bridge: Bridge, ways: tuple[str, ...]) -> None:
    with Wire(bridge) as wire:
        answer = wire.ask(Post(PREDICT, JPEG).bytes("X-Request-Id: slow", *ways)[:-10])
        assert answer.status == 408
        assert json.loads(answer.body) == {
            "error": "body: expected all of it within 1 s", "code": "REQUEST_TIMEOUT", "request_id": "slow",
        }  # fmt: skip
        assert wire.is_closed()


def test_slow_second_header_ends_the_connection(bridge: Bridge) -> None:
    with Wire(bridge) as wire:
        assert wire.ask(Post(PREDICT, JPEG).bytes()).status == 200
        wire.sock.sendall(b"POST /v1")
        began = time.monotonic()
        assert wire.is_closed()
        assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("start", [b"POST ", b"GET "])
def test_endless_header_is_refused(bridge: Bridge, start: bytes) -> None:
    with Wire(bridge) as wire:
        wire.sock.sendall(start + b"/v2/models/echo/infer HTTP/1.1\r\nX: " + b"x" * 400_000)
        answer = wire.recv()
        assert (answer.status, b"header: expected at most 65536 bytes" in answer.body) == (400, True)


@pytest.mark.parametrize("ways", [(), (COLD,)])
def test_client_that_leaves_cancels_its_request_both_ways(
    bridge: Bridge, router: AnsweringRouter, ways: tuple[str, ...]
) -> None:
    router.requests.clear()
    router.cancelled.clear()
    router.is_holding = True
    try:
        with Wire(bridge) as wire:
            wire.sock.sendall(Post(PREDICT, JPEG).bytes(*ways))
            router.wait_for(lambda: router.requests)
        router.wait_for(lambda: router.cancelled == [router.requests[0].id])
    finally:
        router.is_holding = False
