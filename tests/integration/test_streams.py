"""Claims about streams: real WebSocket clients against the REST bridge, behind it a router or a whole stack."""

import asyncio
import io
import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_blocking

from bridges.link import Link
from bridges.rest import server, stream_socket
from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.config import Settings, complete
from tests.integration.answering_router import AnsweringRouter
from tests.integration.bridge_process import Bridge
from tests.integration.sequence_models import FRAMES, Served
from tests.integration.stack import Stack, wait_until
from tests.unit.pictures import encoded

JPEG = encoded("JPEG", 64, 48)
PNG = encoded("PNG", 31, 17)
WAIT_S = 10.0

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path_factory.mktemp("router")) as running:
        yield running


@pytest.fixture(scope="module")
def bridge(router: AnsweringRouter) -> Iterator[Bridge]:
    with Bridge("rest", router.endpoint, limits={"body_mib": 1.0}) as running:
        wait_until(lambda: httpx.get(f"http://{running.address}/readyz", trust_env=False).status_code == 200, WAIT_S)
        yield running


@pytest.fixture(autouse=True)
def _fresh_router(router: AnsweringRouter) -> Iterator[None]:
    router.requests.clear()
    router.gone.clear()
    router.cancelled.clear()
    yield
    router.is_holding = False


class Talk:
    """A stream's client that never waits for ever."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, *messages: bytes | dict[str, Any] | str) -> None:
        for message in messages:
            await self.connection.send(json.dumps(message) if isinstance(message, dict) else message)

    async def hear(self) -> Any:
        """The next message: bytes, or JSON."""
        async with asyncio.timeout(WAIT_S):
            found = await self.connection.recv()
        return found if isinstance(found, bytes) else json.loads(found)

    async def until_closed(self) -> tuple[list[Any], int, str]:
        """What is said before the server closes, and with which code and reason."""
        heard = []
        closed = None
        while closed is None:
            try:
                heard.append(await self.hear())
            except ConnectionClosed as exc:
                closed = exc.rcvd or exc
        assert not isinstance(closed, ConnectionClosed), "the connection broke without a close frame"
        return heard, closed.code, closed.reason

    async def send_without_end(self, message: bytes, for_s: float) -> int:
        """Send one message again and again until the server takes no more of them; how many it took."""
        count = 0
        try:
            async with asyncio.timeout(for_s):
                while True:
                    await self.send(message)
                    count += 1
        except TimeoutError:
            return count


@asynccontextmanager
async def stream(where: str, model: str, query: str = "", **options: Any) -> AsyncIterator[Talk]:
    uri = f"ws://{where}/v1/models/{model}/stream?{query}"
    async with connect(uri, max_size=None, proxy=None, **options) as connection:
        yield Talk(connection)


def payload_of(request: m.Request) -> m.Payload:
    return wire.decode_payload(request.payload)


# Frames and answers


async def each_frame_is_answered(address: str) -> None:
    async with stream(address, "detector", "confidence=0.5") as talk:
        await talk.send(JPEG, PNG)
        first, second = await talk.hear(), await talk.hear()
    assert first["frame"] == 1
    assert first["image"] == {"width": 64, "height": 48}
    assert first["prediction"]["boxes"] == [[0, 0, 64, 48]]
    assert first["prediction"]["parameters"] == {"confidence": 0.5}
    assert first["served"]["batch_size"] == 4
    assert first["final"] is True
    assert (second["frame"], second["image"]) == (2, {"width": 31, "height": 17})


def test_each_frame_is_answered_with_its_number(bridge: Bridge) -> None:
    asyncio.run(each_frame_is_answered(bridge.address))


def test_a_blocking_client_can_stream_too(bridge: Bridge) -> None:
    with connect_blocking(f"ws://{bridge.address}/v1/models/detector/stream", proxy=None) as connection:
        connection.send(JPEG)
        assert json.loads(connection.recv(timeout=WAIT_S))["frame"] == 1


def test_the_drawn_picture_follows_its_answer(bridge: Bridge) -> None:
    async def run() -> None:
        async with stream(bridge.address, "detector", "draw=png") as talk:
            await talk.send(PNG, JPEG)
            for number, picture in ((1, PNG), (2, JPEG)):
                answer = await talk.hear()
                assert (answer["frame"], answer["picture"]) == (number, "png")
                assert await talk.hear() == picture  # this batch manager "draws" by giving the picture back

    asyncio.run(run())


def test_parameters_hold_for_the_frames_behind_them_and_an_id_for_one(bridge: Bridge) -> None:
    async def run() -> list[Any]:
        async with stream(bridge.address, "detector", "a=1&b=2") as talk:
            await talk.send(JPEG, {"parameters": {"b": 3, "c": [4]}, "id": "x"}, JPEG, {"parameters": {}}, JPEG)
            return [await talk.hear() for _ in range(3)]

    answers = asyncio.run(run())
    assert [a["prediction"]["parameters"] for a in answers] == [
        {"a": 1, "b": 2}, {"a": 1, "b": 3, "c": [4]}, {"a": 1, "b": 2},
    ]  # fmt: skip
    assert [a.get("id") for a in answers] == [None, "x", None]


def test_a_model_that_answers_several_times_is_heard_each_time(bridge: Bridge) -> None:
    async def run() -> list[Any]:
        async with stream(bridge.address, "frames") as talk:
            await talk.send(JPEG, JPEG)
            return [await talk.hear() for _ in range(8)]

    answers = asyncio.run(run())
    assert [a["frame"] for a in answers] == [1] * 4 + [2] * 4
    assert [a["final"] for a in answers] == [False, False, False, True] * 2
    assert [a.get("prediction") for a in answers[:4]] == [{"frame": 0}, {"frame": 1}, {"frame": 2}, None]


@pytest.mark.parametrize(("model", "code"), [("broken", "MODEL_ERROR"), ("full", "QUEUE_FULL")])
def test_a_failing_frame_is_told_and_the_stream_goes_on(bridge: Bridge, model: str, code: str) -> None:
    async def run() -> list[Any]:
        async with stream(bridge.address, model) as talk:
            await talk.send(JPEG, b"no picture", JPEG)
            return [await talk.hear() for _ in range(3)]

    answers = asyncio.run(run())
    assert [(a["frame"], a["code"], a["final"]) for a in answers] == [
        (1, code, True), (2, "INVALID_REQUEST", True), (3, code, True),
    ]  # fmt: skip
    assert answers[1]["error"].startswith("frame 2: expected JPEG, PNG or WebP, found bytes that begin with 6e 6f 20")
    assert answers[1]["request_id"].endswith("/2")


def test_a_text_that_cannot_be_read_is_told_and_the_stream_goes_on(bridge: Bridge) -> None:
    async def run() -> None:
        async with stream(bridge.address, "detector") as talk:
            await talk.send("rubbish", {"parameters": 7}, JPEG)
            for _ in range(2):
                told = await talk.hear()
                assert told["code"] == "INVALID_REQUEST"
                assert "frame" not in told
            assert (await talk.hear())["frame"] == 1

    asyncio.run(run())


def test_answers_come_in_the_order_of_their_frames_unless_any_will_do(bridge: Bridge, router: AnsweringRouter) -> None:
    async def run(order: str) -> list[int]:
        router.is_holding = True
        async with stream(bridge.address, "detector", f"order={order}") as talk:
            await talk.send(JPEG, b"no picture")
            router.wait_for(lambda: len(router.requests) == 1)
            await asyncio.sleep(0.1)
            router.is_holding = False
            router.requests.clear()
            return [(await talk.hear())["frame"] for _ in range(2)]

    assert asyncio.run(run("sent")) == [1, 2]
    assert asyncio.run(run("any")) == [2, 1]


def test_an_end_is_answered_behind_all_frames_before_it(bridge: Bridge) -> None:
    async def run() -> None:
        async with stream(bridge.address, "detector", "order=any") as talk:
            await talk.send(*[JPEG] * 20, {"end": True}, JPEG)
            heard = [await talk.hear() for _ in range(22)]
            at = heard.index({"ended": True, "frames": 20})
            assert {a["frame"] for a in heard[:at]} >= set(range(1, 21))

    asyncio.run(run())


def test_the_request_id_is_the_clients_or_made_up(bridge: Bridge, router: AnsweringRouter) -> None:
    async def run() -> None:
        async with stream(bridge.address, "detector", additional_headers={"X-Request-Id": "camera-7"}) as talk:
            assert talk.connection.response is not None
            assert talk.connection.response.headers["x-request-id"] == "camera-7"
            await talk.send(JPEG)
            await talk.hear()

    asyncio.run(run())
    assert [r.request_id for r in router.requests] == ["camera-7/1"]


# Back-pressure


def test_only_a_window_of_frames_is_under_way(bridge: Bridge, router: AnsweringRouter) -> None:
    async def run() -> None:
        router.is_holding = True
        async with stream(bridge.address, "detector", "window=3") as talk:
            await talk.send(*[JPEG] * 10)
            router.wait_for(lambda: len(router.requests) == 3)
            await asyncio.sleep(0.3)
            assert len(router.requests) == 3
            router.is_holding = False
            assert [(await talk.hear())["frame"] for _ in range(10)] == list(range(1, 11))

    asyncio.run(run())


def test_a_client_that_sends_too_fast_is_pushed_back(bridge: Bridge, router: AnsweringRouter) -> None:
    large = JPEG + b"\0" * 500_000

    async def run() -> None:
        router.is_holding = True
        async with stream(bridge.address, "detector") as talk:
            sent = await talk.send_without_end(large, 2.0)
            assert sent < 60
            assert len(router.requests) <= 3  # no more than a body's bytes are under way, whatever the window
            router.is_holding = False
            assert [(await talk.hear())["frame"] for _ in range(sent)] == list(range(1, sent + 1))
            talk.connection.transport.abort()

    asyncio.run(run())


def test_a_client_that_does_not_read_its_answers_is_not_read_either(bridge: Bridge, router: AnsweringRouter) -> None:
    large = JPEG + b"\0" * 200_000

    async def run() -> None:
        async with stream(bridge.address, "detector", "draw=jpeg", max_queue=1) as talk:
            await talk.send_without_end(large, 2.0)
            first = len(router.requests)
            await talk.send_without_end(large, 1.0)
            assert len(router.requests) == first < 150, "it went on being read"
            talk.connection.transport.abort()

    asyncio.run(run())


def test_the_newest_frame_wins_where_the_oldest_are_dropped(bridge: Bridge, router: AnsweringRouter) -> None:
    async def run() -> None:
        router.is_holding = True
        async with stream(bridge.address, "detector", "window=2&drop=oldest") as talk:
            await talk.send(*[JPEG] * 7)
            dropped = [await talk.hear() for _ in range(4)]
            assert dropped == [{"frame": n, "dropped": True, "final": True} for n in (3, 4, 5, 6)]
            router.is_holding = False
            assert [(await talk.hear())["frame"] for _ in range(3)] == [1, 2, 7]
            await talk.send(JPEG)
            assert (await talk.hear())["frame"] == 8
            router.is_holding = True
            await talk.send(*[JPEG] * 4, {"end": True})
            assert (await talk.hear())["frame"] == 11
            router.is_holding = False
            heard = [await talk.hear() for _ in range(4)]
            assert [a.get("frame") for a in heard] == [9, 10, 12, None]
            assert heard[3] == {"ended": True, "frames": 12}

    asyncio.run(run())


# Ends


@pytest.mark.parametrize(
    ("model", "query", "code", "error", "closing"),
    [
        ("nobody", "", "MODEL_NOT_FOUND", "Request for unknown model: 'nobody' is not found", 4404),
        ("echo", "version=9", "MODEL_NOT_FOUND", "version '9' is not found", 4404),
        ("echo", "", "INVALID_REQUEST", "model 'echo' takes tensors (INPUT0 FP32 [-1, 16]), not pictures", 1008),
        ("detector", "window=0", "INVALID_REQUEST", "window: expected 1..64 frames, found '0'", 1008),
        ("detector", "timeout_ms=-1", "INVALID_REQUEST", "timeout_ms: expected 0..", 1008),
    ],
)
def test_what_cannot_be_served_is_told_and_closed(
    bridge: Bridge, model: str, query: str, code: str, error: str, closing: int
) -> None:
    async def run() -> None:
        async with stream(bridge.address, model, query) as talk:
            (told,), found, reason = await talk.until_closed()
        assert (told["code"], found) == (code, closing)
        assert error in told["error"]
        assert told["error"].startswith(reason)

    asyncio.run(run())


def test_a_message_over_the_limit_closes_the_stream(bridge: Bridge) -> None:
    async def run() -> None:
        async with stream(bridge.address, "detector") as talk:
            await talk.send(JPEG + b"\0" * 2**20)
            _, code, _ = await talk.until_closed()
            assert code == 1009

    asyncio.run(run())


def test_a_text_that_is_not_utf8_closes_the_stream(bridge: Bridge) -> None:
    async def run() -> None:
        async with stream(bridge.address, "detector") as talk:
            await talk.connection.send(b"\xff\xfe", text=True)
            _, code, _ = await talk.until_closed()
            assert code == 1007

    asyncio.run(run())


def test_a_message_in_fragments_is_one_frame_and_endless_fragments_end(bridge: Bridge) -> None:
    async def run() -> None:
        async with stream(bridge.address, "detector") as talk:
            await talk.connection.send([JPEG[:10], JPEG[10:700], JPEG[700:]])
            assert (await talk.hear())["image"] == {"width": 64, "height": 48}

            async def crumbs() -> AsyncIterator[bytes]:
                while True:
                    yield b""
                    await asyncio.sleep(0)

            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(talk.connection.send(crumbs()), WAIT_S)
            _, code, _ = await talk.until_closed()
            assert code == 1008

    asyncio.run(run())


def test_frames_of_a_client_that_vanishes_are_cancelled(bridge: Bridge, router: AnsweringRouter) -> None:
    async def run() -> None:
        router.is_holding = True
        async with stream(bridge.address, "detector") as talk:
            await talk.send(JPEG, JPEG)
            router.wait_for(lambda: len(router.requests) == 2)
            talk.connection.transport.abort()

    asyncio.run(run())
    router.wait_for(lambda: len(router.cancelled) == 2)
    assert router.gone == []


def test_a_stream_of_a_stateful_model_is_a_sequence_of_its_own(bridge: Bridge, router: AnsweringRouter) -> None:
    async def run() -> None:
        async with (
            stream(bridge.address, "tally", "sequence_id=7") as one,
            stream(bridge.address, "tally", "sequence_id=7") as other,
        ):
            for talk in (one, other):
                await talk.send(JPEG, JPEG)
                answers = [await talk.hear() for _ in range(2)]
                assert [a.get("sequence_start") for a in answers] == [True, None]
            await one.send({"end": True}, JPEG)
            assert await one.hear() == {"ended": True, "frames": 2}
            assert (await one.hear())["sequence_start"] is True

    asyncio.run(run())
    router.wait_for(lambda: len(router.gone) == 2)
    steps = [r.sequence for r in router.requests if r.sequence is not None]
    assert {step.id for step in steps} == {7}
    clients = {step.client for step in steps}
    assert len(clients) == 2
    assert "" not in clients
    assert set(router.gone) == clients
    mine = [(s.start, s.end) for s in steps if s.client == steps[0].client]
    assert mine == [(True, False), (False, False), (False, True), (True, False), (False, True)]
    theirs = [(s.start, s.end) for s in steps if s.client != steps[0].client]
    assert theirs == [(True, False), (False, False), (False, True)]


def test_a_sequence_whose_client_vanishes_ends_as_gone(bridge: Bridge, router: AnsweringRouter) -> None:
    async def run() -> None:
        async with stream(bridge.address, "tally") as talk:
            await talk.send(JPEG)
            await talk.hear()
            talk.connection.transport.abort()

    asyncio.run(run())
    (request,) = router.requests
    assert request.sequence is not None
    step = request.sequence
    router.wait_for(lambda: router.gone == [step.client])


def test_open_frames_are_answered_before_the_server_ends(router: AnsweringRouter) -> None:
    async def run() -> None:
        with Bridge("rest", router.endpoint) as ending:
            wait_until(lambda: is_ready(ending.address), WAIT_S)
            router.requests.clear()
            router.is_holding = True
            async with stream(ending.address, "detector", "window=2") as talk, stream(ending.address, "tally") as idle:
                await talk.send(JPEG, JPEG, JPEG)
                router.wait_for(lambda: len(router.requests) == 2)
                ending.process.send_signal(signal.SIGTERM)
                assert (await idle.until_closed())[:2] == ([], 1012)
                router.is_holding = False
                heard, code, reason = await talk.until_closed()
                assert [a["frame"] for a in heard] == [1, 2]
                assert (code, reason) == (1012, "the server is ending: connect again")

    asyncio.run(run())


# The handshake, and what is around it


def test_a_connection_may_become_a_stream_after_other_requests(bridge: Bridge) -> None:
    host, _, port = bridge.address.partition(":")
    post = b"POST /v1/models/detector/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(JPEG), JPEG)
    upgrade = (
        b"GET /v1/models/detector/stream HTTP/1.1\r\nHost: x\r\n"
        b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), WAIT_S) as sock:
        for request, status in (
            (post, b"200"),
            (b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
            (upgrade, b"101"),
        ):
            sock.sendall(request)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(1)
            assert head.split()[1] == status
            length = re.search(rb"content-length: (\d+)", head)
            if length is not None:
                sock.recv(int(length[1]), socket.MSG_WAITALL)


@pytest.mark.parametrize(
    ("path", "headers", "status", "error"),
    [
        ("/v1/models/detector/predict", {}, 404, "path '/v1/models/detector/predict': not found"),
        ("/v1/models/detector/stream", {"Sec-WebSocket-Version": "12"}, 400, "handshake: "),
    ],
)
def test_a_handshake_that_is_refused_is_answered_in_http(
    bridge: Bridge, path: str, headers: dict[str, str], status: int, error: str
) -> None:
    lines = {
        "Host": "x", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "X-Request-Id": "rid",
    }  # fmt: skip
    answer = httpx.get(f"http://{bridge.address}{path}", headers={**lines, **headers}, trust_env=False)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(error)
    assert answer.json()["request_id"] == "rid"


def test_a_stream_needs_a_websocket(bridge: Bridge) -> None:
    answer = httpx.get(f"http://{bridge.address}/v1/models/detector/stream", trust_env=False)
    assert (answer.status_code, answer.json()["error"]) == (400, "Upgrade: expected websocket, found none")


def test_a_path_without_a_stream_is_not_found(bridge: Bridge) -> None:
    async def run() -> None:
        with pytest.raises(InvalidStatus) as failed:
            async with connect(f"ws://{bridge.address}/nowhere", proxy=None):
                pass
        assert failed.value.response.status_code == 404

    asyncio.run(run())


@asynccontextmanager
async def serving(endpoint: str, folder: Path) -> AsyncIterator[str]:
    """The REST bridge in this process, where its constants can be changed; its address."""
    context = sockets.context()
    settings = complete(Settings(rest="127.0.0.1:0", data_dir=folder, frontend=endpoint))
    link = Link(context, endpoint, "rest")
    running = await server.listen(settings, link, context)
    host, port = running._server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        await running.drain(1.0)
        link.close()
        await running.close()
        context.destroy(linger=0)


def test_a_client_that_answers_no_ping_is_gone_and_one_that_does_stays(
    router: AnsweringRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_socket, "PING_S", 0.5)
    monkeypatch.setattr(stream_socket, "PONG_S", 0.5)

    async def run() -> None:
        async with (
            serving(router.endpoint, tmp_path) as address,
            stream(address, "detector", ping_interval=None) as there,
            stream(address, "tally", ping_interval=None) as silent,
        ):
            await silent.send(JPEG)
            await silent.hear()
            silent.connection.transport.pause_reading()
            await asyncio.to_thread(router.wait_for, lambda: router.gone, 8.0)
            silent.connection.transport.resume_reading()
            assert (await silent.until_closed())[1:] == (1011, "no pong came")
            await there.send(JPEG)
            assert (await there.hear())["frame"] == 1

    asyncio.run(run())


def test_a_window_that_is_full_for_long_is_no_reason_to_think_a_client_gone(
    router: AnsweringRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_socket, "PING_S", 0.5)
    monkeypatch.setattr(stream_socket, "PONG_S", 0.5)

    async def run() -> None:
        router.is_holding = True
        async with serving(router.endpoint, tmp_path) as address, stream(address, "detector", "window=1") as talk:
            await talk.send(JPEG, JPEG)
            await asyncio.sleep(3.0)
            router.is_holding = False
            assert [(await talk.hear())["frame"] for _ in range(2)] == [1, 2]

    asyncio.run(run())


def test_a_client_that_never_reads_is_cut_off(
    router: AnsweringRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_socket, "UNREAD_S", 1.0)
    large = JPEG + b"\0" * 500_000

    async def run() -> None:
        async with (
            serving(router.endpoint, tmp_path) as address,
            stream(address, "detector", "draw=jpeg", max_queue=1, ping_interval=None) as talk,
        ):
            with pytest.raises(ConnectionClosed):
                await talk.send_without_end(large, WAIT_S)

    asyncio.run(run())


# A whole stack


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("streams")
    lines = []
    for name, settings in (("frames", "max_sequences: 2, batch_size: 4"), ("idling", "sequence_idle_s: 1")):
        place = folder / name
        place.mkdir()
        (place / "model.py").write_text(FRAMES)
        shared = f"artifact: {place}, runtime: python, stateless: false, options: {{log: {place / 'notes'}}}"
        lines.append(f"{name}: {{{shared}, {settings}}}")
    with Stack("\n".join(lines), grpc="", zmq="") as stack:
        wait_until(lambda: is_ready(stack.rest_url.removeprefix("http://")), WAIT_S)
        yield Served(stack, folder)


def red(level: int) -> bytes:
    """A picture whose first pixel is so red."""
    out = io.BytesIO()
    Image.new("RGB", (6, 4), (level, 0, 0)).save(out, "PNG")
    return out.getvalue()


def test_the_frames_of_a_stream_share_a_state_in_order(served: Served) -> None:
    where = served.stack.rest_url.removeprefix("http://")

    async def run() -> None:
        async with stream(where, "frames", "sequence_id=first") as one, stream(where, "frames") as other:
            await one.send(*[red(level) for level in (1, 2, 3, 7)])
            await other.send(red(100), red(50))
            assert [(await one.hear())["prediction"]["SUM"] for _ in range(4)] == [[1], [3], [6], [13]]
            assert [(await other.hear())["prediction"]["SUM"] for _ in range(2)] == [[100], [150]]
            assert await asyncio.to_thread(served.told, "frames", "first") == ["start"]

    asyncio.run(run())
    served.wait_told("frames", "first", "start", "ended")


def test_an_end_ends_the_sequence_and_the_next_frame_begins_another(served: Served) -> None:
    where = served.stack.rest_url.removeprefix("http://")

    async def run() -> None:
        async with stream(where, "frames", "sequence_id=again") as talk:
            await talk.send(red(1), red(2), {"end": True}, red(7))
            heard = [await talk.hear() for _ in range(4)]
            assert [a.get("prediction", {}).get("SUM") for a in heard] == [[1], [3], None, [7]]
            assert served.told("frames", "again") == ["start", "ended", "start"]

    asyncio.run(run())


def test_the_sequence_of_a_client_that_vanishes_ends_as_gone(served: Served) -> None:
    where = served.stack.rest_url.removeprefix("http://")

    async def run() -> None:
        async with stream(where, "frames", "sequence_id=cut") as talk:
            await talk.send(red(1))
            await talk.hear()
            talk.connection.transport.abort()

    asyncio.run(run())
    served.wait_told("frames", "cut", "start", "client_gone")


def test_a_sequence_that_was_idle_for_too_long_begins_anew(served: Served) -> None:
    where = served.stack.rest_url.removeprefix("http://")

    async def run() -> None:
        async with stream(where, "idling", "sequence_id=long") as talk:
            await talk.send(red(1))
            assert (await talk.hear())["prediction"]["SUM"] == [1]
            await asyncio.to_thread(served.wait_told, "idling", "long", "start", "idle")
            await talk.send(red(2))
            lost = await talk.hear()
            assert lost["code"] in ("SEQUENCE_UNKNOWN", "SEQUENCE_LOST")
            await talk.send(red(6))
            answer = await talk.hear()
            assert (answer["prediction"]["SUM"], answer["sequence_start"]) == ([6], True)

    asyncio.run(run())


def is_ready(address: str) -> bool:
    return httpx.get(f"http://{address}/readyz", trust_env=False).status_code == 200
