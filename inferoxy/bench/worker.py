"""A process that makes load: `python -m inferoxy.bench.worker`, told what to do on its standard input.

Lines of JSON. In: a Plan, then the monotonic instant at which to begin. Out: Ready when every request was asked once
and answered rightly, Progress while it runs, and at the end Done; or Failed. It ends when its input does.
"""

import asyncio
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from inferoxy.bench import traffic
from inferoxy.bench.connections import Connections, connections_for
from inferoxy.bench.exact_loop import new_loop
from inferoxy.bench.pacing import ClosedLoop, OpenLoop, Tally, even, poisson
from inferoxy.bench.plan import Plan
from inferoxy.bench.samples import Samples, Stride
from inferoxy.client import address as addresses
from inferoxy.client.calls import drive_async
from inferoxy.client.protocols import awaited_transport
from inferoxy.errors import Code, InferoxyError

CHECKED_AT_MOST = 8  # different requests whose answers are checked
CHECK_S = 120.0  # the first answer may wait for the model to be loaded
PROGRESS_S = 0.25
DRAIN_S = 10.0  # for the last answers


class Ready(Struct, tag=True):
    """Connected; every request was asked once and answered rightly."""


class Progress(Struct, tag=True):
    """How it goes. `answered` and `failed` count from the beginning, p50 and p99 are of the time since the last one."""

    answered: int
    failed: int
    open: int
    p50_s: float
    p99_s: float


class Done(Struct, tag=True):
    """What was counted."""

    completed: int
    waited: int
    failures: dict[str, int]
    latency: dict[str, Any]
    lateness: dict[str, Any]
    samples: dict[str, Any]
    cpu_share: float  # of one core, used by this process while it was measured
    problem: str  # with the content of answers; empty: there was none


class Failed(Struct, tag=True):
    """It could not be done."""

    code: str
    error: str


Said = Ready | Progress | Done | Failed


