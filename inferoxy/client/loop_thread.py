"""A connection driven by an event loop in a thread of its own, for calls that must be taken back while they run.

A thread that waits for an HTTP answer cannot be told to stop; a task can, and the server is told so too. So the many
requests of `Client.predict_many` are tasks here, while the caller's thread takes the sources and gives the answers.
Invariant: the transport is touched by the loop's thread only.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from inferoxy.client.calls import ConnectionFailed
from inferoxy.client.protocols import AwaitedTransport

T = TypeVar("T")


class LoopThread:
    """Started by the first call; safe for threads.

    Args:
        make: Makes the transport; called in the loop's thread.
        url: The server's, for messages to people.
    """

    def __init__(self, make: Callable[[], AwaitedTransport], url: str) -> None:
        self._make = make
        self._url = url
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._transport: AwaitedTransport | None = None
        self._is_closed = False

    def submit(self, work: Callable[[AwaitedTransport], Coroutine[Any, Any, T]]) -> Future[T]:
        """Begin what is to be done over the transport; cancelling the future takes it back.

        Raises:
            ConnectionFailed: It is closed.
        """
        with self._lock:
            if self._is_closed:
                raise self._closed()
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="inferoxy-client-loop", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(self._run(work), self._loop)

    def result(self, outcome: Future[T]) -> T:
        """Wait for what `submit` gave.

        Raises:
            InferoxyError: What happened instead.
        """
        try:
            return outcome.result()
        except CancelledError:
            raise self._closed() from None

    def close(self) -> None:
        """Close the transport and end the thread; what is under way fails with ConnectionFailed."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def _run(self, work: Callable[[AwaitedTransport], Coroutine[Any, Any, T]]) -> T:
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(look_at)  # also where the caller has taken it back
        if self._transport is None:
            if self._is_closed:
                raise self._closed()
            self._transport = self._make()
        return await work(self._transport)

    async def _end(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._transport is not None:
            await self._transport.close()
        await asyncio.get_running_loop().shutdown_default_executor()

    def _closed(self) -> ConnectionFailed:
        return ConnectionFailed(f"the client of {self._url} is closed")


def look_at(task: asyncio.Task[Any]) -> None:
    """Look at a task's outcome: asyncio complains of errors that nobody has seen, of those taken back too."""
    if not task.cancelled():
        task.exception()
