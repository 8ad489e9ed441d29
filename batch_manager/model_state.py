"""All that the batch manager knows of one model version: its spec, queue, instances and figures.

Pure. What happens on an event is core.py's.
"""

from batch_manager.dispatcher import Dispatcher, Instance
from batch_manager.dynamic_batcher import DynamicBatcher
from batch_manager.queues import Pending, RequestQueue
from batch_manager.sequence_batcher import SequenceBatcher
from inferoxy.messages import Condition, Hello, ModelLoad, ModelSpec, ModelView

_SMOOTHING = 0.2  # weight of the newest sample in smoothed figures
_RATE_WINDOW_S = 5.0


class Figures:
    """Counters and smoothed durations of one model version."""

    __slots__ = (
        "_recent",
        "batches",
        "compute_s",
        "dropped",
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
    """One model version in the batch manager."""

    def __init__(self, spec: ModelSpec, now: float) -> None:
        self.spec = spec
        self.dispatcher = Dispatcher()
        self.queue = RequestQueue(spec.batch_size)
        self.batcher = DynamicBatcher(self.queue, spec.max_queue_delay_ms / 1e3)
        self.sequences = SequenceBatcher(spec.batch_size, spec.max_sequences, spec.sequence_idle_s)
        self.figures = Figures()
        self.hello: Hello | None = None
        self.condition = Condition(model=spec.name, model_version=spec.version)
        self.active_at = now
        self.demanded = False
        self.due_at = float("inf")

    def apply(self, spec: ModelSpec) -> None:
        """The registration changed: take over what concerns queueing."""
        self.spec = spec
        self.batcher.delay_s = spec.max_queue_delay_ms / 1e3
        self.sequences.places = spec.max_sequences
        self.sequences.idle_s = spec.sequence_idle_s
        self._limit()

    def introduce(self, hello: Hello) -> None:
        """An instance has declared what the model is."""
        self.hello = hello
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

    def discard(self, pending: Pending) -> None:
        """Take one queued request out of turn."""
        if self.spec.stateless:
            self.queue.discard(pending)
        else:
            self.sequences.discard(pending)

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

    def _limit(self) -> None:
        """A batch must fit every connected instance."""
        declared = [i.hello.batch_size for i in self.dispatcher.all.values() if i.hello.batch_size > 0]
        limit = max(1, min([self.spec.batch_size, *declared]))
        self.sequences.limit = limit
        self.queue.reshape(limit, stacked=self.hello.stacked if self.hello else self.queue.stacked)
