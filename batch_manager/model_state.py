"""All that the batch manager knows of one model version: its spec, queue, instances and figures.

Pure. What happens on an event is core.py's.
"""

from collections import Counter

from batch_manager.dispatcher import Dispatcher, Instance
from batch_manager.dynamic_batcher import DynamicBatcher
from batch_manager.pace import Pace
from batch_manager.queues import Pending, RequestQueue
from batch_manager.rhythm import Rhythm
from batch_manager.sequence_batcher import SequenceBatcher
from batch_manager.service_time import ServiceTime
from batch_manager.tally import Tally
from inferoxy.messages import Condition, Hello, ModelLoad, ModelSpec, ModelView

_SMOOTHING = 0.2  # weight of the newest sample in smoothed figures
_RATE_WINDOW_S = 5.0
BUDGET_MARGIN = 0.04  # of a latency budget, for what a batch takes longer than predicted


class Figures:
    """Counters and smoothed durations of one model version.

    `dropped` is what too much load did, `failed` what went wrong otherwise; `drops` counts by reason all requests that
    were answered without the model.
    """

    __slots__ = (
        "_recent",
        "batches",
        "compute_s",
        "dropped",
        "drops",
        "executed",
        "failed",
        "item_s",
        "items",
        "queue_s",
        "rate",
    )

    def __init__(self) -> None:
        self.executed = 0
        self.failed = 0
        self.dropped = 0
        self.drops: Counter[str] = Counter()
        self.batches = 0
        self.items = 0
        self.compute_s = 0.0
        self.item_s = 0.0
        self.queue_s = 0.0
        self.rate = 0.0
        self._recent = 0

    def arrived(self) -> None:
        """A request was accepted."""
        self._recent += 1

    def ran(self, compute_s: float, items: int, queue_s: float) -> None:
        """A batch was done; `queue_s` is the wait of its first request."""
        self.batches += 1
        self.items += items
        first = self.batches == 1
        weight = 1.0 if first else _SMOOTHING
        self.compute_s += weight * (compute_s - self.compute_s)
        self.item_s += weight * (compute_s / max(items, 1) - self.item_s)
        self.queue_s += weight * (queue_s - self.queue_s)

    def tick(self, elapsed_s: float) -> None:
        """Fold what arrived since the last tick into the rate."""
        weight = min(1.0, elapsed_s / _RATE_WINDOW_S)
        self.rate += weight * (self._recent / elapsed_s - self.rate)
        self._recent = 0