class Worker:
    """One run. It is the Receiver of its connections."""

    def __init__(self, plan: Plan, say: Callable[[Said], None]) -> None:
        self._plan = plan
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._asked = traffic.questions(plan)
        self._samples = Samples()
        self._stride = Stride()
        self._pacer: ClosedLoop | OpenLoop | None = None
        self._check: asyncio.Future[Any] | None = None
        self._answered = 0
        self._failed = 0
        self._problem = ""
        self._is_empty = asyncio.Event()
        self._due: asyncio.TimerHandle | None = None
        address = addresses.parse(plan.url)
        self._connections: Connections = connections_for(address, self._asked, self, joined=plan.joined)

    async def prepare(self) -> list[Any]:
        """Connect and ask every request once; what was answered.

        Raises:
            InferoxyError: An answer was an error or not what it should be.
        """
        await self._connections.open(self._plan.slots)
        return [await self._ask(number) for number in range(min(len(self._asked), CHECKED_AT_MOST))]

    async def run(self, start: float, before: list[Any]) -> None:
        """Make load from an instant on, then ask every request once more and compare.

        Args:
            start: Of the loop's clock.
            before: What `prepare` gave.
        """
        plan, loop = self._plan, self._loop
        begin = start + plan.warmup_s
        tally = Tally(begin, begin + plan.duration_s)
        self._pacer = pacer = self._make_pacer(start, tally)
        await asyncio.sleep(max(0.0, start - loop.time()))
        pacer.begin(loop.time())
        self._on_due()
        said = loop.create_task(self._report(tally))
        await asyncio.sleep(max(0.0, begin - loop.time()))
        self._stride.set_rate(self._answered / plan.warmup_s if plan.warmup_s else plan.rate)
        self._samples = Samples()
        cpu_before, began = _cpu_s(), loop.time()
        await asyncio.sleep(max(0.0, tally.end - loop.time()))
        cpu_share = (_cpu_s() - cpu_before) / (loop.time() - began)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while pacer.open:
                    self._is_empty.clear()
                    await self._is_empty.wait()
        said.cancel()
        pacer.give_up(loop.time())
        tally.flush()
        self._pacer = None
        await self._check_again(before)
        self._say(
            Done(
                completed=tally.completed,
                waited=pacer.waited if isinstance(pacer, OpenLoop) else 0,
                failures=tally.failures,
                latency=tally.latency.to_dict(),
                lateness=tally.lateness.to_dict(),
                samples=self._samples.to_dict(),
                cpu_share=cpu_share,
                problem=self._problem,
            )
        )

    async def close(self) -> None:
        """End the connections."""
        if self._due is not None:
            self._due.cancel()
        await self._connections.close()

    # Receiver

    def answered(self, slot: int, code: str) -> None:
        """Take the clock, count, and let the pacer go on."""
        now = self._loop.time()
        if code:
            self._failed += 1
        else:
            self._answered += 1
        pacer = self._pacer
        if pacer is None:
            if code and self._check is not None and not self._check.done():
                self._check.set_result(code)
            return
        pacer.answered(slot, now, code)
        if not pacer.open:
            self._is_empty.set()

    def keeps(self) -> bool:
        """Checks are kept, and some of the load."""
        return self._check is not None or self._stride.next()

    def kept(self, number: int, reply: Any) -> None:
        """Look at an answer."""
        if self._check is not None:
            if not self._check.done():
                self._check.set_result(reply)
            return
        try:
            self._samples.take(traffic.served_of(self._asked[number % len(self._asked)].read(reply)))
        except InferoxyError as exc:
            self._problem = self._problem or f"an answer could not be read: {exc.message}"

    def _make_pacer(self, start: float, tally: Tally) -> ClosedLoop | OpenLoop:
        plan, send = self._plan, self._connections.send
        if not plan.rate:
            return ClosedLoop(plan.slots, send, tally)
        if plan.arrivals == "even":
            arrivals = even(start, plan.rate * plan.shares, share=plan.share, shares=plan.shares)
        else:
            arrivals = poisson(start, plan.rate, plan.seed * 1_000 + plan.share)
        return OpenLoop(arrivals, plan.slots, send, tally)

    def _on_due(self) -> None:
        pacer = self._pacer
        if pacer is not None:
            pacer.due(self._loop.time())
            if pacer.next_due() < float("inf"):
                self._due = self._loop.call_at(pacer.next_due(), self._on_due)

    async def _ask(self, number: int) -> Any:
        """Ask one request alone; the content of its answer.

        Raises:
            InferoxyError: It is an error, cannot be read, is not what the plan expects, or does not come.
        """
        question = self._asked[number]
        self._check = self._loop.create_future()
        self._connections.send(0, number)
        try:
            async with asyncio.timeout(CHECK_S):
                reply = await self._check
        except TimeoutError as exc:
            raise InferoxyError(f"{question.name}: no answer within {CHECK_S:.0f} s", Code.DEADLINE_EXCEEDED) from exc
        finally:
            self._check = None
        if isinstance(reply, str):
            await self._explain(question)
            raise InferoxyError(f"{question.name}: {self._plan.url} answered {reply}", _known(reply))
        answer = question.read(reply)
        wrong = traffic.unexpected(answer, self._plan.expected)
        if wrong:
            raise InferoxyError(f"{question.name}: {wrong}")
        return traffic.content_of(answer)

    async def _explain(self, question: traffic.Question) -> None:
        """Ask as the Python client does, which tells errors with all their words.

        Raises:
            InferoxyError: What the server answers.
        """
        transport = awaited_transport(addresses.parse(self._plan.url))
        try:
            await drive_async(question.steps(), transport.exchange)
        finally:
            await transport.close()

    async def _check_again(self, before: list[Any]) -> None:
        for number, content in enumerate(before):
            try:
                same = traffic.alike(content, await self._ask(number))
            except InferoxyError as exc:
                self._problem = self._problem or f"after the load: {exc.message}"
                continue
            if not same:
                self._problem = (
                    self._problem or f"{self._asked[number].name}: another answer after the load than before"
                )

    async def _report(self, tally: Tally) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            recent = sorted(tally.latencies)
            p50, p99 = (recent[int(len(recent) * part)] if recent else 0.0 for part in (0.5, 0.99))
            tally.flush()
            open_now = self._pacer.open if self._pacer else 0
            self._say(Progress(self._answered, self._failed, open_now, p50, p99))


async def serve() -> int:
    """Do what the lines on standard input say; the exit code."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=1 << 24)
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)

    def say(said: Said) -> None:
        print(msgspec.json.encode(said).decode(), flush=True)

    worker: Worker | None = None
    try:
        worker = Worker(msgspec.json.decode(await commands.readline(), type=Plan), say)
        before = await worker.prepare()
        say(Ready())
        line = await commands.readline()
        if not line:
            return 0
        running = loop.create_task(worker.run(float(line), before))
        left = loop.create_task(commands.read())
        await asyncio.wait([running, left], return_when=asyncio.FIRST_COMPLETED)
        for task in (running, left):
            task.cancel()
        await asyncio.gather(left, return_exceptions=True)
        with suppress(asyncio.CancelledError):
            await running
    except InferoxyError as exc:
        say(Failed(exc.code, exc.message))
    except OSError as exc:
        say(Failed(Code.INVALID_REQUEST, f"{exc.filename or ''}: {exc.strerror or exc}".removeprefix(": ")))
    finally:
        if worker is not None:
            await worker.close()
        pipe.close()
    return 0


def _known(code: str) -> Code:
    return Code(code) if code in Code.__members__ else Code.INTERNAL


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run until the work is done or the parent is gone."""
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            code = runner.run(serve())
    except (BrokenPipeError, KeyboardInterrupt):
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
