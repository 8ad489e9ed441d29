"""The header of a request, and whether the hot path takes it.

Pure. Parsing is llhttp's (httptools), never ours: what stands before the first empty line is given to it, and only
what it understands in the plainest way is taken. Everything else is None, and goes to uvicorn with its bytes.
Invariant: equal bytes have equal meanings, so what was understood once is kept.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import httptools

from bridges.rest.exchange import Exchange
from bridges.rest.handlers import Handlers, HeaderMap
from bridges.rest.v2_body import HEADER_LENGTH
from inferoxy.kept import Kept

BEGIN, END = b"POST ", b"\r\n\r\n"
MAX_KEPT = 1_024  # headers
MAX_KEPT_BYTES = 2_048  # of one header

_PATHS = re.compile(
    rb"/v2/models/(?P<infer>[\w.~!$&'()*+,;=:@-]+)(?:/versions/(?P<version>[\w.~!$&'()*+,;=:@-]+))?/infer"
    rb"|/v1/models/(?P<predict>[\w.~!$&'()*+,;=:@-]+)/predict"
)
_UNUSUAL = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"})
_LENGTH = re.compile(rb"\d{1,15}")
_ONE_PICTURE = (b"image/", b"application/octet-stream")


class Head(NamedTuple):
    """A plain inference request's header."""

    start: Callable[[memoryview, str], Exchange]  # of the body and the request's id
    headers: HeaderMap
    length: int
    keeps_alive: bool
    model: str
    version: str
    shift: int  # where the first tensor begins in the body; -1: not one request of one tensor after another


class HeadReader:
    """Reads headers.

    Args:
        handlers: What requests mean.
        limit_bytes: Larger bodies are not taken.
    """

    def __init__(self, handlers: Handlers, limit_bytes: int) -> None:
        self._handlers = handlers
        self._limit_bytes = limit_bytes
        self._kept: Kept[bytes, Head | None] = Kept(MAX_KEPT)

    def read(self, block: bytes) -> Head | None:
        """The meaning of a header block, its empty line included; None when the hot path does not take it."""
        try:
            return self._kept[block]
        except KeyError:
            head = self._parse(block)
            return self._kept.keep(block, head) if len(block) <= MAX_KEPT_BYTES else head

    def _parse(self, block: bytes) -> Head | None:
        found = _Found()
        parser = httptools.HttpRequestParser(found)
        try:
            parser.feed_data(block)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        headers = dict(found.headers)
        length = headers.get(b"content-length")
        names = [name for name, _ in found.headers]
        is_plain = (
            found.is_complete
            and not found.has_body
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and length is not None
            and _LENGTH.fullmatch(length)
            and int(length) <= self._limit_bytes
            and names.count(b"content-length") == 1
            and names.count(b"connection") <= 1
            and _UNUSUAL.isdisjoint(names)
            and headers.get(b"connection", b"keep-alive").lower() in (b"keep-alive", b"close")
        )
        if not is_plain or length is None:
            return None
        return self._routed(found.url, headers, int(length), parser.should_keep_alive())

    def _routed(self, url: bytes, headers: HeaderMap, length: int, keeps_alive: bool) -> Head | None:
        path, _, query = url.partition(b"?")
        match = _PATHS.fullmatch(path)
        if match is None or b"#" in query or not query.isascii():
            return None
        handlers = self._handlers
        if match["predict"] is not None:
            model, version = match["predict"].decode(), ""
            shift = 0 if headers.get(b"content-type", b"").startswith(_ONE_PICTURE) else -1

            def start(body: memoryview, name: str) -> Exchange:
                return handlers.predict(model, query, headers, body, name)
        else:
            model, version = match["infer"].decode(), (match["version"] or b"").decode()
            json_part = headers.get(HEADER_LENGTH, b"")
            shift = int(json_part) if _LENGTH.fullmatch(json_part) else -1

            def start(body: memoryview, name: str) -> Exchange:
                return handlers.v2.infer(model, version, headers, body, name)

        return Head(start, headers, length, keeps_alive, model, version, shift)


class _Found:
    """What llhttp says of a header block."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False
        self.has_body = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_complete = True

    def on_body(self, body: bytes) -> None:
        self.has_body = True
