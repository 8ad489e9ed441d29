"""Requests over HTTP, in the Open Inference Protocol's binary form, on connections of our own.

A connection carries one request at a time; there are as many as requests are open. Nothing is sent twice: what happens
to a connection happens to its request.
"""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from tests.drill.flows import CONNECTION
from tests.drill.questions import DATATYPE, INPUT, Question, Reply

HEADER_LENGTH = "inference-header-content-length"
REST_S = 0.02  # before a refused connection is tried again by the next request


class HttpPort:
    """One server's REST bridge."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        self._host, self._port = split.hostname or "", split.port or 80
        self.faults: list[str] = []
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self) -> None:
        """Nothing to do: connections are made as they are needed."""

    async def ask(self, question: Question) -> Reply:
        """Send a request and wait for its answer."""
        try:
            reader, writer = await self._connection()
        except OSError as exc:
            await asyncio.sleep(REST_S)
            return Reply(CONNECTION, str(exc))
        is_kept = False
        try:
            writer.writelines(request_of(question, f"{self._host}:{self._port}"))
            await writer.drain()
            status, headers, body = await read_answer(reader)
            is_kept = headers.get("connection", "").lower() != "close"
        except (OSError, EOFError) as exc:
            return Reply(CONNECTION, f"{type(exc).__name__}: {exc}")
        finally:
            if is_kept:
                self._idle.append((reader, writer))
            else:
                writer.close()
        return read_reply(status, headers, body)

    async def close(self) -> None:
        """Close what is idle; what is in use is closed by whoever uses it."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and reader.exception() is None:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)


def request_of(question: Question, host: str) -> list[bytes]:
    """The request as it goes out."""
    parameters: dict[str, Any] = {"binary_data_output": True, "timeout": int(question.timeout_s * 1e6)}
    if question.priority:
        parameters["priority"] = question.priority
    if question.sequence is not None:
        sequence_id, start, end = question.sequence
        parameters |= {"sequence_id": sequence_id, "sequence_start": start, "sequence_end": end}
    tensor = {
        "name": INPUT,
        "datatype": DATATYPE,
        "shape": question.shape,
        "parameters": {"binary_data_size": len(question.data)},
    }
    head = json.dumps({"parameters": parameters, "inputs": [tensor]}).encode()
    lines = (
        f"POST /v2/models/{question.model}/infer HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/octet-stream\r\n{HEADER_LENGTH}: {len(head)}\r\n"
        f"Content-Length: {len(head) + len(question.data)}\r\n\r\n"
    )
    return [lines.encode(), head, question.data]


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers with names in lower case, and body.

    Raises:
        EOFError: The connection ended before.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split()[1]), headers, body


def read_reply(status: int, headers: dict[str, str], body: bytes) -> Reply:
    """What an answer says."""
    if status != 200:
        try:
            said = json.loads(body)
            return Reply(said["code"], said["error"], retry_after="retry-after" in headers)
        except (ValueError, KeyError, TypeError):
            return Reply(f"HTTP_{status}", body[:200].decode(errors="replace"))
    size = int(headers.get(HEADER_LENGTH, len(body)))
    (output,) = json.loads(body[:size])["outputs"]
    return Reply("", "", output["name"], output["datatype"], tuple(output["shape"]), body[size:])
