"""The arrays and numbers of numpy inside a pickle, made without numpy's own way of reading them.

Pure. A pickle says "make an empty array" and then "this is its state"; between the two the array is Pending. `settle`
puts arrays in the place of what is pending, and measures the whole, because a pickle can name one value many times.
Invariant: an array has numbers of DTYPES, and exactly the bytes that its shape needs.
"""

import math
from abc import ABC, abstractmethod
from enum import Enum
from typing import Any

import numpy as np

from inferoxy.errors import InvalidRequest
from inferoxy.tensors import Array

MAX_DEPTH = 32  # of lists in lists
MAX_DIMENSIONS = 32

# The codes that numpy gives its types by, little-endian or of one byte.
DTYPES = ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
_ORDERS = ("<", ">", "|", "=")

Plain = Any


class Function(Enum):
    """What a pickle may name."""

    NDARRAY = "ndarray"
    DTYPE = "dtype"
    RECONSTRUCT = "_reconstruct"
    SCALAR = "scalar"
    FROM_BUFFER = "_frombuffer"
    ENCODE = "encode"  # bytes, in protocols that have none of their own
    BYTES = "bytes"


FUNCTIONS: dict[tuple[str, str], Function] = {
    ("numpy", "ndarray"): Function.NDARRAY,
    ("numpy", "dtype"): Function.DTYPE,
    ("_codecs", "encode"): Function.ENCODE,
    ("builtins", "bytearray"): Function.BYTES,
    ("__builtin__", "bytearray"): Function.BYTES,
    ("__builtin__", "bytes"): Function.BYTES,
    ("builtins", "bytes"): Function.BYTES,
}
for _package in ("numpy.core", "numpy._core"):  # its name before and since numpy 2
    FUNCTIONS[f"{_package}.multiarray", "_reconstruct"] = Function.RECONSTRUCT
    FUNCTIONS[f"{_package}.multiarray", "scalar"] = Function.SCALAR
    FUNCTIONS[f"{_package}.numeric", "_frombuffer"] = Function.FROM_BUFFER