class ModelState:
    """One model version in the batch manager. `is_guarded`: lower work has to mind it."""

    def __init__(self, spec: ModelSpec, now: float) -> None:
        self._take_over(spec)
        self.dispatcher = Dispatcher()
        self.queue = RequestQueue(spec.batch_size)
        self.batcher = DynamicBatcher(self.queue, spec.max_queue_delay_ms / 1e3)
        self.sequences = SequenceBatcher(spec.batch_size, spec.max_sequences, spec.sequence_idle_s)
        self.service = ServiceTime()
        self.rhythm = Rhythm()
        self.pace = Pace(spec.target_fps, now)
        self.figures = Figures()
        self.tally = Tally(now)
        self.urgency = 0  # the highest priority of a request since the last dispatch
        self.started_at = now  # when its last batch was sent
        self.learn_at = now  # from when on a batch's time is learned from
        self.ready_since = now  # when the first of its present instances joined
        self.hello: Hello | None = None
        self.condition = Condition(model=spec.name, model_version=spec.version)
        self.active_at = now
        self.demanded = False
        self.due_at = float("inf")
        self.hopeless_at = float("inf")  # the instant for which the next look for hopeless requests is set

    def is_due(self, now: float) -> bool:
        """Whether an idle instance should take what waits."""
        at = self.batcher.due_at()
        return at is not None and at <= now

    def latest_start(self, pending: Pending) -> float:
        """The last instant at which a waiting request can start and still be answered within the latency budget.

        Only waiting counts as lateness: time before the model was ready does not, and a budget that even an idle model
        cannot keep is no reason to run nothing.
        """
        since = max(pending.queued_at, self.ready_since)
        budget_s = self.budget_s
        waiting = self.queue.count or 1
        service_s = self.service.predict(min(waiting, self.queue.limit)) + BUDGET_MARGIN * budget_s
        return since + max(budget_s - service_s, budget_s / 10)

    def is_pressed_by(self, instance: Instance) -> bool:
        """Whether what waits would make its budget if it started now, but not behind this instance's batch.

        It is sent when that batch is done: until then others may take it, or it may make way for those behind it.
        """
        oldest = self.queue.oldest()
        return oldest is not None and self.latest_start(oldest) < instance.expected_end()

    def head(self) -> Pending | None:
        """The request to be served next."""
        if self.spec.stateless:
            return self.queue.head()
        return self.sequences.oldest() if self.sequences.count else None

    def apply(self, spec: ModelSpec) -> None:
        """The registration changed: take over what concerns queueing."""
        self._take_over(spec)
        self.batcher.delay_s = spec.max_queue_delay_ms / 1e3
        self.sequences.places = spec.max_sequences
        self.sequences.idle_s = spec.sequence_idle_s
        self.sequences.places_changed()
        self.pace.change(spec.target_fps)
        for device in {instance.device for instance in self.dispatcher.all.values()}:
            device.review()
        self._limit()

    def introduce(self, hello: Hello, now: float) -> None:
        """An instance, which is among the dispatcher's now, has declared what the model is."""
        self.hello = hello
        if len(self.dispatcher.all) == 1:
            self.ready_since = now
        if hello.compute_us and not self.service.is_known:
            self.service.saw(1, hello.compute_us / 1e6)
        self.sequences.places_changed()
        self._limit()

    def part(self) -> None:
        """An instance has left: the others may hold larger batches."""
        self._limit()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self.queue) + len(self.sequences)

    @property
    def waiting_bytes(self) -> int:
        """Their tensors' bytes."""
        return self.queue.bytes + self.sequences.bytes

    def wrong_rows(self, pending: Pending) -> str:
        """Why a request that no batch can hold is refused."""
        return f"leading axis: expected 1 to {self.queue.limit} rows (batch_size), found {pending.header.rows}"

    def discard(self, pending: Pending) -> list[Pending]:
        """Take one queued request out of turn; returns those that cannot be run without it."""
        if self.spec.stateless:
            self.queue.discard(pending)
            return []
        return self.sequences.discard(pending)

    def in_flight(self) -> int:
        """Requests that instances hold."""
        return sum(batch.open for i in self.dispatcher.all.values() for batch in i.in_flight.values())

    def load(self, now: float) -> ModelLoad:
        """What the task manager scales by."""
        oldest = self.queue.oldest() if self.spec.stateless else self.sequences.oldest()
        figures, in_flight = self.figures, self.in_flight()
        active = self.waiting or in_flight or any(i.sequences for i in self.dispatcher.all.values())
        return ModelLoad(
            model=self.spec.name,
            model_version=self.spec.version,
            queued=self.waiting,
            oldest_s=now - oldest.arrived_at if oldest else 0.0,
            in_flight=in_flight,
            rate=figures.rate,
            compute_s=figures.item_s,
            idle_s=0.0 if active else now - self.active_at,
            executed=figures.executed,
            failed=figures.failed,
            dropped=figures.dropped,
            mean_batch=figures.items / figures.batches if figures.batches else 0.0,
            queue_s=figures.queue_s,
            sequences_waiting=self.sequences.waiting(),
        )

    def view(self) -> ModelView:
        """What bridges show."""
        ready = len(self.dispatcher.all)
        view = ModelView(
            spec=self.spec,
            state="ready" if ready else self.condition.state,
            error="" if ready else self.condition.error,
            instances=ready,
        )
        if self.hello is not None:
            view.inputs, view.outputs = self.hello.inputs, self.hello.outputs
            view.platform, view.metadata = self.hello.platform, self.hello.metadata
            view.stacked, view.decoupled = self.hello.stacked, self.hello.decoupled
        view.arena = bool(ready) and all(i.hello.arena for i in self.dispatcher.all.values())
        return view

    def free_for_sequences(self) -> list[Instance]:
        """Instances that may take another sequence, the least loaded first."""
        serving = self.dispatcher.idle.keys() | self.dispatcher.busy.keys()
        free = [self.dispatcher.all[n] for n in serving if self.dispatcher.all[n].sequences < self.sequences.places]
        return sorted(free, key=lambda i: (i.sequences, i.name))

    def _take_over(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.budget_s = spec.latency_budget_ms / 1e3  # 0: none
        self.is_guarded = spec.protect == "strict" or (spec.protect == "budget" and self.budget_s > 0)

    def _limit(self) -> None:
        """A batch must fit every connected instance."""
        declared = [i.hello.batch_size for i in self.dispatcher.all.values() if i.hello.batch_size > 0]
        limit = max(1, min([self.spec.batch_size, *declared]))
        self.sequences.limit = limit
        self.queue.reshape(limit, stacked=self.hello.stacked if self.hello else self.queue.stacked)
