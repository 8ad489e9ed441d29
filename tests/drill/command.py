"""The command: which drills to run, running them one after the other, the exit code."""

import argparse
import os
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.drill.catalog import DRILLS
from tests.drill.drill import Drill, Impossible, Run
from tests.drill.report import Report

FOLDER = str(Path(__file__).parent)
TOLD_LENGTH = 500
WIDTH = 150  # where the output is no terminal
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run drills; 0 when no answer was lost or wrong and everything held."""
    settings = _settings(arguments)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if settings.list:
        for name, drill in DRILLS.items():
            console.print(f"{name:18} {_about(drill)}", highlight=False, soft_wrap=True)
        return 0
    for name in [
        name for name in os.environ if name.startswith("INFEROXY_") and not name.startswith("INFEROXY_ENGINE")
    ]:
        del os.environ[name]  # the stacks are made as the drills say, not as the caller's shell
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what is made to crash leaves no core file
    signal.signal(signal.SIGTERM, _interrupt)
    runs: list[Run] = []
    with Report(console) as report:
        try:
            for name in settings.only or DRILLS:
                run = Run(name, settings.quick, lambda doing, name=name: report.say(name, doing))
                if _perform(run, DRILLS[name], report):
                    runs.append(run)
        except KeyboardInterrupt:
            report.finish(runs)
            return INTERRUPTED
        report.finish(runs)
    return 0 if all(run.holds for run in runs) else 1


def _perform(run: Run, drill: Drill, report: Report) -> bool:
    """Run one drill; False when it cannot be done here."""
    report.begin(run.name, _about(drill))
    try:
        drill(run)
    except Impossible as exc:
        report.skip(run.name, str(exc))
        return False
    except Exception as exc:
        run.problems.append(_told(exc))
    report.end(run)
    return True


def _told(exc: Exception) -> str:
    """What went wrong and where in the drills; assertions of `wait_until` carry a whole log behind their first line."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if FOLDER in frame.filename]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[1:]))
    return f"{type(exc).__name__}: {str(exc)[:TOLD_LENGTH].splitlines()[:3]} at {where}"


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these drills, see --list")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--quick", action="store_true", help="fewer blows and less time each")
    found = parser.parse_args(arguments)
    unknown = set(found.only or ()) - set(DRILLS)
    if unknown:
        parser.error(f"--only: expected names of {', '.join(DRILLS)}, found {', '.join(sorted(unknown))}")
    return found


def _about(drill: Drill) -> str:
    return (drill.__doc__ or "").strip()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