class Budget:
    """How many bytes may still be made. What is read from the pickle itself costs nothing: it is there."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def spend(self, size: int) -> None:
        """Take so many bytes.

        Raises:
            InvalidRequest: They are not left.
        """
        self._left -= size
        if self._left < 0:
            raise InvalidRequest(
                f"pickle: expected at most {self._limit} bytes, each part counted as often as it is named, found more"
            )


class Pending(ABC):
    """Something of numpy whose state may still come."""

    @abstractmethod
    def build(self, state: Any, budget: Budget) -> None:
        """Take the state over.

        Raises:
            InvalidRequest: It is none that numpy gives.
        """


class Dtype(Pending):
    """A type; its state says in which order bytes stand."""

    def __init__(self, code: str) -> None:
        if code not in DTYPES:
            raise InvalidRequest(f"pickle: expected an array of one of {', '.join(DTYPES)}, found {shown(code)}")
        self.dtype = np.dtype(code)

    def build(self, state: Any, budget: Budget) -> None:
        is_known = type(state) is tuple and 5 <= len(state) <= 9 and type(state[1]) is str and state[1] in _ORDERS
        if not is_known or any(extra is not None for extra in state[2:5]):
            raise InvalidRequest("pickle: expected a plain type of numbers, found one with fields")
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class PendingArray(Pending):
    """An array that is empty until its state comes."""

    def __init__(self) -> None:
        self.array: Array | None = None

    def build(self, state: Any, budget: Budget) -> None:
        if type(state) is not tuple or len(state) != 5 or not isinstance(state[2], Dtype):
            raise InvalidRequest("pickle: expected the state of an array, found another")
        _, shape, kind, is_fortran, data = state
        self.array = _array(data, kind, shape, "F" if is_fortran is True else "C", budget)


def shown(value: Any) -> str:
    """A value for a message: whole only where that is short, since one can be larger than all memory."""
    return repr(value[:60]) if type(value) is str else type(value).__name__


def call(function: Function, arguments: tuple[Any, ...], budget: Budget) -> Any:
    """What a call in a pickle gives.

    Raises:
        InvalidRequest: It is none that numpy or Python writes for numbers, arrays and bytes, or makes too much.
    """
    # Only types and texts are compared: what else may stand here compares in ways of its own.
    match function, arguments:
        case Function.RECONSTRUCT, (Function() as kind, tuple() as shape, _) if _is_empty_array(kind, shape):
            return PendingArray()
        case Function.DTYPE, (str() as code, *_):
            return Dtype(code)
        case Function.SCALAR, (Dtype() as kind, bytes() as data):
            return _array(data, kind, (), "C", budget).item()
        case Function.FROM_BUFFER, (bytes() as data, Dtype() as kind, shape, str() as order):
            return _array(data, kind, shape, order, budget)
        case Function.FROM_BUFFER, (bytes() as data, Dtype() as kind, shape, str() as order, None):
            return _array(data, kind, shape, order, budget)
        case Function.FROM_BUFFER, (bytes() as data, Dtype() as kind, shape, str() as order, tuple() as axes):
            return _transposed(_array(data, kind, shape, "C", budget), axes) if order == "K" else _refused(function)
        case Function.ENCODE, (str() as text, str() as coding) if coding == "latin1":
            budget.spend(len(text))
            try:
                return text.encode("latin1")
            except UnicodeEncodeError as exc:
                raise InvalidRequest(f"pickle: expected bytes as latin1 text ({exc.reason})") from exc
        case Function.BYTES, (bytes() as data,):
            return data
        case Function.BYTES, ():
            return b""
    return _refused(function)


def settle(value: Any, limit: int) -> Plain:
    """A value with arrays where they were pending.

    Args:
        value: What a pickle made.
        limit: How large it may be when each value counts wherever it is named: its bytes, and one for every value.

    Raises:
        InvalidRequest: It is larger, too deep, contains itself, or holds a type or function instead of a value.
    """
    return _settle(value, Budget(limit), 0)


def _settle(value: Any, budget: Budget, depth: int) -> Plain:
    budget.spend(1)
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"pickle: expected lists nested at most {MAX_DEPTH} deep, found deeper ones")
    kind = type(value)
    if kind is str or kind is bytes:
        budget.spend(len(value))
    elif kind is dict:
        budget.spend(sum(len(key) for key in value if isinstance(key, str | bytes)))
        return {key: _settle(item, budget, depth + 1) for key, item in value.items()}
    elif kind is list:
        if value and all(type(item) is int for item in value):  # a picture, perhaps
            budget.spend(len(value))
            return value
        return [_settle(item, budget, depth + 1) for item in value]
    elif kind is tuple:
        return tuple(_settle(item, budget, depth + 1) for item in value)
    elif kind is PendingArray or kind is np.ndarray:
        array = value.array if kind is PendingArray else value
        if array is None:
            raise InvalidRequest("pickle: expected the state of an array, found none")
        budget.spend(array.nbytes)
        return array
    elif isinstance(value, Pending | Enum):
        raise InvalidRequest("pickle: expected values, found the name of a type or function")
    return value


def _is_empty_array(kind: Function, shape: tuple[Any, ...]) -> bool:
    return kind is Function.NDARRAY and len(shape) == 1 and type(shape[0]) is int and shape[0] == 0


def _refused(function: Function) -> Any:
    found = f"a call of {function.value} that makes another"
    raise InvalidRequest(f"pickle: expected plain values and arrays, found {found}")


def _array(data: Any, kind: Dtype, shape: Any, order: str, budget: Budget) -> Array:
    if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS or not all(type(d) is int and d >= 0 for d in shape):
        raise InvalidRequest(f"pickle: expected the shape of an array, found {shown(shape)}")
    if order not in ("C", "F"):
        raise InvalidRequest(f"pickle: expected the order C or F of an array, found {shown(order)}")
    expected = math.prod(shape) * kind.dtype.itemsize
    if type(data) is not bytes or len(data) != expected:
        found = len(data) if type(data) is bytes else shown(data)
        raise InvalidRequest(f"pickle: expected {expected} bytes for an array {list(shape)}, found {found}")
    array = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")
    if array.dtype.isnative:
        return array
    budget.spend(array.nbytes)
    return array.astype(array.dtype.newbyteorder("<"))


def _transposed(array: Array, axes: tuple[Any, ...]) -> Array:
    is_order = len(axes) == array.ndim and all(type(axis) is int for axis in axes)
    if not is_order or sorted(axes) != list(range(array.ndim)):
        raise InvalidRequest(f"pickle: expected the {array.ndim} axes of an array, found others")
    return array.transpose(axes)
