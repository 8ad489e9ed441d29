"""`python -m inferoxy.bench.suite`: measure the workloads in turns with their ceilings and say what holds.

Rounds go A, B, A, B: every probe of a workload once, then every probe again, so that a slow minute of the machine
strikes all of them alike.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from inferoxy.bench import report
from inferoxy.bench.suite import machine, measure, profiles, tables, verdict
from inferoxy.bench.suite.readings import Reading
from inferoxy.bench.suite.verdict import Judged
from inferoxy.bench.suite.workloads import WORKLOADS, Workload
from inferoxy.cli import print_error
from inferoxy.errors import InferoxyError

EXTRA_ROUNDS = 2  # for rounds that others disturbed
PROFILED = {"W1": ("rest_c64", "zmq_w64"), "W2": ("rest_c8",), "W3": ("rest_c64",), "W4": ("rest_c16",)}

Found = dict[str, tuple[Workload, list[dict[str, Reading]], list[Judged]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; 0 when it was measured and, with --quick, everything holds."""
    settings = _settings(arguments)
    for name in [name for name in os.environ if name.startswith("INFEROXY_")]:
        del os.environ[name]  # the stacks are made as this says, not as the caller's shell
    chosen = [workload for workload in WORKLOADS if workload.name in settings.only]
    about = report.machine() | measure.tools()
    about |= {"seconds": settings.seconds, "warmup_s": settings.warmup, "rounds": settings.rounds}
    print("  ".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    settings.out.mkdir(parents=True, exist_ok=True)
    found: Found = {}
    try:
        for workload in chosen:
            if settings.profile:
                _profile(workload, settings)
            else:
                found[workload.name] = _measure(workload, settings)
    except InferoxyError as exc:
        print_error(exc.message)
        return 1
    except KeyboardInterrupt:
        return 130
    if settings.profile:
        return 0
    line = verdict.last_line({name: judged for name, (_, _, judged) in found.items()})
    _write(settings.out, about, found, line)
    print(line, flush=True)
    fell_short = not all(one.holds for _, _, judged in found.values() for one in judged)
    return 1 if settings.quick and fell_short else 0


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m inferoxy.bench.suite", description=__doc__)
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--quick", action="store_true", help="shorter; exit with 1 when something falls short")
    parser.add_argument("--only", default=",".join(names), help="workloads, such as W1,W3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each measurement [8; with --quick 2]")
    parser.add_argument("--warmup", type=float, help="before each [2; with --quick 1]")
    parser.add_argument("--patience", type=float, default=10.0, metavar="S", help="wait so long for a quiet machine")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), metavar="DIR")
    parser.add_argument("--profile", action="store_true", help="record where the time goes, with py-spy, instead")
    found = parser.parse_args(arguments)
    found.seconds = found.seconds or (2.0 if found.quick else 8.0)
    found.warmup = found.warmup if found.warmup is not None else (1.0 if found.quick else 2.0)
    found.only = found.only.split(",")
    unknown = set(found.only) - set(names)
    if unknown or found.rounds < 1:
        parser.error(f"expected workloads of {', '.join(names)} and at least one round")
    if found.profile and not profiles.is_installed():
        parser.error("--profile needs py-spy: pip install 'inferoxy[bench]'")
    return found


def _measure(
    workload: Workload, settings: argparse.Namespace
) -> tuple[Workload, list[dict[str, Reading]], list[Judged]]:
    print(f"\n{workload.name}: {workload.title}", flush=True)
    rounds: list[dict[str, Reading]] = []
    with measure.site(workload) as site:
        most = settings.rounds + (0 if settings.quick else EXTRA_ROUNDS)
        while len(rounds) < settings.rounds or (
            len(rounds) < most and verdict.needs_another(workload, rounds, settings.rounds)
        ):
            one: dict[str, Reading] = {}
            for probe in workload.probes:
                if site.is_missing(probe):
                    continue
                machine.wait_quiet(verdict.NOISE, settings.patience)
                one[probe.key] = reading = site.measure(probe, len(rounds), settings.seconds, settings.warmup)
                _tell(probe.title, reading)
            rounds.append(one)
    judged = verdict.judge(workload, rounds, settings.rounds)
    for result in judged:
        shown = (
            "not measured" if result.value is None else f"{result.value:.3g} ({result.low:.3g} to {result.high:.3g})"
        )
        print(f"  {'holds' if result.holds else 'FALLS SHORT'}: {result.check.text}: {shown}", flush=True)
    return workload, rounds, judged


def _profile(workload: Workload, settings: argparse.Namespace) -> None:
    folder = settings.out / "profiles"
    with measure.site(workload) as site:
        for probe in workload.probes:
            if probe.key in PROFILED[workload.name]:
                text = profiles.record(site, probe, settings.seconds, folder)
                (folder / f"{workload.name}-{probe.key}.md").write_text(text)
                print(text, flush=True)


def _tell(title: str, reading: Reading) -> None:
    wrong = f"  {reading.failed} failed" * bool(reading.failed) + "".join(f"  {p}" for p in reading.problems)
    noise = f"  ~ others {reading.others:.0%}, stolen {reading.stolen:.0%}" if verdict.is_noisy(reading) else ""
    figures = f"{reading.requests_per_s:10,.1f}/s  p50 {reading.p50_ms:8.3f} ms  p99 {reading.p99_ms:8.3f} ms"
    print(f"  {reading.round + 1}  {title:30}{figures}{noise}{wrong}", flush=True)


def _write(out: Path, about: Mapping[str, object], found: Found, line: str) -> None:
    """The results as JSON and Markdown, under their time and as the latest."""
    content = {
        "about": dict(about),
        "line": line,
        "workloads": {
            name: {
                "readings": [reading for one in rounds for reading in one.values()],
                "checks": [
                    {"text": one.check.text, "value": one.value, "low": one.low, "high": one.high, "holds": one.holds}
                    for one in judged
                ],
            }
            for name, (_, rounds, judged) in found.items()
        },
    }
    as_json = json.dumps(msgspec.to_builtins(content), indent=1) + "\n"
    as_markdown = tables.markdown(about, found, line)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for name in (stamp, "latest"):
        (out / f"{name}.json").write_text(as_json)
        (out / f"{name}.md").write_text(as_markdown)
    print(f"\nwritten: {out / 'latest.md'}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
