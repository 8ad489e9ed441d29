"""Minutes of large pictures, to see that nothing grows and nothing is lost: `python -m inferoxy.bench.suite.soak`.

Workload W2 over REST with 8 connections. Every few seconds the memory that each component has for itself and what the
arena holds are written down. Behind the first minute neither may grow, and at the end no slot may be in use.
"""

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from inferoxy.bench import runner
from inferoxy.bench.suite import measure
from inferoxy.bench.suite.workloads import W2
from inferoxy.cli import print_error
from inferoxy.errors import InferoxyError

PERIOD_S = 5.0
SETTLED_S = 60.0  # until then caches fill and buffers find their size
GROWTH_SHARE, GROWTH_MIB = 0.02, 2.0  # what counts as none: the allocator's own unrest
RELEASED_S = 5.0  # figures travel to the status within so long


class Sample(NamedTuple):
    """What was seen at one instant. Memory in MiB by component, without what is shared with others."""

    at_s: float
    memory: dict[str, float]
    arena_mib: float
    used_slots: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when nothing grew and no request failed."""
    parser = argparse.ArgumentParser(prog="python -m inferoxy.bench.suite.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=8)
    settings = parser.parse_args(arguments)
    try:
        return _soak(settings.minutes * 60, settings.connections)
    except InferoxyError as exc:
        print_error(exc.message)
        return 1


def _soak(seconds: float, connections: int) -> int:
    probe = next(p for p in W2.probes if p.kind == "rest" and p.target == "stack")._replace(size=connections)
    samples: list[Sample] = []
    with measure.site(W2) as site:
        plan = site.plan(probe, seconds, 0.0)
        is_over = threading.Event()
        watcher = threading.Thread(target=_watch, args=(site, samples, is_over))
        watcher.start()
        try:
            outcome = runner.run(plan)
        finally:
            is_over.set()
            watcher.join()
        time.sleep(RELEASED_S)
        left = _sample(site, 0.0).used_slots
    problems = growth(samples)
    if outcome.failed:
        problems.append(f"{outcome.failed} requests failed: {'; '.join(outcome.problems)[:300]}")
    if left:
        problems.append(f"{left} slots are in use with no request open")
    verdict = "holds" if not problems else "FALLS SHORT: " + "; ".join(problems)
    print(f"soak: {outcome.throughput * seconds:,.0f} requests in {seconds / 60:g} min, {left} slots left: {verdict}")
    return 1 if problems else 0


def growth(samples: Sequence[Sample]) -> list[str]:
    """What is larger in the last fifth of the time than in the fifth behind the first minute. Pure."""
    settled = [sample for sample in samples if sample.at_s >= SETTLED_S]
    fifth = len(settled) // 5
    if not fifth:
        return [f"too few samples behind the first {SETTLED_S:g} s to tell"]
    first, last = settled[:fifth], settled[-fifth:]
    found: list[str] = []
    for name in first[0].memory:
        before, after = (median(s.memory.get(name, 0.0) for s in part) for part in (first, last))
        if after > before * (1 + GROWTH_SHARE) and after > before + GROWTH_MIB:
            found.append(f"{name} grew from {before:.1f} to {after:.1f} MiB")
    before, after = (median(s.arena_mib for s in part) for part in (first, last))
    if after > before:
        found.append(f"the arena grew from {before:.0f} to {after:.0f} MiB")
    return found


def _watch(site: measure.Site, samples: list[Sample], is_over: threading.Event) -> None:
    began = time.monotonic()
    while not is_over.wait(PERIOD_S):
        samples.append(sample := _sample(site, time.monotonic() - began))
        if len(samples) % 6 == 1:
            shown = "  ".join(f"{name} {mib:.1f}" for name, mib in sample.memory.items())
            print(f"  {sample.at_s:5.0f} s  MiB: {shown}  arena {sample.arena_mib:.0f}, {sample.used_slots} slots used")
            sys.stdout.flush()


def _sample(site: measure.Site, at_s: float) -> Sample:
    memory = {name: _own_mib(pid) for name, pid in site.pids().items()}
    arenas = list(_arenas(site.status()))
    return Sample(at_s, memory, sum(a["bytes"] for a in arenas) / 2**20, sum(a["used_slots"] for a in arenas))


def _own_mib(pid: int) -> float:
    """Memory that only this process has: neither code that others map nor the arena."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    own = sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
    return own / 1024


def _arenas(node: Any) -> list[dict[str, int]]:
    """Every arena's figures in a status document."""
    if not isinstance(node, dict):
        return []
    found = [node["arena"]] if isinstance(node.get("arena"), dict) and node["arena"] else []
    return found + [arena for child in node.values() for arena in _arenas(child)]


if __name__ == "__main__":
    sys.exit(main())
