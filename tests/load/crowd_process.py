"""A process that is a part of the crowd: `python -m tests.load.crowd_process`.

Reads a Plan from standard input, runs its clients until a second line or the end of it, and says on standard output
what became of all their exchanges.
Invariant: every exchange that was begun has exactly one outcome.
"""

import asyncio
import resource
import sys
import time
from collections import Counter
from random import Random

import msgspec

from tests.load import zmq_clients
from tests.load.kinds import KINDS
from tests.load.talk import CONNECTION, GRACE_S, LOST, RIGHT, TIMEOUT_S, WRONG, Place, Said, Turn

EXAMPLES = 3
WHY_LENGTH = 600
LATE_S = 2 * TIMEOUT_S


class Plan(msgspec.Struct):
    """How many clients of each kind there are, and the pause of each between two exchanges."""

    addresses: dict[str, str]
    clients: dict[str, int]
    first: int
    pause_s: float


class Found(msgspec.Struct):
    """What became of one kind's exchanges: counts by code, examples of what was not right, seconds of the right."""

    counts: dict[str, int] = {}
    examples: list[str] = []
    seconds: list[float] = []


async def run(plan: Plan, over: asyncio.Event) -> dict[str, Found]:
    """Run the clients until it is over, and wait for what is open."""
    found = {name: Found() for name in plan.clients}
    clients = [
        _client(KINDS[name](Place(plan.addresses, plan.first + (at << 20))), found[name], plan.pause_s, at, over)
        for at, name in enumerate(name for name, count in plan.clients.items() for _ in range(count))
    ]
    await asyncio.gather(*clients)
    for fault in zmq_clients.faults():
        _note(found[next(iter(found))], Said(WRONG, fault), 0.0)
    return found


async def _client(turn: Turn, found: Found, pause_s: float, at: int, over: asyncio.Event) -> None:
    chance = Random(at)
    await asyncio.sleep(chance.random() * min(2.0, 4 * pause_s))
    while not over.is_set():
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S + GRACE_S):
                said = await turn()
        except TimeoutError:
            said = Said(LOST, f"no answer within {TIMEOUT_S + GRACE_S:g} s")
        except (OSError, EOFError) as exc:
            said = Said(CONNECTION, f"{type(exc).__name__}: {exc}")
        except Exception as exc:  # what cannot be understood is a wrong answer, and must be counted
            said = Said(WRONG, f"{type(exc).__name__}: {exc}")
        _note(found, said, time.monotonic() - began)
        await asyncio.sleep(pause_s * (0.5 + chance.random()))


def _note(found: Found, said: Said, took_s: float) -> None:
    found.counts = Counter(found.counts) + Counter([said.code])
    if said.code == RIGHT:
        found.seconds.append(took_s)
    elif len(found.examples) < EXAMPLES:
        found.examples.append(f"{said.code}: {said.why[:WHY_LENGTH]}")


async def _run(plan: Plan) -> dict[str, Found]:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: (loop.remove_reader(sys.stdin), over.set()))
    return await run(plan, over)


def main() -> int:
    """Run the plan on standard input."""
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = asyncio.run(_run(plan))
    sys.stdout.buffer.write(msgspec.json.encode(found))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
