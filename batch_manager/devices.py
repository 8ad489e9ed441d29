"""Execution slots of the devices that instances share, and whose turn it is when slots are scarce.

Pure: callers pass `now`. A busy instance holds its model's slots of its device. While slots are free nobody asks here.
When they are not, or when a model on the device is to be protected, whoever could start makes a claim; `pick` gives
the claim that may start next. Whether protected models would suffer is protection.py's.
Order: models within their target rate before those over it, then higher priority, earlier due, arrival; lower work
that has waited for long goes first when there is room for it.
Invariants: a claim is one model's (or one stateful instance's) next batch; the claim whose turn it is is not overtaken
by one that merely needs fewer slots; a batch that overruns its prediction by LEASE_S no longer holds a slot.
"""

import heapq
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from batch_manager import protection
from batch_manager.dispatcher import Instance
from batch_manager.queues import Pending

if TYPE_CHECKING:
    from batch_manager.model_state import ModelState

NO_LIMIT = 1 << 30
LEASE_S = 1.0  # a batch that takes so much longer than predicted may hang, or wait for a model that waits for its slot
LOOK_AT = 8  # claims that one turn looks at: below those nothing is looked for that fits into a gap

Rank = tuple[int, float, int]  # minus priority, due, arrival
_pushes = itertools.count()


class Claim:
    """A model that could start a batch on a device. `instance` is set for stateful models."""

    __slots__ = ("instance", "model", "rank")

    def __init__(self, model: "ModelState", instance: Instance | None) -> None:
        self.model = model
        self.instance = instance
        self.rank: Rank | None = None

    def head(self) -> Pending | None:
        """The request that its next batch begins with; None when there is nothing to start any more."""
        if self.instance is not None:
            return None if self.instance.in_flight else self.model.sequences.first(self.instance)
        return self.model.queue.head()

    def items(self) -> int:
        """How many items its next batch would hold."""
        if self.instance is not None:
            head = self.head()
            return max(1, min(len(head.sequence.steps), self.model.sequences.limit)) if head and head.sequence else 1
        return max(1, min(self.model.queue.items, self.model.queue.limit))


class Turn:
    """A claim that may start now, with at most so many items."""

    __slots__ = ("at_most", "claim")

    def __init__(self, claim: Claim, at_most: int) -> None:
        self.claim = claim
        self.at_most = at_most


