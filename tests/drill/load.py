"""Load on a stack while a context lasts, from processes of its own: one for each protocol.

Invariant: leaving the context ends every process that it started.
"""

import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import msgspec

from tests.drill.flows import RIGHT, Done, Flow, Outcome, Plan, Progress, encode_line
from tests.drill.stack import DrillStack
from tests.integration.stack import wait_until

NUMBERS_EACH = 1 << 22  # requests of one load process at the most
LATE_S = 60.0  # until a load process must have ended that was told to
WARM_S = 30.0
SMALL = 16
LARGE = 1 << 16  # elements: 256 KiB, which travel in shared memory

# For a model `sum`. With several steps under way at once, some share a batch.
SEQUENCES = [
    Flow("zmq sequences", "zmq", "sum", users=4, steps=12, window=4, pause_s=0.05),
    Flow("http sequences", "http", "sum", users=2, steps=8, pause_s=0.05),
    Flow("grpc sequences", "grpc", "sum", users=2, steps=8, pause_s=0.05),
]

_numbers = itertools.count(1, NUMBERS_EACH)
_SAID = msgspec.json.Decoder(Progress | Done)


class LoadFailed(Exception):
    """A load process ended without telling what became of its requests."""


class _Process:
    """One load process and the thread that listens to it."""

    def __init__(self, plan: Plan) -> None:
        command = [sys.executable, "-m", "tests.drill.load_process"]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.progress = Progress(0, {}, 0)
        self.done: Done | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._say(encode_line(plan))

    def stop(self) -> None:
        """Tell it to send nothing more."""
        self._say(b"stop\n")

    def wait(self) -> list[Outcome]:
        """Its outcomes, once it has ended.

        Raises:
            LoadFailed: It ended early, or not in time.
        """
        self._thread.join(LATE_S)
        if self.done is None:
            raise LoadFailed(f"a load process said nothing at its end (exit code {self.popen.poll()})")
        self.popen.wait(LATE_S)
        return self.done.outcomes

    def kill(self) -> None:
        """SIGKILL: its connections end as those of a client that vanishes."""
        self.popen.kill()
        self.popen.wait()
        self._thread.join()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass

    def _say(self, line: bytes) -> None:
        if self.popen.stdin is None:
            raise LoadFailed("a load process has no standard input")
        try:
            self.popen.stdin.write(line)
            self.popen.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, which `wait` tells

    def _listen(self) -> None:
        for line in self.popen.stdout or ():
            said = _SAID.decode(line)
            if isinstance(said, Progress):
                self.progress = said
            else:
                codes = Counter(outcome.code for outcome in said.outcomes)
                self.progress = Progress(codes.pop(RIGHT, 0), dict(codes), 0)
                self.done = said


class Load:
    """Flows on a stack.

    Args:
        stack: A running one.
        flows: What to send; flows of one protocol share a process.
    """

    def __init__(self, stack: DrillStack, flows: Sequence[Flow]) -> None:
        self.began_at = 0.0
        self._stack = stack
        self._flows = flows
        self._processes: list[_Process] = []

    def __enter__(self) -> "Load":
        addresses = {"http": self._stack.rest_url, "grpc": self._stack.grpc_address, "zmq": self._stack.zmq_endpoint}
        for protocol in dict.fromkeys(flow.protocol for flow in self._flows):
            flows = [flow for flow in self._flows if flow.protocol == protocol]
            self._processes.append(_Process(Plan(addresses, flows, next(_numbers))))
        self.began_at = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()

    @property
    def right(self) -> int:
        """Right answers so far."""
        return sum(process.progress.right for process in self._processes)

    @property
    def other(self) -> dict[str, int]:
        """Other outcomes so far, by code."""
        found: dict[str, int] = {}
        for process in self._processes:
            for code, count in process.progress.other.items():
                found[code] = found.get(code, 0) + count
        return found

    def wait_right(self, more: int, timeout_s: float = WARM_S) -> None:
        """Return when every process has seen so many right answers more.

        Raises:
            AssertionError: Not in time.
        """
        goals = [(process, process.progress.right + more) for process in self._processes]

        def explain() -> str:
            return f"right {self.right}, other {self.other}"

        wait_until(lambda: all(p.progress.right >= goal for p, goal in goals), timeout_s, explain)

    def stop(self) -> list[Outcome]:
        """Send nothing more, and wait; see `wait`."""
        for process in self._processes:
            process.stop()
        return self.wait()

    def wait(self) -> list[Outcome]:
        """What became of all requests, in the order they were sent, once flows that have a limit have ended."""
        outcomes = [outcome for process in self._processes for outcome in process.wait()]
        return sorted(outcomes, key=lambda outcome: outcome.sent_at)

    def vanish(self) -> None:
        """SIGKILL to every process: nobody waits for what they have asked."""
        for process in self._processes:
            process.kill()


def mixed(model: str = "double", rate: float = 200.0, timeout_s: float = 15.0) -> list[Flow]:
    """Small and large requests over all protocols, so many a second together."""

    def flow(protocol: Any, share: float, size: str, elements: int) -> Flow:
        name = f"{protocol} {size}"
        return Flow(name, protocol, model, rate=rate * share, elements=elements, timeout_s=timeout_s)

    return [
        flow("zmq", 0.4, "small", SMALL),
        flow("http", 0.3, "small", SMALL),
        flow("grpc", 0.15, "small", SMALL),
        flow("http", 0.1, "large", LARGE),
        flow("zmq", 0.05, "large", LARGE),
    ]
