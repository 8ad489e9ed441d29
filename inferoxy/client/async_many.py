"""The items of AsyncClient.predict_many and infer_many, and one request of many as a coroutine.

What is next is many.py's.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Generic, TypeVar

from numpy.typing import ArrayLike

from inferoxy.client.arguments import Draw, arrays_of, new_request_id
from inferoxy.client.async_sequence import load_async
from inferoxy.client.calls import Call, ClientProtocol, drive_async
from inferoxy.client.loop_thread import look_at
from inferoxy.client.many import Flow, count_of, item_error
from inferoxy.client.pictures import Source
from inferoxy.client.progress import Progress, telling
from inferoxy.client.protocols import AwaitedTransport
from inferoxy.client.results import Detections, InferResult, Prediction, last_prediction, last_result
from inferoxy.errors import InvalidRequest

T = TypeVar("T")
A = TypeVar("A")
I = TypeVar("I")  # noqa: E741


async def predict_one(
    protocol: ClientProtocol, call: Call, draw: Draw, source: Source, transport: AwaitedTransport
) -> Detections | Prediction:
    """One of many pictures."""
    loaded = await load_async(source)
    steps = protocol.predict_all(call._replace(request_id=new_request_id()), loaded, draw)
    return last_prediction(await drive_async(steps, transport.exchange))


async def infer_one(
    protocol: ClientProtocol,
    call: Call,
    outputs: list[str],
    inputs: Mapping[str, ArrayLike],
    transport: AwaitedTransport,
) -> InferResult:
    """One of many requests' tensors."""
    steps = protocol.infer_all(call._replace(request_id=new_request_id()), arrays_of(inputs), outputs)
    return last_result(await drive_async(steps, transport.exchange))


class AsyncItems(AsyncIterator[I], Generic[T, A, I]):
    """An item for each source, in order.

    No asynchronous generator, because one that is left early ends only some time later.

    Args:
        transport: What the requests go over.
        sources: What is to be sent.
        one: One request.
        item: Makes an item of a source, its answer and its error.
        window: The most requests under way.
        progress: Who is told how far it is.
        what: What the bar is called.
    """

    def __init__(
        self,
        transport: AwaitedTransport,
        sources: Iterable[T] | AsyncIterable[T],
        one: Callable[[T, AwaitedTransport], Coroutine[Any, Any, A]],
        item: Callable[[T, A | None, Any], I],
        window: int,
        progress: Progress,
        what: str,
    ) -> None:
        self._flow: Flow[T, asyncio.Task[A]] = Flow(window)
        self._ending = ExitStack()
        self._is_over = False
        self._is_running = False
        self._transport = transport
        self._take: Callable[[], Awaitable[T]] = _taker(sources)
        self._one = one
        self._item = item
        self._total, self._done = count_of(sources), 0
        self._progress = progress
        self._what = what
        self._tell: Callable[[int, int | None], object] | None = None

    async def __anext__(self) -> I:
        if self._is_over:
            raise StopAsyncIteration
        if self._is_running:
            raise InvalidRequest("expected one task to iterate over the items, found two")
        self._is_running = True
        try:
            return await self._next()
        except BaseException:
            self._end()
            raise
        finally:
            self._is_running = False

    async def aclose(self) -> None:
        """Take back what is under way, and wait until it is."""
        left = self._end()
        if left:
            await asyncio.wait(left)

    def __del__(self) -> None:
        self._end()

    async def _next(self) -> I:
        if self._tell is None:
            self._tell = self._ending.enter_context(telling(self._progress, self._total, self._what))
        while self._flow.wants_source:
            began = time.monotonic()
            try:
                source = await self._take()
            except StopAsyncIteration:
                self._flow.exhaust()
                break
            took_s = time.monotonic() - began
            task = asyncio.ensure_future(self._one(source, self._transport))
            task.add_done_callback(look_at)
            self._flow.put(source, task, took_s)
        if self._flow.oldest is None:
            raise StopAsyncIteration
        source, outcome = self._flow.oldest
        try:
            given = self._item(source, await outcome, None)
        except Exception as exc:
            error = item_error(exc)
            if error is None:
                raise
            given = self._item(source, None, error)
        self._flow.pop()
        self._done += 1
        self._tell(self._done, self._total)
        return given

    def _end(self) -> list[asyncio.Task[A]]:
        self._is_over = True
        self._ending.close()
        left = self._flow.abandon()
        for outcome in left:
            outcome.cancel()
        return left


def _taker(sources: Iterable[T] | AsyncIterable[T]) -> Callable[[], Awaitable[T]]:
    """How the next source is taken; StopAsyncIteration when there is none."""
    if isinstance(sources, AsyncIterable):
        return aiter(sources).__anext__
    left = iter(sources)

    async def take() -> T:
        for source in left:
            return source
        raise StopAsyncIteration

    return take
