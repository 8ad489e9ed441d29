"""What the clients of a crowd have in common: what they are given, and what they say became of one request."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tests.drill.flows import CONNECTION, GRACE_S, LOST, RIGHT, WRONG
from tests.drill.questions import Question, Reply, Sequence, doubled, elements_of, fault_of

__all__ = ["CONNECTION", "GRACE_S", "LOST", "RIGHT", "WRONG"]
TIMEOUT_S = 20.0
SIDES = (24, 32)  # height and width of pictures


class Said(NamedTuple):
    """What became of one exchange: RIGHT, or a code and what is wrong."""

    code: str = RIGHT
    why: str = ""


@dataclass
class Place:
    """Where the stack is, and numbers that nobody else in the crowd has."""

    addresses: dict[str, str]
    first: int
    numbers: "itertools.count[int]" = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = itertools.count(self.first)


Turn = Callable[[], Awaitable[Said]]  # one exchange of one client; it has a connection of its own


def double(number: int, count: int = 16) -> Question:
    """A request to the model `double` that is like no other."""
    elements = elements_of(number, count)
    return Question("double", (1, count), elements.tobytes(), doubled(elements).tobytes(), TIMEOUT_S)


def judged(question: Question, reply: Reply) -> Said:
    """Whether a reply is the right one."""
    if reply.code:
        return Said(reply.code, reply.error)
    fault = fault_of(question, reply)
    return Said(WRONG, fault) if fault else Said()


def steps(place: Place, count: int) -> list[Question]:
    """A whole sequence for the model `sum`: each step's answer is the sum of all so far."""
    sequence_id = next(place.numbers)
    total = elements_of(0, 16) * 0
    made = []
    for step in range(count):
        elements = elements_of(next(place.numbers), 16)
        total = total + elements
        where = Sequence(sequence_id, step == 0, step == count - 1)
        made.append(Question("sum", elements.shape, elements.tobytes(), total.tobytes(), TIMEOUT_S, 0, where))
    return made


def picture(number: int) -> "np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]":
    """An RGB picture that is like no other."""
    height, width = SIDES
    flat = elements_of(number, height * width * 3 // 4).view(np.uint8)
    return flat.reshape(height, width, 3)


def fault_of_look(prediction: object, number: int) -> str:
    """What is wrong with what the model `look` said of picture `number`, posted with mark=number."""
    image = picture(number)
    expected = {"shape": list(image.shape), "sum": int(image.sum(dtype=np.int64)), "mark": number}
    return "" if prediction == expected else f"expected {expected}, found {prediction}"
