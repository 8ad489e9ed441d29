"""A process that sends load and checks every answer: `python -m tests.drill.load_process`.

Reads a Plan from standard input, then runs until a second line or the end of it; says on standard output how far it is,
and at the end what became of every request.
Invariant: every request that was sent has exactly one outcome.
"""

import asyncio
import itertools
import sys
import time
from collections import Counter
from typing import Any

import msgspec

from tests.drill.flows import GRACE_S, LOST, RIGHT, WRONG, Done, Flow, Outcome, Plan, Progress, encode_line
from tests.drill.grpc_port import GrpcPort
from tests.drill.http_port import HttpPort
from tests.drill.questions import Question, Reply, Sequence, doubled, elements_of, fault_of
from tests.drill.zmq_port import ZmqPort

PROGRESS_S = 0.1
PORTS = {"http": HttpPort, "grpc": GrpcPort, "zmq": ZmqPort}
REST_S = 0.02  # before a user whose request failed asks again
WHY_LENGTH = 4_000


class LoadProcess:
    """The flows of one plan. Made and run on one loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ports: dict[str, Any] = {p: PORTS[p](plan.addresses[p]) for p in {f.protocol for f in plan.flows}}
        self._numbers = itertools.count(plan.first)
        self._outcomes: list[Outcome] = []
        self._codes: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until standard input says stop, and tell how far it is, and at last what became of everything."""
        asyncio.get_running_loop().add_reader(sys.stdin, self._on_told)
        telling = asyncio.create_task(self._tell())
        outcomes = await self.serve()
        telling.cancel()
        sys.stdout.buffer.write(encode_line(Done(outcomes)))
        sys.stdout.buffer.flush()

    async def serve(self) -> list[Outcome]:
        """Send until told to stop or until all flows are at their limits, and wait for what is open."""
        for port in self._ports.values():
            await port.open()
        senders = [self._at_rate(flow) if flow.rate else self._users(flow) for flow in self._plan.flows]
        await asyncio.gather(*senders)
        while self._tasks:
            await asyncio.wait(self._tasks)
        for port in self._ports.values():
            await port.close()
            for fault in port.faults:
                self._note(Outcome("twice", 0.0, 0.0, WRONG, fault))
        return self._outcomes

    def _on_told(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        self._stop.set()

    async def _tell(self) -> None:
        while True:
            other = {code: count for code, count in self._codes.items() if code}
            sys.stdout.buffer.write(encode_line(Progress(self._codes[RIGHT], other, len(self._tasks))))
            sys.stdout.buffer.flush()
            await asyncio.sleep(PROGRESS_S)

    async def _at_rate(self, flow: Flow) -> None:
        due = time.monotonic()
        for count in itertools.count(1):
            if not await self._goes_on(due - time.monotonic()):
                return
            self._spawn(self._ask(flow))
            due += 1.0 / flow.rate
            if count == flow.limit:
                return

    async def _users(self, flow: Flow) -> None:
        user = self._sequences if flow.steps else self._user
        await asyncio.gather(*(user(flow) for _ in range(flow.users)))

    async def _user(self, flow: Flow) -> None:
        for count in itertools.count(1):
            outcome = await self._ask(flow)
            pause_s = max(flow.pause_s, REST_S) if outcome.code else flow.pause_s
            if count == flow.limit or not await self._goes_on(pause_s):
                return

    async def _sequences(self, flow: Flow) -> None:
        """One sequence after the other; when one is lost, the next begins."""
        is_going_on = True
        while is_going_on:
            sequence_id = next(self._numbers)
            total = elements_of(0, flow.elements) * 0
            step = 0
            while step < flow.steps:
                asked = []
                for _ in range(min(flow.window, flow.steps - step)):
                    elements = elements_of(next(self._numbers), flow.elements)
                    total = total + elements
                    place = Sequence(sequence_id, step == 0, step == flow.steps - 1)
                    question = Question(
                        flow.model, elements.shape, elements.tobytes(), total.tobytes(), flow.timeout_s, 0, place
                    )
                    asked.append(self._spawn(self._put(flow, question)))
                    step += 1
                if any([(await task).code for task in asked]):
                    break
                await asyncio.sleep(flow.pause_s)
            is_going_on = await self._goes_on(flow.pause_s if step == flow.steps else REST_S)

    async def _goes_on(self, pause_s: float) -> bool:
        """Wait; False when the load is to end."""
        if pause_s <= 0:
            await asyncio.sleep(0)
            return not self._stop.is_set()
        try:
            await asyncio.wait_for(self._stop.wait(), pause_s)
        except TimeoutError:
            return True
        return False

    async def _ask(self, flow: Flow) -> Outcome:
        elements = elements_of(next(self._numbers), flow.elements, flow.mark)
        shape = (1, flow.elements)
        expected = doubled(elements).tobytes()
        return await self._put(
            flow, Question(flow.model, shape, elements.tobytes(), expected, flow.timeout_s, flow.priority)
        )

    async def _put(self, flow: Flow, question: Question) -> Outcome:
        """Ask, check, and write down what came."""
        sent_at = time.monotonic()
        try:
            async with asyncio.timeout(flow.timeout_s + GRACE_S):
                reply = await self._ports[flow.protocol].ask(question)
        except TimeoutError:
            reply = Reply(LOST, f"no answer within {flow.timeout_s + GRACE_S:g} s")
        except Exception as exc:  # what cannot be understood is a wrong answer, and must be counted
            reply = Reply(WRONG, f"{type(exc).__name__}: {exc}")
        code, why = reply.code, reply.error
        if not code:
            why = fault_of(question, reply)
            code = WRONG if why else RIGHT
        return self._note(Outcome(flow.name, sent_at, time.monotonic(), code, why[:WHY_LENGTH], reply.retry_after))

    def _note(self, outcome: Outcome) -> Outcome:
        self._outcomes.append(outcome)
        self._codes[outcome.code] += 1
        return outcome

    def _spawn(self, coroutine: Any) -> "asyncio.Task[Any]":
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def main() -> int:
    """Run the plan on standard input."""
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)

    asyncio.run(_run(plan))
    return 0


async def _run(plan: Plan) -> None:
    await LoadProcess(plan).run()


if __name__ == "__main__":
    sys.exit(main())
