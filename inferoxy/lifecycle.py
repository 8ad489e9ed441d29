"""A process's start and end: tells its supervisor that it is ready, learns that it must end.

Told to end by SIGTERM or SIGINT, or by the death of the supervisor (end of file on the descriptor that the supervisor
left in INFEROXY_SUPERVISOR_FD), so that nothing outlives a supervisor that was killed.
"""

import asyncio
import ctypes
import gc
import os
import select
import signal
from types import FrameType

SUPERVISOR_FD = "INFEROXY_SUPERVISOR_FD"


GC_THRESHOLDS = (20_000, 20, 20)  # requests make few cycles, and a collection delays all that are under way


TIMER_SLACK_NS = 1_000  # how late the kernel may wake a thread; by default 50 us, much of a request's whole time here
_PR_SET_TIMERSLACK = 29  # of linux/prctl.h


def wake_on_time() -> None:
    """Let sleeps and poll timeouts of this thread, and of those it will start, end when they are due. Linux only."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(TIMER_SLACK_NS))


def forget_start() -> None:
    """Take what exists now, modules for the most part, out of the garbage collector's sight.

    It lives as long as the process, and looking through it takes longer than most requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class Lifecycle:
    """One per process, made in the main thread. `fileno()` becomes readable when the process must end."""

    def __init__(self) -> None:
        wake_on_time()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._supervisor = int(os.environ.pop(SUPERVISOR_FD, "-1"))
        self._epoll = select.epoll()
        self._epoll.register(self._read, select.EPOLLIN)
        if self._supervisor >= 0:
            os.set_inheritable(self._supervisor, False)
            self._epoll.register(self._supervisor, select.EPOLLIN | select.EPOLLHUP)
        self._stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    @property
    def stopping(self) -> bool:
        """Whether the process has been told to end."""
        if not self._stopping and self._epoll.poll(0):
            self._stopping = True
        return self._stopping

    def fileno(self) -> int:
        """A descriptor for a poller: readable once the process has been told to end."""
        return self._epoll.fileno()

    def ready(self) -> None:
        """Tell the supervisor, if there is one, that this process does its work now."""
        forget_start()
        if self._supervisor >= 0:
            try:
                os.write(self._supervisor, b"READY\n")
            except OSError:
                self._stopping = True

    async def wait(self) -> None:
        """Return when the process has been told to end."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        if self.stopping:
            return
        loop.add_reader(self.fileno(), lambda: None if told.done() else told.set_result(None))
        try:
            await told
        finally:
            loop.remove_reader(self.fileno())
            self._stopping = True

    def close(self) -> None:
        """Give the descriptors back (tests; a process simply ends)."""
        signal.set_wakeup_fd(-1)
        self._epoll.close()
        for fd in (self._read, self._write, self._supervisor):
            if fd >= 0:
                os.close(fd)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
