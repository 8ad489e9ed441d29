"""Join requests along axis 0 and give each its own rows of the result.

Pure. A batch is assembled once: the bytes of every request are copied straight to their place in the input array.
Hot path: per request nothing is done but copying its bytes.
Invariant: the parts that `Snapshot.split` cuts are, in order and number of rows, the requests that `join` put together.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferoxy import tensors as tensor_rules
from inferoxy.errors import ModelError
from inferoxy.messages import TensorSpec
from inferoxy.runtime.buffers import SMALL_BYTES
from inferoxy.runtime.sdk import Array

Chunk = Any  # bytes, memoryview or a contiguous array: whatever offers the buffer protocol
Take = Callable[[int], NDArray[np.uint8]]


def join(
    chunks: Sequence[Chunk], datatype: str, rows: Sequence[int], shape: Sequence[int], take: Take, writable: bool
) -> Array:
    """One input of a batch.

    Args:
        chunks: Each request's bytes, or its array where it has been decoded.
        datatype: Of all of them.
        rows: Length of each request's batch axis.
        shape: Dimensions behind the batch axis.
        take: Where large memory comes from.
        writable: The array must not be a view of what arrived.

    Raises:
        InvalidRequest: The elements of a BYTES tensor do not match its shape.
    """
    dtype = tensor_rules.DTYPES.get(datatype)
    if dtype is None:
        return _join_strings(chunks, rows, shape)
    whole = (sum(rows), *shape)
    if len(chunks) == 1 and not writable:
        return np.frombuffer(chunks[0], dtype).reshape(whole)
    size = prod(whole) * dtype.itemsize
    if size < SMALL_BYTES:
        return np.frombuffer(bytearray().join(chunks), dtype).reshape(whole)
    memory, at = take(size), 0
    for chunk in chunks:
        part = np.frombuffer(chunk, np.uint8)
        memory[at : at + part.size] = part
        at += part.size
    return memory.view(dtype).reshape(whole)


class Snapshot:
    """One output of a batch as it was when the model gave it.

    Args:
        array: [sum(rows), ...], little-endian.
        fresh: Nobody will change the array, so parts of a large one may be views of it.

    Attributes:
        shape: Dimensions behind the batch axis.
    """

    __slots__ = ("_length", "_whole", "shape")

    def __init__(self, array: Array, fresh: bool) -> None:
        self.shape = array.shape[1:]
        self._length = len(array)
        self._whole: bytes | memoryview | list[Any]
        if array.dtype.kind in "OSU":
            self._whole = array.reshape(len(array), prod(self.shape)).tolist()
        elif not fresh or array.nbytes < SMALL_BYTES:
            self._whole = array.tobytes()  # slices of bytes are what ZeroMQ's binding sends fastest
        else:
            self._whole = memoryview(tensor_rules.to_bytes(array))

    def split(self, rows: Sequence[int]) -> list[bytes | memoryview]:
        """The bytes of each request's rows, in order.

        Args:
            rows: Length of each request's batch axis.
        """
        at = 0
        parts: list[bytes | memoryview] = []
        whole = self._whole
        if isinstance(whole, list):
            for count in rows:
                parts.append(tensor_rules.encode_strings(chain.from_iterable(whole[at : at + count])))
                at += count
            return parts
        if len(rows) == 1:
            return [whole]
        row_bytes = len(whole) // self._length
        for count in rows:
            end = at + count * row_bytes
            parts.append(whole[at:end])
            at = end
        return parts


def check(outputs: Any, specs: Sequence[TensorSpec], rows: int) -> dict[str, Array]:
    """The outputs of a stacked model, compared with what it declared.

    Raises:
        ModelError: One is missing, undeclared, or of another datatype, shape or number of rows.
    """
    check_names(outputs, specs)
    checked = {spec.name: as_declared(outputs[spec.name], spec) for spec in specs}
    for name, array in checked.items():
        if len(array) != rows:
            raise ModelError(f"output {name!r}: expected {rows} rows, as many as the inputs, found {len(array)}")
    return checked


def check_names(outputs: Any, specs: Sequence[TensorSpec]) -> None:
    """Compare the names in a model's result with those declared.

    Raises:
        ModelError: It is no dict, or one is missing or undeclared.
    """
    if not isinstance(outputs, dict):
        raise ModelError(f"result: expected a dict of arrays, found {type(outputs).__name__}")
    if len(outputs) != len(specs) or any(spec.name not in outputs for spec in specs):
        found = ", ".join(map(str, outputs)) or "none"
        raise ModelError(f"outputs: expected {', '.join(spec.name for spec in specs)}, found {found}")


def as_declared(value: Any, spec: TensorSpec) -> Array:
    """An output as a little-endian array of its declared datatype; what is no array is converted.

    Raises:
        ModelError: It has another datatype or shape, or cannot be converted.
    """
    array: Array = value if isinstance(value, np.ndarray) else _converted(value, spec)
    expected = tensor_rules.DTYPES.get(spec.datatype)
    if expected is None:
        fits = array.dtype.kind in "OSU"
    else:
        fits = array.dtype == expected
        if not fits and array.dtype.newbyteorder("<") == expected:
            array, fits = array.astype(expected), True
    if not fits:
        raise ModelError(f"output {spec.name!r}: expected {spec.datatype}, found dtype {array.dtype.name}")
    if array.shape != spec.shape and not _fits(array.shape, spec.shape):
        raise ModelError(f"output {spec.name!r}: expected shape {list(spec.shape)}, found {list(array.shape)}")
    return array


def _fits(found: Sequence[int], declared: Sequence[int]) -> bool:
    return len(found) == len(declared) and all(want in (have, -1) for have, want in zip(found, declared, strict=True))


def _join_strings(chunks: Sequence[Chunk], rows: Sequence[int], shape: Sequence[int]) -> Array:
    parts = [
        tensor_rules.decode_strings("", (count, *shape), memoryview(chunk))
        for count, chunk in zip(rows, chunks, strict=True)
    ]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _converted(value: object, spec: TensorSpec) -> Array:
    dtype = None if isinstance(value, np.generic) else tensor_rules.DTYPES.get(spec.datatype, np.dtype(object))
    try:
        return np.asarray(value, dtype)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ModelError(
            f"output {spec.name!r}: expected {spec.datatype} {list(spec.shape)}, found {value!r:.80}"
        ) from exc
