"""The worker: moves work between the link to the batch manager and the model.

The model computes in the main thread. The link is held by one thread at a time:
- by the main thread while the model is quick: it receives, computes and sends without waking any other thread, which
  would cost as much as the whole rest of a small request;
- by the keeper thread while the model is slow or pictures are to be decoded: it makes the next batch ready and answers
  heartbeats while the main thread computes.
Invariants: whoever touches the socket holds `_lock`; while the main thread computes the lock is free or the keeper's,
so a model that takes unexpectedly long is noticed within WATCH_S and heartbeats go on.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from inferoxy import messages as m
from inferoxy.arena import ArenaView
from inferoxy.lifecycle import Lifecycle, forget_start
from inferoxy.runtime.backend import Backend, SequenceBackend, StackedBackend
from inferoxy.runtime.cores import cores
from inferoxy.runtime.executor import Executor
from inferoxy.runtime.intake import Intake, PreparedBatch
from inferoxy.runtime.link import Link, Work

SLOW_S = 0.000_5  # smoothed seconds of computing from which the keeper takes the link
QUICK_S = 0.000_25  # and below which the main thread wants it back
SMOOTHING = 0.2
WATCH_S = 0.25  # how often the keeper looks whether a model believed to be quick still computes
FAILED = 70  # exit code after a bug
FINISH_S = 10.0  # what the last batches may take once the session has ended

log = logging.getLogger("inferoxy.runtime")


class _LinkBack:
    """In the inbox: the link is the main thread's again."""


_LINK_BACK = _LinkBack()


def hello_for(config: m.InstanceConfig, backend: Backend) -> m.Hello:
    """How an instance with this model introduces itself."""
    signature = backend.signature
    return m.Hello(
        instance=config.instance,
        model=config.model,
        model_version=config.model_version,
        token=config.token,
        inputs=signature.inputs,
        outputs=signature.outputs,
        batch_size=signature.batch_size,
        stacked=isinstance(backend, StackedBackend),
        stateless=config.stateless,
        decoupled=signature.decoupled,
        device=config.device,
        platform=signature.platform,
        max_sequences=config.max_sequences if isinstance(backend, SequenceBackend) else 1,
        metadata=signature.metadata,
        pid=os.getpid(),
        arena=bool(config.arena),
        compute_us=int(backend.warm_s * 1e6),
    )


class Worker:
    """Serves one loaded model until told to end. Made and run in the main thread."""

    def __init__(self, config: m.InstanceConfig, backend: Backend, lifecycle: Lifecycle) -> None:
        self._pool = ThreadPoolExecutor(config.threads or max(2, cores()), "pool")
        arena = ArenaView(Path(config.arena)) if config.arena else None
        intake = Intake(backend, backend.signature.batch_size, self._pool, arena, self._is_idle)
        self._link = Link(config.backend, hello_for(config, backend), intake, lifecycle)
        self._executor = Executor(backend, config.stateless, self._pool, self._send)
        self._main = threading.get_ident()
        self._lock = threading.Lock()
        self._holds = False  # the main thread has the lock
        self._waits = False  # the main thread waits for work from the keeper
        self._lent = False  # the main thread computes, and wants the lock back when it has done so
        self._wanted = False  # the keeper should give the link back
        self._compute_s = 0.0
        self._arrived: deque[Work] = deque()
        self._inbox: SimpleQueue[Work | _LinkBack | None] = SimpleQueue()
        self._kicks: SimpleQueue[bool] = SimpleQueue()
        self._finished = threading.Event()

    def run(self) -> int:
        """Serve; returns the exit code."""
        keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._lock.acquire()
        self._holds = True
        keeper.start()
        forget_start()
        while (work := self._next()) is not None:
            self._perform(work)
        self._executor.close()
        self._pool.shutdown(wait=True)
        self._finished.set()
        self._kicks.put(False)
        keeper.join()
        self._link.close()
        return self._link.exit_code

    def _next(self) -> Work | None:
        """The next work; None when there will be no more."""
        while not self._arrived:
            if self._holds:
                if self._link.has_ended:
                    return None
                self._arrived.extend(self._link.turn())
                continue
            if self._compute_s < QUICK_S:
                self._wanted = True
                self._link.wake()
            self._waits = True
            work = self._inbox.get()
            self._waits = self._wanted = False
            if not isinstance(work, _LinkBack):
                return work
            self._holds = self._lock.acquire(blocking=False)
        return self._arrived.popleft()

    def _perform(self, work: Work) -> None:
        if isinstance(work, m.EndSequence):
            self._executor.end_sequence(work)
            return
        if isinstance(work, m.Who):
            self._executor.end_sequences()
            return
        if self._holds:
            self._holds = False
            self._lent = not (work.needs_pool or self._compute_s > SLOW_S)
            self._lock.release()
            if not self._lent:
                self._kicks.put(True)
        compute_s = self._executor.run(work, self._later)
        self._compute_s += SMOOTHING * (compute_s + work.decode_s - self._compute_s)
        if self._lent:
            self._lent = False
            self._holds = self._lock.acquire(blocking=False)

    def _is_idle(self) -> bool:
        return self._holds or (self._waits and self._inbox.empty())

    def _later(self, make: Callable[[], list[Any]]) -> bool:
        """Let the keeper make a batch's answers, if the next batch is waiting."""
        if self._lent or self._inbox.empty():
            return False
        self._link.post(make)
        return True

    def _send(self, frames: list[Any]) -> None:
        """Send a RESULT: directly if no other thread has the link, else through the one that has."""
        if self._lent and threading.get_ident() == self._main and self._lock.acquire(blocking=False):
            try:
                self._link.send(frames)
            finally:
                self._lock.release()
        else:
            self._link.post(frames)

    def _keep(self) -> None:
        """The keeper thread: hold the link whenever the main thread does not."""
        try:
            while not self._finished.is_set():
                try:
                    self._kicks.get(timeout=WATCH_S)
                except Empty:
                    pass
                if self._lock.acquire(blocking=False):
                    self._hold()
        except BaseException:  # a bug: an instance that nobody drives must not stay
            log.critical("the keeper thread failed", exc_info=True)
            os._exit(FAILED)

    def _hold(self) -> None:
        """Drive the link until the main thread wants it back or the session ends."""
        while not self._link.has_ended:
            for work in self._link.turn():
                if isinstance(work, PreparedBatch):
                    self._executor.assemble(work)
                self._inbox.put(work)
            if self._wanted:
                self._lock.release()  # free until it is taken: should the main thread be busy, it comes back here
                self._inbox.put(_LINK_BACK)
                return
        self._lock.release()
        self._inbox.put(None)
        if not self._finished.wait(FINISH_S):
            log.error("the model did not finish within %.0f s of the end: leaving it", FINISH_S)
            os._exit(self._link.exit_code)
