"""Everything around one BatchManager, played under a discrete-event clock: bridge, catalog, instances, time.

Pure. Causal: the core is told of a request at the instant it comes and of a service time only by its result (and, once,
by HELLO, as after a warm-up). Runs are not preempted. An instance works on its batches one after the other, leaving out
what has expired while it waited there; how many instances work at a time is for the core alone to limit.
Invariants: time is whole microseconds and never goes back; at one instant results come first, then arrivals in the
order of the scenario, then the core is woken if that is due. What the core sends is delivered behind each of these,
as in a turn of the broker, so nothing is known of what comes later in the same instant; only one task's requests of
one instant come together, as a bridge sends them. A message takes `hop_ms` from one process to the next. Every request
gets exactly one final answer.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from msgspec import Struct

from batch_manager.core import BatchManager
from batch_manager.simulation.arrivals import US_PER_MS, arrivals_of
from batch_manager.simulation.policies import Policy, spec_of
from batch_manager.simulation.scenario import Scenario, Task
from batch_manager.telemetry import Telemetry
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import Code, InternalError

US_PER_S = 1_000_000
BRIDGE = b"bridge"
DEVICE = "cpu"
LIFE_US = US_PER_S  # instances and bridge give a sign of life so often
WAKES = 16  # of the core at one instant; then a microsecond passes, as it would in the broker's loop
_BATCH, _RESULT, _ARRIVALS, _LIFE = 0, 1, 2, 3  # what is handled first at one instant

Note = Callable[[dict[str, Any]], object]


class Asked(Struct):
    """One request and what became of it. `number` counts within its task.

    `code` is empty for an answer of the model; else `reason` is what the core counts it under, `error` what the client
    is told.
    """

    id: int
    task: str
    number: int
    arrived_us: int
    stretch: float
    began_us: int | None = None
    answered_us: int | None = None
    code: str = ""
    reason: str = ""
    error: str = ""

    @property
    def request_id(self) -> str:
        """What telemetry calls it."""
        return f"{self.task}-{self.number}"

    @property
    def latency_ms(self) -> float:
        """From arrival to final answer."""
        return ((self.answered_us or 0) - self.arrived_us) / US_PER_MS


class Run(Struct):
    """One batch on an instance."""

    task: str
    instance: str
    begun_us: int
    ends_us: int
    requests: list[int]


class Outcome(Struct):
    """What one policy made of a scenario."""

    policy: Policy
    requests: list[Asked]
    runs: list[Run]

    @property
    def end_us(self) -> int:
        """When the last run or request ended."""
        return max([0, *(run.ends_us for run in self.runs), *(r.answered_us or 0 for r in self.requests)])


class _Waiting(NamedTuple):
    """A batch that an instance holds."""

    batch: m.Batch
    received_us: int

    def late(self, now_us: int) -> list[int]:
        """The tickets of requests that have expired. What is left was rounded down when the batch was sent."""
        return [i.ticket for i in self.batch.items if i.timeout_us and self.received_us + i.timeout_us + 1 < now_us]


class _Instance:
    """Takes batches, works on the first."""

    def __init__(self, name: str, task_name: str, task: Task) -> None:
        self.name = name
        self.task_name = task_name
        self.task = task
        self.batches: deque[_Waiting] = deque()
        self.run: Run | None = None

    @property
    def peer(self) -> bytes:
        return self.name.encode()


def simulate(scenario: Scenario, policy: Policy, note: Note | None = None) -> Outcome:
    """What a policy makes of a scenario.

    Args:
        scenario: What comes, and how long it takes.
        policy: What the dispatcher is told.
        note: Called with every event of the core's telemetry, in order; the policy is added.

    Raises:
        InternalError: The core broke a rule, such as leaving a request without an answer.
    """
    return _Machine(scenario, policy, note).play()


class _Machine:
    def __init__(self, scenario: Scenario, policy: Policy, note: Note | None) -> None:
        self._scenario = scenario
        self._policy = policy
        self._note = note
        self._now_us = 0
        self._events: list[tuple[int, int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._asked: list[Asked] = []
        self._by_id: dict[str, Asked] = {}
        self._open = 0
        self._sent = 0  # messages to and from instances that are on their way
        self._hop_us = round(scenario.hop_ms * US_PER_MS)
        self._runs: list[Run] = []
        self._instances: dict[bytes, _Instance] = {}
        self._telemetry = Telemetry()
        self._core = BatchManager(epoch=1, cpu_slots=scenario.workers, telemetry=self._telemetry, now=0.0)

    def play(self) -> Outcome:
        self._furnish()
        self._expect_requests()
        wakes = 0
        while self._open or self._sent or any(instance.run for instance in self._instances.values()):
            wake_us = max(_whole(self._core.next_wakeup()), self._now_us)
            if self._events[0][0] <= wake_us:
                self._now_us, _, _, action = heapq.heappop(self._events)
                action()
            else:
                wakes = wakes + 1 if wake_us == self._now_us else 0
                self._now_us = wake_us if wakes < WAKES else self._now_us + 1
                self._core.wake(self._now)
            self._deliver()
        return Outcome(self._policy, self._asked, self._runs)

    def _furnish(self) -> None:
        """Register the models, and let every instance say HELLO."""
        tasks = self._scenario.tasks
        specs = [spec_of(name, task, self._policy) for name, task in tasks.items()]
        self._tell(b"", m.Catalog(revision="1", models=specs))
        self._show_life()
        for name, task in tasks.items():
            for number in range(task.instances):
                instance = _Instance(f"{name}-{number}", name, task)
                self._instances[instance.peer] = instance
                self._tell(
                    instance.peer,
                    m.Hello(
                        instance=instance.name,
                        model=name,
                        model_version="1",
                        batch_size=task.batch_size,
                        device=DEVICE,
                        compute_us=round(task.service_ms * US_PER_MS) if self._scenario.warm else 0,
                    ),
                )
        self._deliver()

    def _expect_requests(self) -> None:
        coming: list[tuple[int, int, int, float]] = []
        for place, (name, task) in enumerate(self._scenario.tasks.items()):
            arrivals = arrivals_of(name, task, self._scenario.seed)
            coming += [(at_us, place, number, stretch) for number, (at_us, stretch) in enumerate(arrivals)]
        coming.sort()
        names = list(self._scenario.tasks)
        for (at_us, place), together in itertools.groupby(coming, key=lambda item: item[:2]):
            first = len(self._asked)
            self._asked += [
                Asked(first + ahead, names[place], number, at_us, stretch)
                for ahead, (_, _, number, stretch) in enumerate(together)
            ]
            self._at(at_us + self._hop_us, _ARRIVALS, partial(self._ask, self._asked[first:]))
        self._by_id = {asked.request_id: asked for asked in self._asked}
        self._open = len(self._asked)

    @property
    def _now(self) -> float:
        return self._now_us / US_PER_S

    def _at(self, at_us: int, kind: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_us, kind, next(self._order), action))

    def _send(self, kind: int, arrive: Callable[[], None]) -> None:
        """Let a message to or from an instance arrive when it has covered its way."""
        if not self._hop_us:
            arrive()
            return

        def after_the_way() -> None:
            self._sent -= 1
            arrive()

        self._sent += 1
        self._at(self._now_us + self._hop_us, kind, after_the_way)

    def _tell(self, peer: bytes, header: m.Header) -> None:
        self._core.handle(peer, header, (), self._now)

    def _show_life(self) -> None:
        self._tell(BRIDGE, m.Ping())
        for peer in self._instances:
            self._tell(peer, m.Heartbeat())
        self._at(self._now_us + LIFE_US, _LIFE, self._show_life)

    def _ask(self, asked: list[Asked]) -> None:
        requests = [m.Request(id=one.id, model=one.task, request_id=one.request_id) for one in asked]
        self._tell(BRIDGE, m.Requests(items=requests))

    def _deliver(self) -> None:
        """Hand over what the core sends, until it decides nothing more, and what it says of its decisions."""
        while sends := self._core.take_sends():
            for _, peer, header, frames in sends:
                if isinstance(header, m.Responses):
                    for response, _ in wire.each(header, frames):
                        self._answered(response)
                elif isinstance(header, m.Batch):
                    self._send(_BATCH, partial(self._receive, self._instances[peer], header))
                elif isinstance(header, m.Stop) or (isinstance(header, m.Welcome) and header.error):
                    raise InternalError(f"simulation: the batch manager turned instance {peer.decode()} away")
        for event in self._telemetry.take():
            if event["event"] in ("dropped", "shed"):
                self._by_id[event["request_id"]].reason = event["reason"]
            if self._note is not None:
                self._note({"policy": self._policy.value, **event})

    def _receive(self, instance: _Instance, batch: m.Batch) -> None:
        instance.batches.append(_Waiting(batch, self._now_us))
        if instance.run is None:
            self._begin(instance)

    def _begin(self, instance: _Instance) -> None:
        """Work on the batch that has waited longest."""
        task, waiting = instance.task, instance.batches[0]
        late = waiting.late(self._now_us)
        ids = [self._by_id[item.request_id].id for item in waiting.batch.items if item.ticket not in late]
        service_us = 0
        if ids:
            service_ms = (task.service_ms + task.per_item_ms * (len(ids) - 1)) * self._asked[ids[0]].stretch
            service_us = max(1, round(service_ms * US_PER_MS))
        instance.run = Run(instance.task_name, instance.name, self._now_us, self._now_us + service_us, ids)
        if ids:
            self._runs.append(instance.run)
        for number in ids:
            self._asked[number].began_us = self._now_us
        self._at(instance.run.ends_us, _RESULT, partial(self._end, instance, waiting.batch, late))

    def _end(self, instance: _Instance, batch: m.Batch, late: list[int]) -> None:
        run = instance.run
        if run is None:
            raise InternalError(f"simulation: instance {instance.name} ended a batch that it had not begun")
        items = [m.ResultItem(i.ticket) for i in batch.items if i.ticket not in late]
        items += [m.ResultItem(ticket, code=Code.DEADLINE_EXCEEDED, error="too late") for ticket in late]
        instance.batches.popleft()
        instance.run = None
        if instance.batches:
            self._begin(instance)
        result = m.Result(batch=batch.id, items=items, compute_us=run.ends_us - run.begun_us)
        self._send(_RESULT, lambda: self._tell(instance.peer, result))

    def _answered(self, response: m.Response) -> None:
        asked = self._asked[response.id]
        if asked.answered_us is not None or not response.final:
            raise InternalError(f"simulation: request {asked.id} of {asked.task} was answered twice")
        asked.answered_us, asked.code, asked.error = self._now_us + self._hop_us, response.code, response.error
        self._open -= 1


def _whole(at_s: float) -> int:
    """The first whole microsecond at or behind an instant, as the core will compare it."""
    at_us = math.floor(at_s * US_PER_S)
    while at_us / US_PER_S < at_s:
        at_us += 1
    return at_us
