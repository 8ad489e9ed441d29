"""HTTP answers as data: a status, headers and the parts of a body, whoever writes them to a connection.

Pure. Invariant: every answer has a Content-Type unless it is empty, a Content-Length and the request's X-Request-Id.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from bridges.results import error_fields, model_headers, served_headers
from inferoxy.errors import RETRY_AFTER_S, STATUS, Code, InferoxyError, Status
from inferoxy.messages import Served

JSON = b"application/json"

Part = bytes | memoryview


class HttpAnswer(NamedTuple):
    """What is sent back. `lines` are the headers as they stand on the wire, each with its line end."""

    status: int
    lines: bytes
    parts: Sequence[Part]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as pairs of name, in lower case, and value."""
        pairs = (line.partition(b": ") for line in self.lines.split(b"\r\n")[:-1])
        return [(name, value) for name, _, value in pairs]

    def with_header(self, name: bytes, value: bytes) -> "HttpAnswer":
        """The same answer with one header more."""
        return self._replace(lines=b"%b%b: %b\r\n" % (self.lines, name, value))


def answer(
    status: int, content_type: bytes, parts: Sequence[Part], request_id: str, more_lines: bytes = b""
) -> HttpAnswer:
    """An answer with this body; `more_lines` are further headers."""
    lines = content_lines(content_type, sum(map(len, parts)))
    return HttpAnswer(status, b"%bx-request-id: %b\r\n%b" % (lines, request_id.encode(), more_lines), parts)


def empty_answer(request_id: str) -> HttpAnswer:
    """What was asked for is done, and there is nothing to say."""
    return HttpAnswer(200, b"content-length: 0\r\nx-request-id: %b\r\n" % request_id.encode(), [b""])


def inference_answer(lines: bytes, request_id: str, served: Served, parts: Sequence[Part]) -> HttpAnswer:
    """The answer to an inference request, which says how it was served.

    Args:
        lines: Its other headers: `content_lines` and `model_lines` at least.
        request_id: The request's.
        served: How.
        parts: The body.
    """
    how = f"x-request-id: {request_id}\r\n{_lines(served_headers(served))}".encode()
    return HttpAnswer(200, lines + how, parts)


def content_lines(content_type: bytes, size: int) -> bytes:
    """What a body is, and how long."""
    return b"content-type: %b\r\ncontent-length: %d\r\n" % (content_type, size)


def model_lines(model: str, version: str) -> bytes:
    """Which model answered."""
    return _lines(model_headers(model, version)).encode()


def json_answer(status: int, content: Any, request_id: str, more_lines: bytes = b"") -> HttpAnswer:
    """An answer whose body is this content as JSON."""
    return answer(status, JSON, [msgspec.json.encode(content)], request_id, more_lines)


def error_answer(
    exc: InferoxyError,
    request_id: str,
    more: dict[str, Any] | None = None,
    statuses: Mapping[Code, Status] = STATUS,
) -> HttpAnswer:
    """What a caller is told of an error: status, `{"error", "code", "request_id"}` and perhaps when to try again."""
    content: dict[str, Any] = {**error_fields(exc, request_id), **(more or {})}
    retry_after_s = RETRY_AFTER_S.get(exc.code)
    lines = b"retry-after: %d\r\n" % retry_after_s if retry_after_s else b""
    return json_answer(statuses[exc.code].http, content, request_id, lines)


def _lines(headers: Iterable[tuple[str, str]]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers])
