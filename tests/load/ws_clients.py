"""Clients of the WebSocket `/v1/models/{name}/stream`."""

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from inferoxy.client.png import stored_png
from tests.drill.flows import CONNECTION
from tests.load.talk import WRONG, Place, Said, Turn, fault_of_look, picture

FRAMES = 5
PATH = "/v1/models/look/stream?window=3"


def frames(place: Place) -> Turn:
    """Frames on one connection that lasts, one of them no picture, of which each answer carries its number."""
    url = place.addresses["http"].replace("http://", "ws://") + PATH
    held: list[ClientConnection] = []
    sent = 0

    async def turn() -> Said:
        nonlocal sent
        try:
            if not held:
                held.append(await connect(url, compression=None))
                sent = 0
            numbers = [next(place.numbers) for _ in range(FRAMES)]
            bad = numbers[0] % FRAMES
            reading = asyncio.create_task(_read(held[0], FRAMES))
            for at, number in enumerate(numbers):
                await held[0].send(json.dumps({"parameters": {"mark": number}, "id": str(number)}))
                await held[0].send(b"no picture" if at == bad else stored_png(picture(number)))
            answers = await reading
        except (OSError, WebSocketException) as exc:
            held.clear()
            return Said(CONNECTION, f"{type(exc).__name__}: {exc}")
        for at, (number, answer) in enumerate(zip(numbers, answers, strict=True)):
            sent += 1
            fault = _fault_of(answer, number, sent, is_bad=at == bad)
            if fault:
                return Said(WRONG, fault)
        return Said()

    return turn


def broken(place: Place) -> Turn:
    """Connects, sends frames and vanishes, or sends what is no message."""
    url = place.addresses["http"].replace("http://", "ws://") + PATH

    async def turn() -> Said:
        number = next(place.numbers)
        try:
            async with connect(url, compression=None) as connection:
                for _ in range(number % 4):
                    await connection.send(stored_png(picture(number)))
                if number % 2:
                    await connection.send("{" if number % 3 else "\0")
                await asyncio.sleep(number % 5 * 0.002)
                if number % 3:
                    connection.transport.abort()
        except (OSError, WebSocketException) as exc:
            return Said(CONNECTION, f"{type(exc).__name__}: {exc}")
        return Said()

    return turn


async def _read(connection: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(await connection.recv()) for _ in range(count)]


def _fault_of(answer: dict[str, Any], number: int, frame: int, *, is_bad: bool) -> str:
    if (answer.get("frame"), answer.get("id")) != (frame, str(number)):
        return f"expected frame {frame} with id {number}, found {answer}"
    if is_bad:
        return "" if answer.get("code") == "INVALID_REQUEST" else f"expected INVALID_REQUEST, found {answer}"
    return fault_of_look(answer.get("prediction"), number)
