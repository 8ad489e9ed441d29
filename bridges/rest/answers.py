"""HTTP answers as data: a status, headers and the parts of a body, whoever writes them to a connection.

Pure. Invariant: every answer has a Content-Type, a Content-Length and the request's X-Request-Id.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from bridges.results import error_fields
from inferoxy.errors import RETRY_AFTER_S, STATUS, InferoxyError

JSON = b"application/json"

Headers = list[tuple[bytes, bytes]]
Part = bytes | memoryview


class HttpAnswer(NamedTuple):
    """What is sent back."""

    status: int
    headers: Headers
    parts: Sequence[Part]


def answer(
    status: int,
    content_type: bytes,
    parts: Sequence[Part],
    request_id: str,
    extra: Iterable[tuple[bytes, bytes]] = (),
) -> HttpAnswer:
    """An answer with this body."""
    size = sum(map(len, parts))
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % size),
        (b"x-request-id", request_id.encode()),
        *extra,
    ]
    return HttpAnswer(status, headers, parts)


def json_answer(status: int, content: Any, request_id: str, extra: Iterable[tuple[bytes, bytes]] = ()) -> HttpAnswer:
    """An answer whose body is this content as JSON."""
    return answer(status, JSON, [msgspec.json.encode(content)], request_id, extra)


def error_answer(exc: InferoxyError, request_id: str, more: dict[str, Any] | None = None) -> HttpAnswer:
    """What a caller is told of an error: status, `{"error", "code", "request_id"}` and perhaps when to try again."""
    content: dict[str, Any] = {**error_fields(exc, request_id), **(more or {})}
    retry_after_s = RETRY_AFTER_S.get(exc.code)
    extra = [(b"retry-after", b"%d" % retry_after_s)] if retry_after_s else []
    return json_answer(STATUS[exc.code].http, content, request_id, extra)


def latin(headers: Iterable[tuple[str, str]]) -> Headers:
    """Header pairs of printable ASCII as bytes."""
    return [(name.encode(), value.encode()) for name, value in headers]