class Device:
    """One device: a GPU, or the CPU."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.used = 0
        self.running: dict[Instance, int] = {}  # slots that each busy instance holds
        self.guards: list[ModelState] = []  # models here that are to be protected
        self.recheck_at = float("inf")  # when `pick` may give something that it does not give now
        self._lease_at = float("inf")  # the earliest instant at which a batch may have overrun
        self._present: Counter[ModelState] = Counter()  # instances of each model
        self._claims: dict[Any, Claim] = {}
        self._heap: list[tuple[Rank, int, Claim]] = []
        self._waits: list[tuple[float, int, Claim]] = []  # by the instant from which a claim has waited for long

    @property
    def claimed(self) -> int:
        """Models and instances that wait for a slot."""
        return len(self._claims)

    def report(self) -> dict[str, Any]:
        """For `inferoxy status`; slots are None where there is no limit."""
        slots = None if self.limit == NO_LIMIT else self.limit
        return {"device": self.name, "slots": slots, "used": self.used, "waiting": self.claimed}

    def is_open(self, model: "ModelState") -> bool:
        """Whether this model may start a batch without asking whose turn it is."""
        slots = model.spec.slots
        if not slots:
            return True
        if self._claims or (self.used and self.used + slots > self.limit):
            return False
        return not self.guards or self.guards == [model]

    def is_quiet(self, model: "ModelState") -> bool:
        """Whether a busy instance of this model may be given its next batch early: nobody else wants the slot."""
        return not self._claims and (not self.guards or self.guards == [model])

    def joined(self, model: "ModelState") -> None:
        """An instance of the model is here now."""
        self._present[model] += 1
        self.review()

    def review(self) -> None:
        """Whether a model is to be protected may have changed."""
        self.guards = [model for model in self._present if model.is_guarded]

    def left(self, instance: Instance) -> None:
        """The instance is gone."""
        self.end(instance)
        model: ModelState = instance.state
        self._present[model] -= 1
        if not self._present[model]:
            del self._present[model]
        self.review()
        claim = self._claims.get(instance)
        if claim is not None:
            self._forget(claim)

    def begin(self, instance: Instance, slots: int) -> None:
        """The instance computes."""
        if instance not in self.running:
            self.running[instance] = slots
            self.used += slots
            self._lease_at = min(self._lease_at, instance.expected_end() + LEASE_S)

    def end(self, instance: Instance) -> None:
        """The instance has nothing to compute."""
        self.used -= self.running.pop(instance, 0)

    def claim(self, model: "ModelState", instance: Instance | None = None) -> None:
        """Something could be started here: keep its place in the order, or renew it."""
        owner = model if instance is None else instance
        claim = self._claims.get(owner)
        if claim is None:
            claim = self._claims[owner] = Claim(model, instance)
        elif instance is None and not model.queue.has_new_head:
            return  # a head that has left since is noticed when its turn comes
        model.queue.has_new_head = False
        self._rank(claim, claim.head())

    def pick(self, now: float) -> Turn | None:
        """Whose turn it is; None when nothing may start. The claim is removed: what is left to start claims again.

        Args:
            now: Monotonic seconds.
        """
        self.recheck_at = float("inf")
        if not self._claims:
            return None
        if now >= self._lease_at:
            self._end_leases(now)
        if self.used >= self.limit:
            self.recheck_at = self._lease_at
            return None
        seen, turn = self._choose(now)
        for claim in seen:
            if turn is None or claim is not turn.claim:
                self._push(claim)
        if turn is not None:
            aged = self._aged(turn.claim, now)
            if aged is not None:
                self._push(turn.claim)
                turn = aged
            self._forget(turn.claim)
        return turn

    def _choose(self, now: float) -> tuple[list[Claim], Turn | None]:
        """The claims looked at, and the best of them that may start."""
        seen: list[Claim] = []
        surplus: Turn | None = None
        while len(seen) < LOOK_AT:
            claim = self._next()
            if claim is None:
                break
            seen.append(claim)
            if self.used and self.used + claim.model.spec.slots > self.limit:
                break  # what needs fewer slots must not keep it waiting for ever
            at_most = protection.most_items(self, claim, now)
            if not at_most:
                continue
            if claim.model.pace.is_over(now):
                surplus = surplus or Turn(claim, at_most)
                continue
            return seen, Turn(claim, at_most)
        return seen, surplus

    def _aged(self, best: Claim, now: float) -> Turn | None:
        """A claim of lower priority that has waited for long, if all that is more urgent can wait for it."""
        waits = self._waits
        while waits and waits[0][0] <= now:
            _, _, claim = waits[0]
            head = claim.head() if self._claims.get(claim.instance or claim.model) is claim else None
            since = None if head is None else protection.long_wait_at(claim.model, head)
            if head is None or since is None or since > now:
                heapq.heappop(waits)
                if head is not None and since is not None:
                    heapq.heappush(waits, (since, next(_pushes), claim))
                continue
            best_head = best.head()
            if claim is best or best_head is None or head.priority >= best_head.priority:
                return None
            if self.used and self.used + claim.model.spec.slots > self.limit:
                return None
            at_most = protection.most_items(self, claim, now)
            if not at_most or not protection.can_wait(self._above(head), claim, at_most, now):
                return None
            return Turn(claim, at_most)
        return None

    def _above(self, head: Pending) -> list[Claim] | None:
        """The claims of higher priority than this request, in order; None when they are too many to look at."""
        above = [c for c in self._claims.values() if c.rank is not None and -c.rank[0] > head.priority]
        return None if len(above) > LOOK_AT else sorted(above, key=lambda c: c.rank or ())

    def _next(self) -> Claim | None:
        """Remove and return the best claim from the heap; its rank is up to date."""
        while self._heap:
            rank, _, claim = heapq.heappop(self._heap)
            if claim.rank is not rank:
                continue
            head = claim.head()
            if head is None or not self._can_start(claim):
                self._forget(claim)
            elif rank != self._rank_of(head):
                self._rank(claim, head)
            else:
                return claim
        return None

    def _can_start(self, claim: Claim) -> bool:
        return claim.instance is not None or claim.model.dispatcher.is_idle_on(self)

    def _rank(self, claim: Claim, head: Pending | None) -> None:
        if head is None:
            self._forget(claim)
            return
        rank = self._rank_of(head)
        if claim.rank == rank:
            return
        claim.rank = rank
        self._push(claim)
        heapq.heappush(self._waits, (protection.long_wait_at(claim.model, head), next(_pushes), claim))

    def _push(self, claim: Claim) -> None:
        if claim.rank is not None:
            heapq.heappush(self._heap, (claim.rank, next(_pushes), claim))

    def _forget(self, claim: Claim) -> None:
        claim.rank = None
        owner = claim.model if claim.instance is None else claim.instance
        if self._claims.get(owner) is claim:
            del self._claims[owner]
        if not self._claims:
            self._heap.clear()
            self._waits.clear()

    @staticmethod
    def _rank_of(head: Pending) -> Rank:
        return (-head.priority, head.due_at, head.arrival)

    def _end_leases(self, now: float) -> None:
        self._lease_at = float("inf")
        for instance, slots in self.running.items():
            if slots:
                at = instance.expected_end() + LEASE_S
                if now >= at:
                    self.used -= slots
                    self.running[instance] = 0
                else:
                    self._lease_at = min(self._lease_at, at)


class Devices:
    """All devices by name. Limits of 0 mean none."""

    def __init__(self, cpu_slots: int, gpu_slots: int) -> None:
        self._cpu_slots = cpu_slots or NO_LIMIT
        self._gpu_slots = gpu_slots or NO_LIMIT
        self.by_name: dict[str, Device] = {}

    def get(self, name: str) -> Device:
        """The device of that name."""
        device = self.by_name.get(name)
        if device is None:
            is_gpu = name.startswith(("gpu", "cuda"))
            device = self.by_name[name] = Device(name, self._gpu_slots if is_gpu else self._cpu_slots)
        return device
