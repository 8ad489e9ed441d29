"""Many requests of one kind: which are under way, whose answer is next, and what becomes of a failure.

No socket, no thread, no loop: Client and AsyncClient ask `Flow` what to do next, and wait in their own ways.
Invariants: at most `window` requests are under way; items come in the order of their sources; a source is taken only
when there is room for it, so that a long video or a large folder is never held.
"""

import os
from collections import deque
from collections.abc import AsyncIterable, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from inferoxy.client.pictures import Source
from inferoxy.client.results import Detections, InferResult, Prediction
from inferoxy.errors import InferoxyError, InvalidRequest

WINDOW = 16  # enough for full batches, far below queue limits
SLOW_SOURCE_S = (
    0.005  # a source that is waited for so long is a camera or a decoder, whose answers shall not lag behind
)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

Folder = str | os.PathLike[str]
T = TypeVar("T")


class Item(NamedTuple):
    """What became of one picture: either `answer` or `error` is None."""

    source: Source
    answer: Detections | Prediction | None
    error: InferoxyError | OSError | None


class InferItem(NamedTuple):
    """What became of one request's tensors: either `answer` or `error` is None."""

    source: Mapping[str, ArrayLike]
    answer: InferResult | None
    error: InferoxyError | None


class Outcome(Protocol):
    """A future, of threads or of asyncio."""

    def done(self) -> bool:
        """Whether its result can be had without waiting."""


F = TypeVar("F", bound=Outcome)


class Flow(Generic[T, F]):
    """The requests under way, oldest first.

    Args:
        window: The most that may be under way.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._under_way: deque[tuple[T, F]] = deque()
        self._gives = 0  # answers that may be given before the next source is taken, if they are there
        self._is_exhausted = False

    @property
    def wants_source(self) -> bool:
        """Whether to take the next source now, rather than to give the oldest answer."""
        if self._is_exhausted or len(self._under_way) >= self._window:
            return False
        return not (self._gives and self._under_way and self._under_way[0][1].done())

    @property
    def oldest(self) -> tuple[T, F] | None:
        """The request whose answer is next; None: all have been given."""
        return self._under_way[0] if self._under_way else None

    def put(self, source: T, outcome: F, took_s: float) -> None:
        """A source was taken, after waiting so long for it, and its request sent."""
        self._under_way.append((source, outcome))
        # One answer for each source keeps the window full; where sources are slow it never is, so nothing is held back.
        self._gives = len(self._under_way) if took_s > SLOW_SOURCE_S else 1

    def exhaust(self) -> None:
        """There are no more sources."""
        self._is_exhausted = True

    def pop(self) -> None:
        """The oldest answer is given."""
        self._under_way.popleft()
        self._gives = max(0, self._gives - 1)

    def abandon(self) -> list[F]:
        """Nobody waits any more; what is to be taken back."""
        self._is_exhausted = True
        left = [outcome for _, outcome in self._under_way]
        self._under_way.clear()
        return left


def pictures_of(sources: Iterable[Source] | Folder) -> Iterable[Source]:
    """What is to be sent: a folder's pictures, or what there is to iterate over.

    Raises:
        InvalidRequest: It is one picture, or a path that is no folder.
    """
    if isinstance(sources, str | os.PathLike):
        return pictures_in(sources)
    _check_iterable(sources)
    return sources


def any_pictures_of(
    sources: Iterable[Source] | AsyncIterable[Source] | Folder,
) -> Iterable[Source] | AsyncIterable[Source]:
    """The same, where they may also come from an asynchronous iterable."""
    return sources if isinstance(sources, AsyncIterable) else pictures_of(sources)


def pictures_in(folder: Folder) -> list[Path]:
    """A folder's picture files, those of its folders included, sorted; names that begin with a dot are left out.

    Raises:
        InvalidRequest: It is no folder.
    """
    root = Path(folder)
    if not root.is_dir():
        found = "a file: give [path]" if root.exists() else "nothing there"
        raise InvalidRequest(
            f"sources: expected a folder or an iterable of pictures, found {os.fspath(folder)!r}, {found}"
        )
    found_files: list[Path] = []
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found_files += [
            Path(place, name) for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES)
        ]
    return sorted(found_files)


def inputs_of(batches: Iterable[Mapping[str, ArrayLike]]) -> Iterable[Mapping[str, ArrayLike]]:
    """The inputs of each request.

    Raises:
        InvalidRequest: It is one request's, or nothing to iterate over.
    """
    if isinstance(batches, Mapping | str | bytes) or not isinstance(batches, Iterable):
        raise InvalidRequest(f"batches: expected an iterable of inputs by name, found {type(batches).__name__}")
    return batches


def any_inputs_of(
    batches: Iterable[Mapping[str, ArrayLike]] | AsyncIterable[Mapping[str, ArrayLike]],
) -> Iterable[Mapping[str, ArrayLike]] | AsyncIterable[Mapping[str, ArrayLike]]:
    """The same, where they may also come from an asynchronous iterable."""
    return batches if isinstance(batches, AsyncIterable) else inputs_of(batches)


def count_of(sources: object) -> int | None:
    """How many there are, where that is known without taking them."""
    return len(sources) if isinstance(sources, Sized) else None


def item_error(exc: BaseException) -> InferoxyError | OSError | None:
    """The failure as it stands in an item; None: it is not one source's alone, and is to be raised."""
    if isinstance(exc, InferoxyError) and isinstance(exc, ConnectionError):
        return None  # the server is lost or cannot be reached: the other sources would only say the same
    return exc if isinstance(exc, InferoxyError | OSError) else None


def _check_iterable(sources: Any) -> None:
    kind = type(sources).__name__
    is_one_array = isinstance(sources, np.ndarray) and sources.ndim <= 3
    is_picture = is_one_array or isinstance(sources, bytes | bytearray | memoryview)
    if is_picture or isinstance(sources, Mapping) or not isinstance(sources, Iterable):
        raise InvalidRequest(f"sources: expected a folder or an iterable of pictures, found {kind}")
