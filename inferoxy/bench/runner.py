"""Run one level of load with worker processes and put together what they counted.

Invariant: when `run` returns or raises, no worker process is left.
"""

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, cast

import msgspec

from inferoxy.bench.histogram import Histogram, merged
from inferoxy.bench.plan import Plan, split_slots
from inferoxy.bench.samples import Samples
from inferoxy.bench.worker import CHECK_S, DRAIN_S, Done, Failed, Progress, Ready, Said
from inferoxy.errors import InferoxyError, error_from

LEAD_S = 0.1  # between telling the workers when to begin and that instant
SLACK_S = 30.0  # beyond what a run should take
TICK_S = 0.1
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Outcome:
    """What one level of load gave. `rate` 0: a closed loop of `slots` connections."""

    slots: int
    rate: float
    processes: int
    duration_s: float
    completed: int
    waited: int
    failures: dict[str, int]
    latency: Histogram
    lateness: Histogram
    samples: Samples
    cpu_shares: list[float]
    problems: list[str] = field(default_factory=list)

    @property
    def throughput(self) -> float:
        """Requests answered as they should be, per second."""
        return self.completed / self.duration_s

    @property
    def failed(self) -> int:
        """Requests that were not."""
        return sum(self.failures.values())

    def to_dict(self) -> dict[str, Any]:
        """The figures, JSON-able; times in milliseconds."""
        latency, samples = self.latency, self.samples
        return {
            "loop": "open" if self.rate else "closed",
            "connections": self.slots,
            "rate_wanted": self.rate,
            "processes": self.processes,
            "duration_s": self.duration_s,
            "requests": self.completed,
            "requests_per_s": round(self.throughput, 3),
            "failed": self.failed,
            "failures": self.failures,
            "latency_ms": _times_of(latency) | {"corrected": bool(self.rate)},
            "served": {
                "sampled": samples.count,
                "mean_batch": round(samples.mean_batch, 3),
                "queue_ms": _times_of(samples.queue),
                "compute_ms": _times_of(samples.compute),
                "decode_ms": _times_of(samples.decode),
            },
            "generator": {
                "cpu_shares": [round(share, 3) for share in self.cpu_shares],
                "late_ms": _times_of(self.lateness),
                "waited_for_a_connection": self.waited,
            },
            "problems": self.problems,
        }


@dataclass
class Shown:
    """What the workers told so far, together."""

    answered: int = 0
    failed: int = 0
    open: int = 0
    p50_s: float = 0.0
    p99_s: float = 0.0


OnProgress = Callable[[Shown, float], None]


def run(plan: Plan, processes: int = 1, on_progress: OnProgress | None = None) -> Outcome:
    """Run one level.

    Args:
        plan: With the slots and the rate of all processes together.
        processes: How many generate.
        on_progress: Called several times a second with (what was told, seconds since the load began; negative before).

    Raises:
        InferoxyError: The server or the plan is not what it should be, or a worker ended by itself.
    """
    plans = [
        msgspec.structs.replace(plan, slots=slots, rate=plan.rate / processes, share=share, shares=processes)
        for share, slots in enumerate(split_slots(plan.slots, processes))
    ]
    workers = [_Process(one) for one in plans]
    shown = on_progress or (lambda told, since: None)
    try:
        with selectors.DefaultSelector() as selector:
            for worker in workers:
                selector.register(worker.stdout, selectors.EVENT_READ, worker)
            began = time.monotonic()
            _wait(selector, workers, Ready, began + CHECK_S * 2, lambda: shown(_together(workers), -1.0))
            start = time.monotonic() + LEAD_S
            for worker in workers:
                worker.tell(f"{start!r}")
            until = start + plan.warmup_s + plan.duration_s + DRAIN_S + CHECK_S + SLACK_S
            _wait(selector, workers, Done, until, lambda: shown(_together(workers), time.monotonic() - start))
    finally:
        for worker in workers:
            worker.end()
    return _outcome(plan, [worker.done for worker in workers if worker.done is not None], processes)


class _Process:
    """A worker process and what it has said."""

    def __init__(self, plan: Plan) -> None:
        self.progress = Progress(0, 0, 0, 0.0, 0.0)
        self.is_ready = False
        self.done: Done | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "inferoxy.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        self.stdin = cast(IO[bytes], self._process.stdin)
        self.stdout = cast(IO[bytes], self._process.stdout)
        os.set_blocking(self.stdout.fileno(), False)
        self._buffer = b""
        self.tell(msgspec.json.encode(plan).decode())

    def tell(self, line: str) -> None:
        try:
            self.stdin.write(f"{line}\n".encode())
            self.stdin.flush()
        except BrokenPipeError:
            return  # what it said about its end comes, or `read` tells

    def read(self) -> None:
        """Take in what it has said.

        Raises:
            InferoxyError: It has failed or ended.
        """
        data = self.stdout.read()
        if data == b"":
            raise InferoxyError(f"a load process ended by itself with exit code {self._process.wait()}")
        *lines, self._buffer = (self._buffer + (data or b"")).split(b"\n")
        for line in lines:
            said = msgspec.json.decode(line, type=Said)
            if isinstance(said, Failed):
                raise error_from(said.code, said.error)
            if isinstance(said, Ready):
                self.is_ready = True
            elif isinstance(said, Done):
                self.done = said
            else:
                self.progress = said

    def end(self) -> None:
        try:
            self.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.stdout.close()


def _wait(
    selector: selectors.BaseSelector,
    workers: Sequence[_Process],
    what: type[Ready] | type[Done],
    until: float,
    tick: Callable[[], None],
) -> None:
    """Read until every worker has said so."""
    while any(not w.is_ready if what is Ready else w.done is None for w in workers):
        if time.monotonic() > until:
            raise InferoxyError(f"a load process has not said {what.__name__} in time")
        for key, _ in selector.select(TICK_S):
            key.data.read()
            if key.data.done is not None:
                selector.unregister(key.fileobj)
        tick()


def _together(workers: Sequence[_Process]) -> Shown:
    told = [worker.progress for worker in workers]
    return Shown(
        answered=sum(p.answered for p in told),
        failed=sum(p.failed for p in told),
        open=sum(p.open for p in told),
        p50_s=max(p.p50_s for p in told),
        p99_s=max(p.p99_s for p in told),
    )


def _outcome(plan: Plan, done: Sequence[Done], processes: int) -> Outcome:
    failures: dict[str, int] = {}
    samples = Samples()
    for one in done:
        samples.merge(Samples.from_dict(one.samples))
        for code, count in one.failures.items():
            failures[code] = failures.get(code, 0) + count
    return Outcome(
        slots=plan.slots,
        rate=plan.rate,
        processes=processes,
        duration_s=plan.duration_s,
        completed=sum(one.completed for one in done),
        waited=sum(one.waited for one in done),
        failures=failures,
        latency=merged(Histogram.from_dict(one.latency) for one in done),
        lateness=merged(Histogram.from_dict(one.lateness) for one in done),
        samples=samples,
        cpu_shares=[one.cpu_share for one in done],
        problems=sorted({one.problem for one in done if one.problem}),
    )


def _times_of(histogram: Histogram) -> dict[str, float]:
    """A histogram's figures in milliseconds."""
    figures = {f"p{percent:g}": histogram.percentile(percent) * 1e3 for percent in PERCENTILES}
    figures |= {"mean": histogram.mean_s * 1e3, "max": histogram.most_s * 1e3}
    return {name: round(value, 4) for name, value in figures.items()}
