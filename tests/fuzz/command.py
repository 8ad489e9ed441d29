"""The command: which targets to run with how many inputs, what was found, the exit code."""

import argparse
import base64
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import engine
from tests.fuzz.catalog import TARGETS, divided
from tests.fuzz.engine import Crash, Tally
from tests.fuzz.processes import run_apart
from tests.fuzz.target import Input

INPUTS = 200_000
CRASHES = Path(tempfile.gettempdir()) / "inferoxy-fuzz"
LINE = "{:16} {:>8} {:>9} {:>9} {:>9} {:>8} {:>8}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when nothing crashed."""
    given = _arguments(arguments)
    if given.list:
        for name in TARGETS:
            print(name)
        return 0
    if given.replay is not None:
        return _replay(given.replay)
    counts = divided(given.inputs, given.only or list(TARGETS))
    print(LINE.format("target", "inputs", "inputs/s", "accepted", "refused", "by lines", "crashes"), flush=True)
    began = time.monotonic()
    with ThreadPoolExecutor(given.jobs) as pool:
        runs = {name: pool.submit(run_apart, TARGETS[name], given.seed, count) for name, count in counts.items()}
        tallies = {name: _told(name, future.result()) for name, future in runs.items()}
    crashes = [crash for tally in tallies.values() for crash in tally.crashes]
    for crash in _first_of_each(crashes):
        path = keep(crash, engine.make(TARGETS[crash.target](), given.seed, crash.number))
        print(f"\n{crash.target}, input {crash.number}, {crash.where}:\n{crash.why.strip()}")
        print(f"replay: python -m tests.fuzz --replay {path}")
    inputs = sum(tally.inputs for tally in tallies.values())
    print(f"seed {given.seed}, {inputs / (time.monotonic() - began):.0f} inputs/s")
    print(f"fuzz: inputs {inputs} crashes {len(crashes)}")
    return 1 if crashes else 0


def keep(crash: Crash, given: Input) -> Path:
    """Write an input to a file that it can be replayed from."""
    CRASHES.mkdir(exist_ok=True)
    path = CRASHES / f"{crash.target.replace(' ', '-')}-{crash.number}.json"
    content = {
        "target": crash.target,
        "why": crash.why,
        "parts": [base64.b64encode(part).decode() for part in given],
    }
    path.write_text(json.dumps(content, indent=1))
    return path


def _replay(path: Path) -> int:
    content = json.loads(path.read_text())
    given = [base64.b64decode(part) for part in content["parts"]]
    found = engine.replay(TARGETS[content["target"]](), given)
    for crash in found.crashes:
        print(crash.why)
    print("accepted" if found.accepted else "refused" if found.refused else "crashed")
    return 1 if found.crashes else 0


def _told(name: str, tally: Tally) -> Tally:
    rate = tally.inputs / tally.seconds if tally.seconds else 0.0
    figures = (tally.inputs, f"{rate:.0f}", tally.accepted, tally.refused, len(tally.reasons), len(tally.crashes))
    print(LINE.format(name, *figures), flush=True)
    return tally


def _first_of_each(crashes: list[Crash]) -> list[Crash]:
    return list({(crash.target, crash.where): crash for crash in reversed(crashes)}.values())[::-1]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="of all targets together (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another one gives other inputs (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="TARGET", help="these targets, see --list")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="at a time (%(default)s)")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one kept input again")
    found = parser.parse_args(arguments)
    unknown = set(found.only or ()) - set(TARGETS)
    if unknown:
        parser.error(f"--only: expected names of {', '.join(TARGETS)}, found {', '.join(sorted(unknown))}")
    if found.inputs < 1 or found.jobs < 1:
        parser.error(f"--inputs and --jobs: expected at least 1, found {found.inputs} and {found.jobs}")
    return found
