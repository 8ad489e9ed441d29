"""`AsyncSequence`: the requests of one sequence, for the tasks of one event loop. sequence.py says how it behaves.

Invariant: one call at a time, and behind an open `map` none.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from numpy.typing import ArrayLike

from inferoxy import messages as m
from inferoxy.client.arguments import (
    Draw,
    arrays_of,
    behind_the_first,
    check_draw,
    check_window,
    new_request_id,
    plain,
)
from inferoxy.client.calls import Call, ClientProtocol, ConnectionFailed, Steps, conclude, drive_async
from inferoxy.client.pictures import LoadedPicture, Source, is_at_hand, load
from inferoxy.client.protocols import AwaitedPipeliningTransport, AwaitedTransport
from inferoxy.client.results import Detections, InferResult, Prediction, last_prediction, last_result
from inferoxy.client.sequence import MAP_WINDOW, QUICK_S
from inferoxy.client.sequence_state import SequenceState
from inferoxy.errors import InferoxyError, InvalidRequest, SequenceLost

T = TypeVar("T")
_NO_MORE = object()


async def load_async(source: Source) -> LoadedPicture:
    """The picture as it will travel; files are read in another thread."""
    return load(source) if is_at_hand(source) else await asyncio.to_thread(load, source)


class AsyncSequence:
    """`Sequence` with methods to await; for one task at a time."""

    def __init__(
        self, protocol: ClientProtocol, transport: AwaitedTransport, template: Call, sequence_id: int | str
    ) -> None:
        self._protocol = protocol
        self._transport = transport
        self._template = template
        self._state = SequenceState(sequence_id)
        self._is_taken = False
        self._mapping: Callable[[], _Mapping | None] = lambda: None
        self._is_closed = False

    @property
    def id(self) -> int | str:
        """What the server and the model know it by."""
        return self._state.id

    @property
    def model(self) -> str:
        """The model's name."""
        return self._template.model

    async def predict(self, picture: Source, /, *, draw: Draw = "", **parameters: Any) -> Detections | Prediction:
        """See Sequence.predict."""
        return last_prediction(await self.predict_all(picture, draw=draw, **parameters))

    async def predict_all(
        self, picture: Source, /, *, draw: Draw = "", **parameters: Any
    ) -> list[Detections | Prediction]:
        """See Sequence.predict_all."""
        check_draw(draw)
        with self._one_at_a_time():
            loaded = await load_async(picture)
            return await self._begin_prediction(loaded, draw, parameters).result()

    async def infer(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Items[str] = (),
    ) -> InferResult:
        """See Sequence.infer."""
        return last_result(await self.infer_all(inputs, parameters=parameters, outputs=outputs))

    async def infer_all(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Items[str] = (),
    ) -> list[InferResult]:
        """See Sequence.infer_all."""
        with self._one_at_a_time():
            arrays, wanted = arrays_of(inputs), list(outputs)
            return await self._begin(
                lambda call: self._protocol.infer_all(call, arrays, wanted), parameters or {}
            ).result()

    def map(
        self,
        pictures: Iterable[Source] | AsyncIterable[Source],
        /,
        *,
        window: int = MAP_WINDOW,
        draw: Draw = "",
        **parameters: Any,
    ) -> AsyncIterator[Detections | Prediction]:
        """See Sequence.map; the pictures may also come from an asynchronous iterable."""
        check_draw(draw)
        check_window(window)
        if not isinstance(self._transport, AwaitedPipeliningTransport):
            window = 1
        rest = behind_the_first(parameters)

        def begin(loaded: LoadedPicture, is_first: bool) -> "_UnderWay[list[Detections | Prediction]]":
            return self._begin_prediction(loaded, draw, parameters if is_first else rest)

        mapping = _Mapping(self, pictures, window, begin)
        self._mapping = weakref.ref(mapping)
        return mapping

    async def close(self) -> None:
        """See Sequence.close."""
        await self._close(self._template.timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
            return
        try:
            await self._close(QUICK_S)
        except InferoxyError:  # what has happened before matters more
            pass

    def __repr__(self) -> str:
        return f"AsyncSequence({self.model!r}, {self.id!r})"

    def _take_turn(self) -> None:
        """Begin a call.

        Raises:
            InvalidRequest: Another is under way, or the sequence is closed.
        """
        if self._is_taken:
            raise InvalidRequest(
                f"sequence {self.id!r}: expected one call at a time, found another under way, or a map"
            )
        if self._is_closed:
            raise InvalidRequest(f"sequence {self.id!r}: expected it open, found it closed")
        self._is_taken = True

    def _give_turn(self) -> None:
        """The call is over."""
        self._is_taken = False

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        self._take_turn()
        try:
            yield
        finally:
            self._give_turn()

    def _begin(self, operation: Callable[[Call], Steps[T]], parameters: Mapping[str, Any]) -> "_UnderWay[T]":
        call = self._template._replace(parameters=plain(parameters), request_id=new_request_id())
        return _UnderWay(self._state, self._transport, operation, call)

    def _begin_prediction(
        self, loaded: LoadedPicture, draw: Draw, parameters: Mapping[str, Any]
    ) -> "_UnderWay[list[Detections | Prediction]]":
        return self._begin(lambda call: self._protocol.predict_all(call, loaded, draw), parameters)

    async def _close(self, timeout_s: float) -> None:
        mapping = self._mapping()
        if mapping is not None:
            await mapping.aclose()
        if self._is_closed:
            return
        with self._one_at_a_time():
            self._is_closed = True
            if not self._state.may_live:
                return
            call = self._template._replace(
                timeout_s=timeout_s, request_id=new_request_id(), sequence=self._state.last_step()
            )
            try:
                await drive_async(self._protocol.end(call), self._transport.exchange)
            except (SequenceLost, ConnectionFailed):  # it has ended, or will by idleness
                pass


class _UnderWay(Generic[T]):
    """One step, sent when it is made if the connection keeps order, else when its result is asked for."""

    def __init__(
        self,
        state: SequenceState,
        transport: AwaitedTransport,
        operation: Callable[[Call], Steps[T]],
        call: Call,
    ) -> None:
        self._state = state
        self._transport = transport
        self._step: m.Sequence = state.next_step()
        self._steps = operation(call._replace(sequence=self._step))
        self._asked = None
        if isinstance(transport, AwaitedPipeliningTransport):
            with state.noting(self._step):
                self._asked = transport.begin(next(self._steps))

    @property
    def is_done(self) -> bool:
        """Whether `result` would not wait."""
        return self._asked is not None and self._asked.outcome.done()

    async def result(self) -> T:
        """Wait for it.

        Raises:
            InferoxyError: What happened instead.
        """
        with self._state.noting(self._step):
            answer = await self._wait()
        self._state.answered(self._step)
        return answer

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if self._asked is not None:
            self._asked.abandon()
        self._steps.close()
        self._state.abandoned(self._step)

    async def _wait(self) -> T:
        if self._asked is None:
            return await drive_async(self._steps, self._transport.exchange)
        try:
            reply = await self._asked.outcome
        except InferoxyError as exc:
            return conclude(self._steps, None, exc)
        finally:
            self._asked.abandon()  # if the waiting task was cancelled
        return conclude(self._steps, reply)


class _Mapping(AsyncIterator[Detections | Prediction]):
    """The answers of AsyncSequence.map.

    No asynchronous generator, because one that is left early ends only some time later.
    """

    def __init__(
        self,
        sequence: AsyncSequence,
        pictures: Iterable[Source] | AsyncIterable[Source],
        window: int,
        begin: Callable[[LoadedPicture, bool], _UnderWay[list[Detections | Prediction]]],
    ) -> None:
        self._sequence = sequence
        self._pictures = pictures
        self._window = window
        self._begin = begin
        self._next: Callable[[], Any] | None = None
        self._under_way: deque[_UnderWay[list[Detections | Prediction]]] = deque()
        self._has_begun = False
        self._has_turn = False
        self._is_over = False
        self._is_running = False

    async def __anext__(self) -> Detections | Prediction:
        if self._is_over:
            raise StopAsyncIteration
        if self._is_running:
            raise InvalidRequest(f"sequence {self._sequence.id!r}: expected one task to iterate over map, found two")
        self._is_running = True
        try:
            if not self._has_turn:
                self._sequence._take_turn()
                self._has_turn = True
            while len(self._under_way) < self._window and not (self._under_way and self._under_way[0].is_done):
                picture = await self._take()
                if picture is _NO_MORE:
                    break
                self._under_way.append(self._begin(await load_async(picture), not self._has_begun))
                self._has_begun = True
            if self._under_way:
                return last_prediction(await self._under_way.popleft().result())
        except BaseException:
            self._end()
            raise
        finally:
            self._is_running = False
        self._end()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Take back what is under way."""
        if self._is_running:
            raise InvalidRequest(f"sequence {self._sequence.id!r}: expected map to be at rest when it is closed")
        self._end()

    def __del__(self) -> None:
        self._end()

    async def _take(self) -> Any:
        """The next picture, or _NO_MORE."""
        if isinstance(self._pictures, AsyncIterable):
            if self._next is None:
                self._next = aiter(self._pictures).__anext__
            try:
                return await self._next()
            except StopAsyncIteration:
                return _NO_MORE
        if self._next is None:
            self._next = iter(self._pictures).__next__
        try:
            return self._next()
        except StopIteration:
            return _NO_MORE

    def _end(self) -> None:
        self._is_over = True
        while self._under_way:
            self._under_way.popleft().abandon()
        if self._has_turn:
            self._has_turn = False
            self._sequence._give_turn()
