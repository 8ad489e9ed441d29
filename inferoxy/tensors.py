"""Open Inference Protocol datatypes, and arrays as the bytes that stand for them on every wire.

Pure. Arrays are little-endian and C order. BF16 has no numpy dtype: it travels and arrives as UINT16 bit patterns.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferoxy.errors import InvalidRequest
from inferoxy.messages import Tensor, TensorSpec

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
}
BYTES = "BYTES"
MAX_DIMENSIONS = 64  # numpy's own limit
MAX_ELEMENTS = 2**63 - 1
_NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}


def datatype_of(array: Array) -> str:
    """The protocol's name for an array's dtype.

    Raises:
        InvalidRequest: There is none, for complex numbers say.
    """
    name = _NAMES.get(array.dtype.newbyteorder("<"))
    if name is None:
        if array.dtype.kind in "OSU":
            return BYTES
        raise InvalidRequest(f"dtype {array.dtype}: expected one of {', '.join(DTYPES)} or bytes")
    return name


def element_bytes(datatype: str) -> int:
    """Bytes of one element; 0 for BYTES, whose elements vary.

    Raises:
        InvalidRequest: No such datatype.
    """
    if datatype == BYTES:
        return 0
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise InvalidRequest(f"datatype: expected one of {', '.join(DTYPES)} or BYTES, found {datatype!r}")
    return dtype.itemsize


def count_elements(name: str, shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has.

    Raises:
        InvalidRequest: No tensor can have this shape.
    """
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidRequest(f"tensor {name!r}: expected at most {MAX_DIMENSIONS} dimensions, found {len(shape)}")
    if any(d < 0 for d in shape):
        raise InvalidRequest(f"tensor {name!r}: shape {list(shape)} has a negative dimension")
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise InvalidRequest(f"tensor {name!r}: expected at most 2^63 - 1 elements, found shape {list(shape)}")
    return count


def check_size(name: str, datatype: str, shape: Sequence[int], found_bytes: int) -> None:
    """Compare a tensor's declared shape with the bytes that came.

    Raises:
        InvalidRequest: A dimension is negative, the datatype unknown or the size another.
    """
    count, size = count_elements(name, shape), element_bytes(datatype)
    if size and count * size != found_bytes:
        raise InvalidRequest(
            f"tensor {name!r}: expected {count * size} bytes for {datatype} {list(shape)}, found {found_bytes}"
        )


def to_bytes(array: Array) -> memoryview | bytes:
    """The array's bytes, without a copy where it is contiguous and little-endian already."""
    if array.dtype.kind in "OSU":
        return encode_strings(array.ravel().tolist())
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: memoryview | bytes) -> Array:
    """A read-only view of the bytes as an array of this datatype and shape; BYTES becomes an object array.

    Raises:
        InvalidRequest: Sizes do not match.
    """
    if datatype == BYTES:
        return decode_strings(name, shape, data)
    check_size(name, datatype, shape, len(data))
    return np.frombuffer(data, DTYPES[datatype]).reshape(shape)


def encode_strings(items: Iterable[bytes | str]) -> bytes:
    """BYTES elements, each behind its 4-byte little-endian length."""
    parts: list[bytes] = []
    for item in items:
        raw = item.encode() if isinstance(item, str) else bytes(item)
        parts += (len(raw).to_bytes(4, "little"), raw)
    return b"".join(parts)


def decode_strings(name: str, shape: Sequence[int], data: memoryview | bytes) -> Array:
    """The elements of a BYTES tensor as an object array of bytes.

    Raises:
        InvalidRequest: Lengths and bytes do not match, or there are more or fewer elements than the shape holds.
    """
    view, at = memoryview(data), 0
    items: list[bytes] = []
    expected = count_elements(name, shape)
    while at < len(view):
        size = int.from_bytes(view[at : at + 4], "little")
        if at + 4 + size > len(view) or len(items) >= expected:
            raise InvalidRequest(f"tensor {name!r}: BYTES lengths do not match the {len(view)} bytes for {list(shape)}")
        items.append(bytes(view[at + 4 : at + 4 + size]))
        at += 4 + size
    if len(items) != expected:
        raise InvalidRequest(f"tensor {name!r}: expected {expected} BYTES elements, found {len(items)}")
    array = np.empty(expected, object)
    array[:] = items
    return array.reshape(shape)


def rows_and_key(tensors: Sequence[Tensor]) -> tuple[int, str]:
    """How many rows a request has, and what must be equal for two requests to be stacked.

    Rows is the common length of the leading axes; 1 where they differ or a picture is encoded.
    """
    leading = {t.shape[0] if t.shape and not t.encoding else 1 for t in tensors}
    rows = leading.pop() if len(leading) == 1 else 1
    key = ";".join(
        f"{t.name}:{t.datatype}:{t.encoding and 'P'}{','.join(map(str, t.shape if t.encoding else t.shape[1:]))}"
        for t in tensors
    )
    return rows, key


def check_outputs(outputs: Sequence[str]) -> None:
    """See that each output is wanted once: every mention would be a copy in the answer.

    Raises:
        InvalidRequest: One is named twice.
    """
    if len(outputs) > 1 and len(set(outputs)) != len(outputs):
        twice, times = Counter(outputs).most_common(1)[0]
        raise InvalidRequest(f"output {twice[:256]!r}: expected once, found {times} times")


def check_against(specs: Sequence[TensorSpec], tensors: Sequence[Tensor]) -> None:
    """Compare a request's tensors with the model's declared inputs.

    Raises:
        InvalidRequest: One is missing, unknown, given twice, or of another datatype or shape.
    """
    declared = {s.name: s for s in specs}
    seen: set[str] = set()
    for tensor in tensors:
        spec = declared.get(tensor.name)
        if spec is None:
            raise InvalidRequest(f"input {tensor.name!r}: expected one of {', '.join(declared)}, found {tensor.name!r}")
        if tensor.name in seen:
            raise InvalidRequest(f"input {tensor.name!r}: expected once, found twice")
        seen.add(tensor.name)
        if tensor.datatype != spec.datatype:
            raise InvalidRequest(f"input {tensor.name!r}: expected datatype {spec.datatype}, found {tensor.datatype}")
        fits = len(tensor.shape) == len(spec.shape) and all(
            want in (-1, have) for want, have in zip(spec.shape, tensor.shape, strict=True)
        )
        if not fits:
            raise InvalidRequest(
                f"input {tensor.name!r}: expected shape {list(spec.shape)}, found {list(tensor.shape)}"
            )
    missing = [name for name in declared if name not in seen]
    if missing:
        raise InvalidRequest(f"input {missing[0]!r}: expected, not found in the request")
