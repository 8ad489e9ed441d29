"""Requests that are like no other, and whether an answer is exactly the one to them.

Every element of a request depends on its number, so that an answer to another request, of another size, or with some
bytes of another one in it is found out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

INPUT, OUTPUT, DATATYPE = "INPUT", "OUTPUT", "INT32"
_SPREAD, _STEP, _MASK = 2_654_435_761, 2_246_822_519, 0xFFFFFFFF

Elements = NDArray[np.int32]


class Sequence(NamedTuple):
    """A request's place in a sequence."""

    id: int
    start: bool
    end: bool


class Question(NamedTuple):
    """One request. `expected` are the elements of its answer."""

    model: str
    shape: tuple[int, ...]
    data: bytes
    expected: bytes
    timeout_s: float
    priority: int = 0
    sequence: Sequence | None = None


class Reply(NamedTuple):
    """One answer; `code` is empty for success."""

    code: str
    error: str = ""
    name: str = ""
    datatype: str = ""
    shape: tuple[int, ...] = ()
    data: bytes = b""
    retry_after: bool = False


def elements_of(number: int, count: int, mark: int = 0) -> Elements:
    """The elements of request `number`; the first is the mark or, without one, the number itself."""
    made = np.arange(count, dtype=np.uint32) * np.uint32(_SPREAD) + np.uint32(number * _STEP & _MASK)
    elements = made.view(np.int32)
    elements[0] = mark or number
    return elements


def doubled(elements: Elements) -> Elements:
    """What the model `double` answers."""
    with np.errstate(over="ignore"):
        return elements * np.int32(2)


def fault_of(question: Question, reply: Reply) -> str:
    """What is wrong with an answer that was no error; empty when it is the right one."""
    found = (reply.name, reply.datatype, reply.shape)
    expected = (OUTPUT, DATATYPE, question.shape)
    if found != expected:
        return f"expected {expected}, found {found}"
    if reply.data != question.expected:
        wrong = sum(a != b for a, b in zip(reply.data, question.expected, strict=False))
        return f"{wrong} of {len(question.expected)} bytes are not those of the answer ({len(reply.data)} bytes came)"
    return ""
