"""The items of Client.predict_many and Client.infer_many, for the thread that iterates. What is next is many.py's."""

import time
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from inferoxy.client.loop_thread import LoopThread
from inferoxy.client.many import Flow, count_of, item_error
from inferoxy.client.progress import Progress, telling
from inferoxy.client.protocols import AwaitedTransport

T = TypeVar("T")
A = TypeVar("A")
I = TypeVar("I")  # noqa: E741


def each(
    loop: LoopThread,
    sources: Iterable[T],
    one: Callable[[T, AwaitedTransport], Coroutine[Any, Any, A]],
    item: Callable[[T, A | None, Any], I],
    window: int,
    progress: Progress,
    what: str,
) -> Generator[I, None, None]:
    """An item for each source, in order; the sources are taken by the iterating thread.

    Args:
        loop: Where the requests run.
        sources: What is to be sent.
        one: One request.
        item: Makes an item of a source, its answer and its error.
        window: The most requests under way.
        progress: Who is told how far it is.
        what: What the bar is called.
    """
    total, done = count_of(sources), 0
    flow: Flow[T, Future[A]] = Flow(window)
    left = iter(sources)
    with telling(progress, total, what) as tell:
        try:
            while True:
                while flow.wants_source:
                    began = time.monotonic()
                    try:
                        source = next(left)
                    except StopIteration:
                        flow.exhaust()
                        break
                    took_s = time.monotonic() - began
                    flow.put(source, loop.submit(partial(one, source)), took_s)
                if flow.oldest is None:
                    return
                source, outcome = flow.oldest
                try:
                    given = item(source, loop.result(outcome), None)
                except Exception as exc:
                    error = item_error(exc)
                    if error is None:
                        raise
                    given = item(source, None, error)
                flow.pop()
                done += 1
                tell(done, total)
                yield given
        finally:
            for outcome in flow.abandon():
                outcome.cancel()
