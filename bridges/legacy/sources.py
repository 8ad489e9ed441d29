"""Which sequence a request of the first Inferoxy continues: there a source was the sequence, and nobody began one.

Pure. A source's first request goes alone and asks to be the next step of a living sequence, which another bridge may
have begun; when there is none it goes again and begins one. From then on requests follow as they come. When the
sequence turns out to have ended, by idleness or with the model's process, they go again in their order and begin the
next: the first Inferoxy said nothing of such ends either.
Invariants: the requests of a source are given to be sent in the order in which they came, when sent again too; of a
source whose sequence is uncertain one request at most is under way; a request goes again at most once.
"""

from bisect import insort
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from inferoxy.errors import Code

MAX_SOURCES = 10_000  # that are remembered while nothing of them is under way

Key = tuple[str, str]  # model and source

_IS_OVER = frozenset({Code.SEQUENCE_LOST, Code.SEQUENCE_UNKNOWN})
# Of a first step: it stays open whether the model will see it. All other errors mean that the sequence never began.
_UNCERTAIN = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED})
# Answers that say that a sequence lives: the model has seen the step.
_SEEN = frozenset({"", Code.MODEL_ERROR})


class State(Enum):
    """What is known of a source's sequence. From each state to each other, by what is answered."""

    UNKNOWN = "unknown"  # it may live
    NONE = "none"  # it does not
    ASKED = "asked"  # a request is under way that will tell
    LIVES = "lives"


@dataclass(order=True, slots=True)
class Step:
    """One request of a source. `starts` holds when it is given to be sent; with `is_again` it does not go again."""

    number: int
    key: Key = field(compare=False)
    request: Any = field(compare=False)
    starts: bool = field(default=False, compare=False)
    is_again: bool = field(default=False, compare=False)


class _Source:
    __slots__ = ("open", "state", "waiting")

    def __init__(self) -> None:
        self.state = State.UNKNOWN
        self.waiting: list[Step] = []
        self.open: set[int] = set()


class Sources:
    """The sources of all clients of a bridge."""

    def __init__(self) -> None:
        self._sources: OrderedDict[Key, _Source] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, key: Key, request: Any) -> tuple[Step, list[Step]]:
        """A request has come; returns its step, and the steps to send now."""
        self._count += 1
        step = Step(self._count, key, request)
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = _Source()
            self._sweep()
        self._sources.move_to_end(key)
        source.waiting.append(step)
        return step, self._due(source)

    def answered(self, step: Step, code: str) -> tuple[bool, list[Step]]:
        """A step has its final answer, `code` empty for success.

        Returns:
            Whether its client gets it; else the step waits to go again. And the steps to send now.
        """
        source = self._sources[step.key]
        source.open.discard(step.number)
        goes_again = not step.is_again and code in _IS_OVER
        if goes_again:
            step.is_again = True
            insort(source.waiting, step)
        if code in _IS_OVER or (step.starts and code and code not in _UNCERTAIN):
            source.state = State.NONE
        elif source.state is State.ASKED:
            source.state = State.LIVES if code in _SEEN else State.UNKNOWN
        return not goes_again, self._due(source)

    def drop(self, step: Step) -> list[Step]:
        """Nobody waits for a step any more; returns the steps to send now."""
        source = self._sources.get(step.key)
        if source is None:
            return []
        if step in source.waiting:
            source.waiting.remove(step)
        elif step.number in source.open:
            source.open.discard(step.number)
            if source.state is State.ASKED:
                source.state = State.UNKNOWN
        return self._due(source)

    def _due(self, source: _Source) -> list[Step]:
        due: list[Step] = []
        while source.waiting:
            if source.state is not State.LIVES and (source.open or source.state is State.ASKED):
                break
            step = source.waiting.pop(0)
            step.starts = source.state is State.NONE
            source.state = State.ASKED if source.state is State.UNKNOWN else State.LIVES
            source.open.add(step.number)
            due.append(step)
        return due

    def _sweep(self) -> None:
        for key in list(self._sources)[: max(0, len(self._sources) - MAX_SOURCES)]:
            source = self._sources[key]
            if not source.open and not source.waiting and key != next(reversed(self._sources)):
                del self._sources[key]
