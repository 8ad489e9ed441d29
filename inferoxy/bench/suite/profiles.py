"""Where the time goes: py-spy recordings of each component under load, as speedscope files and lists of hot lines.

py-spy leaves out samples of threads that wait, so shares are of the time in which a component worked. It does not know
all waiting for what it is: poll, select and the get of a queue are counted too often. Threads without Python, such as
ZeroMQ's, stand only among the shares of a core.
"""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from inferoxy.bench import runner
from inferoxy.bench.suite import machine
from inferoxy.bench.suite.measure import Site
from inferoxy.bench.suite.workloads import Probe

RATE_HZ = 200
LEAD_S = 1.5  # for py-spy to attach, and the load to be in its stride
SHOWN = 20
EVERYTHING = 0.97  # of all samples: what is in more is only the way in
BEHIND_BRIDGES = ("batch_manager", "instance")

_ROOT = Path(__file__).resolve().parents[3]


class HotLine(NamedTuple):
    """A place and its share of the recorded time: its own (`alone`) or with all that it calls."""

    where: str
    share: float


def is_installed() -> bool:
    """Whether recordings can be made."""
    return bool(_py_spy())


def record(site: Site, probe: Probe, seconds: float, folder: Path) -> str:
    """Record the components on a probe's path while it is under load; the hot lines as Markdown.

    Args:
        site: Running.
        probe: Of the stack.
        seconds: How long.
        folder: Gets a speedscope file for each component.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pids = {name: pid for name, pid in site.pids().items() if name in (f"bridge_{probe.kind}", *BEHIND_BRIDGES)}
    recorders = {
        name: _Recorder(pid, seconds, folder / f"{site.workload.name}-{probe.key}-{name}.speedscope.json")
        for name, pid in pids.items()
    }
    outcome = runner.run(site.plan(probe, seconds + LEAD_S, 0.0))
    told = [f"### {site.workload.name} {probe.title}: {outcome.throughput:,.0f} requests/s while recorded\n"]
    told += [f"**{name}**: {recorder.result()}" for name, recorder in recorders.items()]
    return "\n".join(told)


class _Recorder:
    """py-spy at work on one process."""

    def __init__(self, pid: int, seconds: float, file: Path) -> None:
        self._pid = pid
        self._file = file
        self._began = time.monotonic()
        self._before = machine.threads_cpu_s(pid)
        command = [_py_spy(), "record", "--pid", str(pid), "--duration", f"{round(seconds)}", "--rate", str(RATE_HZ)]
        command += ["--format", "speedscope", "--output", str(file), "--threads"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def result(self) -> str:
        """The threads' shares of a core and the hot lines, when the recording has ended."""
        took_s = time.monotonic() - self._began
        spent = {name: total - self._before.get(name, 0.0) for name, total in machine.threads_cpu_s(self._pid).items()}
        busy = sorted(((share / took_s, name) for name, share in spent.items()), reverse=True)
        threads = ", ".join(f"{name} {share:.0%}" for share, name in busy if share > 0.01)
        self._process.wait()
        if not self._file.exists():
            return f"threads {threads}; py-spy could not attach\n"
        alone, below = hot_lines(json.loads(self._file.read_text()))
        rows = [f"threads {threads}\n", "| alone | | with calls | |", "| --- | --- | --- | --- |"]
        for one, other in zip_longest(alone, below):
            rows.append(f"| {_cells(one)} | {_cells(other)} |")
        return "\n".join([*rows, ""])


def hot_lines(recording: dict[str, Any]) -> tuple[list[HotLine], list[HotLine]]:
    """The hottest places of a speedscope recording: alone, and with all that they call.

    The second leaves out what is not of this project and what everything runs in.
    """
    frames = [(f"{f['name']} {_short(f.get('file') or '')}:{f.get('line')}", f) for f in recording["shared"]["frames"]]
    alone: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for thread in recording["profiles"]:
        for stack in thread["samples"]:
            if stack:
                alone[frames[stack[-1]][0]] += 1
                below.update({frames[at][0] for at in stack if _is_ours(frames[at][1].get("file") or "")})
    total = sum(alone.values())
    hot = [HotLine(where, count / total) for where, count in alone.most_common(SHOWN)]
    within = [HotLine(where, count / total) for where, count in below.most_common() if count < EVERYTHING * total]
    return hot, within[:SHOWN]


def _cells(line: HotLine | None) -> str:
    return f"{line.share:.1%} | `{line.where}`" if line else " | "


def _py_spy() -> str:
    """The program beside this interpreter, or on the path; empty when there is none."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy") or ""


def _is_ours(file: str) -> bool:
    return str(_ROOT) in file and "site-packages" not in file


def _short(file: str) -> str:
    """The file below its package's folder, or this repository."""
    shorter = file.rpartition("site-packages/")[2].removeprefix(f"{_ROOT}/")
    return shorter.rpartition("/lib/")[2]
