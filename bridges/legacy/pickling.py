"""Write the pickles that the first Inferoxy's clients read: plain containers and UINT8 arrays, protocol 4.

Pure, and not Python's pickler: an array is written as numpy 1 wrote it, which every numpy since reads, whichever is
installed here.
Invariant: a pickle made here names nothing but numpy's array, its type and the function that arrays are made by.

Source: Python's pickletools module.
"""

import struct
from typing import Any

import numpy as np

from inferoxy.errors import InternalError
from inferoxy.tensors import Array

MAX_DEPTH = 64

_FRAMELESS = b"\x80\x04"
_STOP = b"."
# Each array is made empty, and then given version 1 of its state.
_EMPTY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
_DTYPE = b"cnumpy\ndtype\n\x8c\x02%b\x89\x88\x87R(K\x03\x8c\x01%bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def dumps(value: Any) -> bytes:
    """The pickle of None, bool, int, float, str, bytes, numeric arrays, and of lists, tuples and dicts of them.

    Raises:
        InternalError: There is something else in it, or it is nested too deep.
    """
    parts: list[bytes] = [_FRAMELESS]
    _write(value, parts, 0)
    parts.append(_STOP)
    return b"".join(parts)


def _write(value: Any, parts: list[bytes], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InternalError(f"an answer is nested more than {MAX_DEPTH} deep")
    if value is None:
        parts.append(b"N")
    elif isinstance(value, bool):
        parts.append(b"\x88" if value else b"\x89")
    elif isinstance(value, int) and 0 <= value < 256:
        parts.append(b"K%c" % value)
    elif isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        parts.append(b"\x8b" + struct.pack("<I", len(data)) + data)
    elif isinstance(value, float):
        parts.append(b"G" + struct.pack(">d", value))
    elif isinstance(value, str):
        data = value.encode()
        parts += (b"X" + struct.pack("<I", len(data)), data)
    elif isinstance(value, bytes):
        parts += (b"\x8e" + struct.pack("<Q", len(value)), value)
    elif isinstance(value, dict):
        parts.append(b"}(")
        for key, item in value.items():
            _write(key, parts, depth + 1)
            _write(item, parts, depth + 1)
        parts.append(b"u")
    elif isinstance(value, list):
        parts.append(b"](")
        for item in value:
            _write(item, parts, depth + 1)
        parts.append(b"e")
    elif isinstance(value, tuple):
        parts.append(b"(")
        for item in value:
            _write(item, parts, depth + 1)
        parts.append(b"t")
    elif isinstance(value, np.ndarray):
        _write_array(value, parts, depth)
    else:
        raise InternalError(f"an answer holds a {type(value).__name__}, which clients could not read")


def _write_array(array: Array, parts: list[bytes], depth: int) -> None:
    code = array.dtype.str[1:].encode()
    if array.dtype.kind not in "biuf" or len(code) != 2:
        raise InternalError(f"an answer holds an array of {array.dtype}, which clients could not read")
    parts.append(_EMPTY_ARRAY)
    _write(array.shape, parts, depth + 1)
    parts.append(_DTYPE % (code, array.dtype.str[:1].encode()))
    parts.append(b"\x89")
    _write(array.tobytes(), parts, depth + 1)
    parts.append(b"tb")
