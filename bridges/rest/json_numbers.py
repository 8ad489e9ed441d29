"""Numbers in JSON, flat or nested, to arrays; and pixels to JSON.

Pure. A picture is millions of numbers, so nothing here goes through them one by one in Python: nested lists are
compared with the text that regular ones of their shape would have, and read as one flat list.
Invariant: whatever the text is, only InvalidRequest is raised.
"""

from typing import Any

import msgspec
import numpy as np

from inferoxy.errors import InvalidRequest
from inferoxy.tensors import Array

MAX_DEPTH = 8

_INTEGERS: msgspec.json.Decoder[list[int]] = msgspec.json.Decoder(list[int])
_DECODERS: tuple[msgspec.json.Decoder[Any], ...] = (
    msgspec.json.Decoder(list[float]),
    msgspec.json.Decoder(list[bool]),
)
_NUMBERS = b"0123456789+-.eEtrufals \t\r\n"  # all characters of numbers, true, false and blanks
# Each value as the four bytes that stand for it in a list; blanks before a number are allowed.
_CELLS = np.array([f"{value:3d}," for value in range(256)], "S4").view("<u4")


def read(text: bytes) -> Array:
    """The array that a JSON list is: UINT8 where every number fits, else INT64, FP64 or BOOL.

    Raises:
        InvalidRequest: It is no list of numbers, or nested lists have different lengths.
    """
    shape = _shape(text.translate(None, _NUMBERS))
    flat = text if len(shape) == 1 else b"[%b]" % text.translate(None, b"[]")
    array = _flat(flat)
    if len(shape) == 1:
        return array
    expected = int(np.prod(shape))
    if array.size != expected:  # an empty list has the brackets of one with a single number
        raise InvalidRequest(f"data: expected {expected} numbers for lists nested as {list(shape)}, found {array.size}")
    return array.reshape(shape)


def write(array: Array) -> bytes:
    """UINT8 values of any shape as a flat JSON list."""
    return b"[%b]" % _CELLS[array.reshape(-1)].tobytes()[:-1]


def _flat(text: bytes) -> Array:
    try:
        numbers = _INTEGERS.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        for decoder in _DECODERS:
            try:
                return np.array(decoder.decode(text))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
        raise InvalidRequest(f"data: expected a list of numbers ({exc})") from exc
    try:
        return np.frombuffer(bytes(numbers), np.uint8)
    except ValueError:
        pass
    try:
        return np.array(numbers, np.int64)
    except OverflowError as exc:
        raise InvalidRequest("data: expected numbers of at most 64 bits, found a larger one") from exc


def _shape(brackets: bytes) -> tuple[int, ...]:
    """The lengths of nested lists of which only brackets and commas are left.

    An empty list cannot be told from one of a single number.
    """
    depth = len(brackets) - len(brackets.lstrip(b"["))
    if not 1 <= depth <= MAX_DEPTH:
        raise InvalidRequest(f"data: expected lists of numbers, nested at most {MAX_DEPTH} deep")
    shape: list[int] = []
    unit = b""
    for level in range(depth - 1, -1, -1):
        end = brackets.find(unit + b"]", level)
        inside = brackets[level + 1 : end + len(unit)]
        count = (len(inside) + 1) // (len(unit) + 1)
        if end < 0 or inside != ((unit + b",") * count)[:-1]:
            break
        unit = b"[%b]" % inside
        shape.append(count)
    if unit != brackets:
        raise InvalidRequest("data: expected nested lists of equal lengths that hold numbers alone, found others")
    return tuple(reversed(shape))
