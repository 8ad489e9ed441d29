"""Perform what a launcher's blocking calls do without holding up the loop.

Each call runs in a thread of its own, since most of them only wait; what came of it is given to `on_event` in the
loop's thread. Threads are daemons: a hanging engine cannot keep the process from ending.
Invariant: `on_event` is never called before the launcher's instances have been adopted, except with `Away`.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import NamedTuple

from inferoxy.errors import InferoxyError
from inferoxy.logs import get
from task_manager.launchers.base import Exit, Launcher, LaunchRequest, Running

WATCH_S = 1.0  # the longest single wait for exits
RETRY_S = 1.0  # after the launcher could not say what runs

log = get()


class Adopted(NamedTuple):
    """These instances were running already."""

    running: list[Running]


class Launched(NamedTuple):
    """A launch has succeeded."""

    running: Running


class LaunchFailed(NamedTuple):
    """A launch has failed."""

    instance: str
    error: str


class Exited(NamedTuple):
    """An instance has ended."""

    exit: Exit


class Away(NamedTuple):
    """Nobody can say what runs; `error` is empty once that is over."""

    error: str


Event = Adopted | Launched | LaunchFailed | Exited | Away


class Runner:
    """Calls one launcher for one loop.

    Args:
        launcher: Its `close` is called by `close`.
        on_event: Called in the thread of the running loop.
    """

    def __init__(self, launcher: Launcher, on_event: Callable[[Event], None]) -> None:
        self._launcher = launcher
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch instances", daemon=True)

    def start(self) -> None:
        """Adopt what runs, then watch it."""
        self._watcher.start()

    def launch(self, request: LaunchRequest) -> None:
        """Answered by Launched or LaunchFailed."""

        def work() -> None:
            try:
                self._tell(Launched(self._launcher.launch(request)))
            except InferoxyError as exc:
                self._tell(LaunchFailed(request.instance, exc.message))
            except Exception as exc:
                log.exception("launching failed", instance=request.instance)
                self._tell(LaunchFailed(request.instance, f"{type(exc).__name__}: {exc}"))

        self._thread(work, f"launch {request.instance}")

    def stop(self, instance: str, grace_s: float) -> None:
        """Ends in Exited."""
        self._thread(lambda: self._launcher.stop(instance, grace_s), f"stop {instance}")

    def kill(self, instance: str) -> None:
        """Ends in Exited."""
        self._thread(lambda: self._launcher.kill(instance), f"kill {instance}")

    def abandon(self) -> None:
        """Begin no more launches; those that have not come far fail soon."""
        self._launcher.abandon()

    def close(self) -> None:
        """Stop watching; no event comes afterwards."""
        self._closing.set()
        self._launcher.close()
        self._watcher.join(2 * WATCH_S)

    def _thread(self, work: Callable[[], None], name: str) -> None:
        def run() -> None:
            try:
                work()
            except InferoxyError as exc:
                log.warning("could not " + name.partition(" ")[0] + " an instance", error=exc.message)

        threading.Thread(target=run, name=name, daemon=True).start()

    def _watch(self) -> None:
        is_adopted = is_away = False
        while not self._closing.is_set():
            try:
                if not is_adopted:
                    self._tell(Adopted(self._launcher.adopt()))
                    is_adopted = True
                ended = self._launcher.exits(WATCH_S)
            except (InferoxyError, OSError) as exc:
                is_away = True
                self._tell(Away(str(exc)))
                self._closing.wait(RETRY_S)
                continue
            if is_away:
                is_away = False
                self._tell(Away(""))
            for exit in ended:
                self._tell(Exited(exit))

    def _tell(self, event: Event) -> None:
        if self._closing.is_set():
            return
        try:
            self._loop.call_soon_threadsafe(self._on_event, event)
        except RuntimeError:  # the loop has been closed meanwhile
            pass
