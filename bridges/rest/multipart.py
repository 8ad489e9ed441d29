"""Split a multipart/form-data body into its parts.

Pure; the parsing is python-multipart's.
Invariant: whatever the body is, only InvalidRequest is raised.
"""

import logging
from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from inferoxy.errors import InvalidRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 1_000

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # its sender is told what is wrong with a body


class Part(NamedTuple):
    """One field of a form. `filename` is None for a field that is not a file."""

    name: str
    filename: str | None
    content_type: str
    data: bytearray


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a Content-Type header names.

    Raises:
        InvalidRequest: It names none.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("Content-Type: expected multipart/form-data with a boundary, found none")
    return boundary


def split(body: memoryview, boundary: bytes) -> list[Part]:
    """The parts of a body, in order.

    Raises:
        InvalidRequest: It is not such a body, or ends before its closing boundary.
    """
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(bytes(body))
        parser.finalize()
    except FormParserError as exc:
        raise InvalidRequest(f"body: not valid multipart/form-data: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"body: a part's headers are not text: {exc}") from exc
    if not reader.is_complete:
        raise InvalidRequest("body: expected the closing boundary of multipart/form-data, found the end of the body")
    return reader.parts


class _Reader:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.is_complete = False
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._name = self._value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise InvalidRequest(f"body: expected at most {MAX_PARTS} parts, found more")
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise InvalidRequest(f"body: part {len(self.parts) + 1} has no name in its Content-Disposition")
        filename = options.get(b"filename")
        self.parts.append(
            Part(
                options[b"name"].decode("utf-8", "replace"),
                None if filename is None else filename.decode("utf-8", "replace"),
                parse_options_header(self._headers.get(b"content-type", b""))[0].decode("latin-1").lower(),
                bytearray(),
            )
        )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data.extend(memoryview(data)[start:end])

    def _on_end(self) -> None:
        self.is_complete = True
