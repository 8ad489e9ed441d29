"""The instances of each model and what each is doing; picks the instance for a batch.

Pure. Forming batches is dynamic_batcher.py's and sequence_batcher.py's.
Invariants: an instance has at most MAX_IN_FLIGHT batches; it is in `idle` exactly when it has none and in `busy`
exactly when it has room for one more; a draining instance is in neither, but in `finishing` while it has no batch: its
sequences go on to their ends.
"""

from enum import Enum
from typing import Any

from batch_manager.queues import Pending
from inferoxy.messages import CloseReason, Hello

MAX_IN_FLIGHT = 2  # one that computes and one that waits


class InstanceMode(Enum):
    """What an instance may be given. SERVING -> DRAINING -> LEFT, SERVING -> LEFT."""

    SERVING = "serving"
    DRAINING = "draining"
    LEFT = "left"


class InFlight:
    """A batch that was sent and is not done. Ticket i is requests[i]; None once it is answered."""

    __slots__ = ("closed", "id", "open", "requests", "rows", "size", "waited_s")

    def __init__(self, batch_id: int, requests: list[Pending], closed: CloseReason, now: float) -> None:
        self.id = batch_id
        self.requests: list[Pending | None] = list(requests)
        self.size = len(requests)
        self.rows = sum([pending.rows for pending in requests])
        self.closed = closed
        self.waited_s = now - requests[0].arrived_at
        self.open = len(requests)


class Instance:
    """One connected instance. `began_at` is when it began the batch that it computes.

    `runs_alone`: that is a request which outlived a lost instance. Should it kill this one too, nothing else may be to
    blame, so nothing is sent ahead behind it.
    """

    __slots__ = (
        "batches",
        "began_at",
        "device",
        "hello",
        "idle_since",
        "in_flight",
        "is_leaving",
        "mode",
        "name",
        "peer",
        "requests",
        "runs_alone",
        "seen_at",
        "sequences",
        "state",
    )

    def __init__(self, peer: bytes, hello: Hello, state: Any, device: Any, now: float) -> None:
        self.peer = peer
        self.device = device  # the devices.Device it computes on
        self.began_at = now
        self.name = hello.instance
        self.hello = hello
        self.state = state  # the model_state.ModelState it serves
        self.mode = InstanceMode.SERVING
        self.is_leaving = False
        self.runs_alone = False
        self.in_flight: dict[int, InFlight] = {}
        self.seen_at = now
        self.idle_since = now
        self.batches = 0
        self.requests = 0
        self.sequences = 0

    def expected_end(self) -> float:
        """When the batch that it computes should be done; `in_flight` must not be empty."""
        batch = next(iter(self.in_flight.values()))
        end: float = self.began_at + self.state.service.predict(batch.size)
        return end


class Dispatcher:
    """Instances of one model version by what they can take. `idle_on` has those of `idle` by device."""

    def __init__(self) -> None:
        self.idle_on: dict[Any, dict[str, Instance]] = {}
        self.all: dict[str, Instance] = {}
        self.idle: dict[str, Instance] = {}
        self.busy: dict[str, Instance] = {}
        self.finishing: dict[str, Instance] = {}

    def add(self, instance: Instance) -> None:
        """A new instance, ready for a batch."""
        self.all[instance.name] = instance
        self._place(instance)

    def remove(self, instance: Instance) -> None:
        """An instance that is gone."""
        instance.mode = InstanceMode.LEFT
        self.all.pop(instance.name, None)
        self._place(instance)

    def drain(self, instance: Instance) -> None:
        """Give this instance nothing more."""
        if instance.mode is InstanceMode.SERVING:
            instance.mode = InstanceMode.DRAINING
        self._place(instance)

    def pick_idle(self, device: Any) -> Instance:
        """The device's idle instance that worked last, so that surplus ones can be retired; there must be one."""
        return next(reversed(self.idle_on[device].values()))

    def is_idle_on(self, device: Any) -> bool:
        """Whether an instance on this device is idle."""
        return bool(self.idle_on.get(device))

    def pick_busy(self) -> Instance:
        """The instance that has computed longest on its only batch; `busy` must not be empty."""
        return next(iter(self.busy.values()))

    def begin(self, instance: Instance, batch: InFlight, now: float) -> None:
        """The instance was sent a batch."""
        if not instance.in_flight:
            instance.began_at = now
        instance.in_flight[batch.id] = batch
        instance.runs_alone = batch.closed is CloseReason.ALONE
        instance.batches += 1
        instance.requests += batch.size
        self._place(instance)

    def end(self, instance: Instance, batch: InFlight, now: float) -> None:
        """The instance has done a batch."""
        instance.in_flight.pop(batch.id, None)
        instance.began_at = instance.idle_since = now
        self._place(instance)

    def _place(self, instance: Instance) -> None:
        name = instance.name
        if self.idle.pop(name, None) is not None:
            del self.idle_on[instance.device][name]
        else:
            self.busy.pop(name, None)
            self.finishing.pop(name, None)
        if instance.mode is not InstanceMode.SERVING:
            if instance.mode is InstanceMode.DRAINING and not instance.in_flight:
                self.finishing[name] = instance
        elif not instance.in_flight:
            self.idle[name] = instance
            there = self.idle_on.get(instance.device)
            if there is None:
                there = self.idle_on[instance.device] = {}
            there[name] = instance
        elif len(instance.in_flight) < MAX_IN_FLIGHT and not instance.runs_alone:
            self.busy[name] = instance
