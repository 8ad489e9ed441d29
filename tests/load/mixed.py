"""A crowd of mixed clients on one stack, every answer checked: `python -m tests.load.mixed`.

Good, bad, broken and cancelling clients of all protocols ask at the same time. At the end everything that was begun
must have been answered rightly, no process of the stack may have ended, and none may have grown.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.drill.drill import LOGS
from tests.drill.records import percentile
from tests.drill.stack import STATEFUL, DrillStack, models_yaml
from tests.integration.stack import processes_of, wait_until
from tests.load.crowd_process import LATE_S, Found, Plan
from tests.load.kinds import KINDS, crowd
from tests.load.memory import Line, Watch
from tests.load.talk import LOST, RIGHT

MODELS = Path(__file__).parent / "models"
INSTANCES = 5  # of all models
NUMBERS_EACH = 1 << 29  # of one process's clients; requests are told apart by 31 bits
EMPTY_S = 15.0
TABLE = "{:18} {:>8} {:>9} {:>9} {:>8} {:>8}"


class Outcome(NamedTuple):
    """What a crowd has seen, by kind of client; lines of memory by process; what does not hold."""

    found: dict[str, Found]
    memory: dict[str, Line]
    problems: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when every answer was right and memory flat."""
    given = _arguments(arguments)
    for name in [name for name in os.environ if name.startswith("INFEROXY_")]:
        del os.environ[name]  # the stack is made as this module says, not as the caller's shell
    outcome = run(crowd(given.clients, given.only), given.seconds, given.warm, given.pause)
    _show(outcome)
    return 1 if outcome.problems else 0


def run(clients: dict[str, dict[str, int]], seconds: float, warm_s: float, pause_s: float) -> Outcome:
    """Run a crowd.

    Args:
        clients: How many of each kind, by process.
        seconds: For so long, when they have warmed up.
        warm_s: Until caches are filled and buffers have found their size; memory is judged behind that.
        pause_s: Of each client, between two exchanges.
    """
    LOGS.mkdir(exist_ok=True)
    with DrillStack(models(), LOGS / "mixed.log") as stack:
        wait_until(lambda: len(_instances(stack)) == INSTANCES, 30.0, stack.log)
        before = _pids(stack)
        with Watch(lambda: _pids(stack), period_s=min(1.0, seconds / 20)) as watch:
            processes = [_start(stack, at, counts, pause_s) for at, counts in enumerate(clients.values())]
            try:
                time.sleep(warm_s)
                since = time.monotonic()
                time.sleep(seconds)
                found = _stop(processes)
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
        memory = watch.lines(since)
        problems = _problems(found)
        if _pids(stack) != before:
            problems.append(f"a process has ended: {before} became {_pids(stack)}")
        problems += [f"{name} grew {line.slope:.2f} MiB a minute" for name, line in memory.items() if not line.is_flat]
        problems += _left(stack)
    return Outcome(found, memory, problems)


def models() -> str:
    """The models.yaml of what a crowd asks for."""
    return models_yaml(
        double={"instances": {"min": 2, "max": 2}},
        look={"artifact": str(MODELS / "look")},
        repeat={"artifact": str(MODELS / "repeat")},
        sum=STATEFUL | {"max_sequences": 4_096, "sequence_idle_s": 5},
    )


def _start(stack: DrillStack, at: int, clients: dict[str, int], pause_s: float) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.load.crowd_process"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    addresses = {"http": stack.rest_url, "grpc": stack.grpc_address, "zmq": stack.zmq_endpoint}
    if process.stdin is not None:
        process.stdin.write(msgspec.json.encode(Plan(addresses, clients, 1 + at * NUMBERS_EACH, pause_s)) + b"\n")
        process.stdin.flush()
    return process


def _stop(processes: "list[subprocess.Popen[bytes]]") -> dict[str, Found]:
    """Tell all to end, and take what they have found."""
    for process in processes:
        if process.stdin is not None:
            process.stdin.write(b"stop\n")
            process.stdin.flush()
    found: dict[str, Found] = {}
    for process in processes:
        said, _ = process.communicate(timeout=LATE_S)
        found |= msgspec.json.decode(said, type=dict[str, Found])
    return found


def _problems(found: dict[str, Found]) -> list[str]:
    """Kinds of which an exchange was not right, or that had none."""
    problems = [f"{name}: {example}" for name, one in found.items() for example in one.examples]
    return problems + [f"{name}: no right answer" for name, one in found.items() if not one.counts.get(RIGHT)]


def _left(stack: DrillStack) -> list[str]:
    """What is still held of requests when nobody asks any more."""

    def is_empty() -> bool:
        said = stack.status()["components"].get("batch_manager", {})
        arenas = [bridge.get("arena", {}) for bridge in said.get("bridges", {}).values()]
        return bool(arenas) and not said["open_requests"] and not any(arena.get("used_slots") for arena in arenas)

    try:
        wait_until(is_empty, EMPTY_S)
    except AssertionError:
        return [f"something is still held: {stack.status()['components'].get('batch_manager')}"]
    return []


def _instances(stack: DrillStack) -> list[str]:
    return [said["instance"] for said in stack.events("an instance is ready")]


def _pids(stack: DrillStack) -> dict[str, int]:
    """All processes of the stack."""
    names = {pid: _name_of(command) for pid, command in processes_of(stack.data_dir).items()}
    if stack.process is not None:
        names[stack.process.pid] = "supervisor"
    return {f"{name} {pid}": pid for pid, name in names.items()}


def _name_of(command: list[str]) -> str:
    words = command[command.index("-m") + 1 :] if "-m" in command else command
    return "instance" if words[0] == "inferoxy.runtime" else " ".join(w for w in words[1:3] if not w.startswith("-"))


def _show(outcome: Outcome) -> None:
    print(TABLE.format("clients", "asked", "right", "other", "p50 ms", "p99 ms"))
    for name, one in outcome.found.items():
        right = one.counts.get(RIGHT, 0)
        p50, p99 = (percentile(one.seconds, share) * 1e3 for share in (0.5, 0.99))
        asked = sum(one.counts.values())
        print(TABLE.format(name, asked, right, asked - right, f"{p50:.1f}", f"{p99:.1f}"))
    print("\nmemory of each process for itself, a line through it: MiB at the beginning and the end, MiB a minute")
    for name, line in sorted(outcome.memory.items()):
        print(f"{name:34} {line.begin:8.1f} {line.end:8.1f} {line.slope:+8.2f}{'' if line.is_flat else '  GREW'}")
    for problem in outcome.problems:
        print(f"problem: {problem}")
    codes = sum((Counter(one.counts) for one in outcome.found.values()), Counter[str]())
    asked, right, lost = codes.total(), codes[RIGHT], codes[LOST]
    print(f"mixed: exchanges {asked} lost {lost} wrong {asked - right - lost} problems {len(outcome.problems)}")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load.mixed", description=__doc__)
    parser.add_argument("--clients", type=int, default=500, help="of all kinds together (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="behind the warming up (%(default)s)")
    parser.add_argument("--warm", type=float, default=75.0, help="seconds in which memory is not judged (%(default)s)")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between a client's exchanges (%(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
