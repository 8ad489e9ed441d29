"""Clients of the REST bridge, good ones, bad ones and such that vanish. Each has a connection of its own."""

import asyncio
import base64
import json
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from inferoxy.client.png import stored_png
from tests.drill.http_port import HttpPort, read_answer, request_of
from tests.drill.questions import DATATYPE, INPUT, OUTPUT
from tests.load.talk import CONNECTION, WRONG, Place, Said, Turn, double, fault_of_look, judged, picture, steps

LARGE = 1 << 16  # elements: 256 KiB, which travel in shared memory
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
BOUNDARY = b"3c1f"
STEPS = 4


class Connection:
    """One connection that is made again when it has ended."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        self.host, self.port = split.hostname or "", split.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The answer to a request."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        reader, writer = await self.streams()
        writer.writelines([head.encode(), body])
        await writer.drain()
        answer = await read_answer(reader)
        if answer[1].get("connection", "").lower() == "close":
            self.drop()
        return answer

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """What to write to and read from."""
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection(self.host, self.port)
        return self._streams

    def drop(self, *, reset: bool = False) -> None:
        """Close, without saying goodbye if that is wanted."""
        if self._streams is not None:
            writer, self._streams = self._streams[1], None
            if reset:
                found: socket.socket = writer.get_extra_info("socket")
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()
            writer.close()


def binary(place: Place, elements: int = 16) -> Turn:
    """Binary tensors in the Open Inference Protocol."""
    port = HttpPort(place.addresses["http"])

    async def turn() -> Said:
        question = double(next(place.numbers), elements)
        return judged(question, await port.ask(question))

    return turn


def large(place: Place) -> Turn:
    """The same, large."""
    return binary(place, LARGE)


def plain_json(place: Place) -> Turn:
    """The same in JSON, both ways."""
    connection = Connection(place.addresses["http"])

    async def turn() -> Said:
        number = next(place.numbers)
        question = double(number)
        items = np.frombuffer(question.data, np.int32).tolist()
        tensor = {"name": INPUT, "datatype": DATATYPE, "shape": question.shape, "data": items}
        body = json.dumps({"id": str(number), "inputs": [tensor]}).encode()
        status, _, answered = await connection.post(
            "/v2/models/double/infer", {"Content-Type": "application/json"}, body
        )
        found = json.loads(answered)
        if status != 200:
            return _refused(status, found)
        expected = {
            "name": OUTPUT,
            "datatype": DATATYPE,
            "shape": list(question.shape),
            "data": np.frombuffer(question.expected, np.int32).tolist(),
        }
        is_right = found["id"] == str(number) and found["outputs"] == [expected]
        return Said() if is_right else Said(WRONG, f"expected {expected}, found {found}")

    return turn


def sequences(place: Place) -> Turn:
    """Whole sequences, one after the other."""
    port = HttpPort(place.addresses["http"])
    left: list[Any] = []

    async def turn() -> Said:
        left[:] = left or steps(place, STEPS)
        question = left.pop(0)
        said = judged(question, await port.ask(question))
        if said.code:
            left.clear()
        return said

    return turn


def pictures(place: Place) -> Turn:
    """Pictures as the body, in JSON and as a form; what was found, or the drawn picture."""
    connection = Connection(place.addresses["http"])
    ways = [_one_picture, _drawn_picture, _picture_in_json, _picture_form]

    async def turn() -> Said:
        number = next(place.numbers)
        return await ways[number % len(ways)](connection, place, number)

    return turn


async def _one_picture(connection: Connection, place: Place, number: int) -> Said:
    path = f"/v1/models/look/predict?mark={number}"
    status, _, body = await connection.post(path, {"Content-Type": "image/png"}, stored_png(picture(number)))
    found = json.loads(body)
    return _seen([found["prediction"]], [number]) if status == 200 else _refused(status, found)


async def _drawn_picture(connection: Connection, place: Place, number: int) -> Said:
    headers = {"Content-Type": "image/png", "Accept": "image/png"}
    status, _, body = await connection.post("/v1/models/look/predict", headers, stored_png(picture(number)))
    if status != 200:
        return _refused(status, json.loads(body))
    drawn = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR_RGB)
    return Said() if np.array_equal(drawn, 255 - picture(number)) else Said(WRONG, "another picture came back")


async def _picture_in_json(connection: Connection, place: Place, number: int) -> Said:
    content = {"image": base64.b64encode(stored_png(picture(number))).decode(), "parameters": {"mark": number}}
    headers = {"Content-Type": "application/json"}
    status, _, body = await connection.post("/v1/models/look/predict", headers, json.dumps(content).encode())
    found = json.loads(body)
    return _seen([found["prediction"]], [number]) if status == 200 else _refused(status, found)


async def _picture_form(connection: Connection, place: Place, number: int) -> Said:
    """Two pictures and one that is none, which alone fails."""
    numbers = [number, next(place.numbers)]
    files = [stored_png(picture(n)) for n in numbers] + [b"no picture"]
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="f"; filename="%d.png"\r\n\r\n%b\r\n' % (BOUNDARY, at, data)
        for at, data in enumerate(files)
    ]
    body = b"".join(parts) + b"--%b--\r\n" % BOUNDARY
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    status, _, body = await connection.post("/v1/models/look/predict", headers, body)
    found = json.loads(body)
    if status != 200:
        return _refused(status, found)
    *good, bad = found["results"]
    if bad.get("code") != "INVALID_REQUEST":
        return Said(WRONG, f"expected INVALID_REQUEST for what is no picture, found {bad}")
    said = [{**entry["prediction"], "mark": n} for entry, n in zip(good, numbers, strict=True)]
    return _seen(said, numbers)


def cancelled(place: Place) -> Turn:
    """Goes away before its answer has come, or while it is being sent."""
    connection = Connection(place.addresses["http"])

    async def turn() -> Said:
        number = next(place.numbers)
        question = double(number, LARGE if number % 2 else 16)
        _, writer = await connection.streams()
        writer.writelines(request_of(question, connection.host))
        await asyncio.sleep(number % 5 * 0.002)
        connection.drop(reset=number % 3 == 0)
        return Said()

    return turn


def broken(place: Place) -> Turn:
    """Sends the beginning of a request and resets its connection."""
    connection = Connection(place.addresses["http"])

    async def turn() -> Said:
        number = next(place.numbers)
        data = b"".join(request_of(double(number, 4_096), connection.host))
        _, writer = await connection.streams()
        writer.write(data[: len(data) * (number % 7) // 8])
        await asyncio.sleep(0.01)
        connection.drop(reset=True)
        return Said()

    return turn


BAD: list[tuple[str, dict[str, str], bytes, int]] = [  # path, headers, body, status
    ("/v2/models/double/infer", {}, b"{", 400),
    ("/v2/models/double/infer", {}, b'{"inputs": []}', 400),
    ("/v2/models/double/infer", {}, b"[" * 50_000, 400),
    ("/v2/models/double/infer", {"Inference-Header-Content-Length": "99"}, b"{}", 400),
    ("/v2/models/double/infer", {}, b'{"inputs":[{"name":"INPUT","datatype":"INT32","shape":[1,-1],"data":[1]}]}', 400),
    ("/v2/models/double/infer", {}, b'{"inputs":[{"name":"INPUT","datatype":"FP32","shape":[1,1],"data":[1]}]}', 400),
    ("/v2/models/nobody/infer", {}, b"{}", 404),
    ("/v1/models/look/predict", {"Content-Type": "image/png"}, b"no picture", 400),
    ("/v1/models/look/predict", {"Content-Type": "image/png"}, stored_png(picture(1))[:40], 400),
    ("/v1/models/look/predict", {"Content-Type": "text/html"}, b"<p>", 415),
    ("/v1/models/look/predict", {"Content-Type": "multipart/form-data"}, b"--", 400),
    ("/v1/models/look/predict?timeout_ms=never", {}, b"", 400),
    ("/v9", {}, b"", 404),
]


def bad_inputs(place: Place) -> Turn:
    """Sends what must be refused, and expects to be told so."""
    connection = Connection(place.addresses["http"])

    async def turn() -> Said:
        path, headers, body, expected = BAD[next(place.numbers) % len(BAD)]
        status, _, answered = await connection.post(path, headers, body)
        found = json.loads(answered)
        is_right = status == expected and found["error"] and found["code"]
        return (
            Said() if is_right else Said(WRONG, f"expected {expected} for {path} {body[:60]!r}, found {status} {found}")
        )

    return turn


def _seen(predictions: list[Any], numbers: list[int]) -> Said:
    for prediction, number in zip(predictions, numbers, strict=True):
        fault = fault_of_look(prediction, number)
        if fault:
            return Said(WRONG, fault)
    return Said()


def _refused(status: int, found: dict[str, Any]) -> Said:
    return Said(str(found.get("code", CONNECTION)), f"{status} {found.get('error')}")
