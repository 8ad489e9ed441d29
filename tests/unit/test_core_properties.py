"""Whatever the order of events: nothing lost, nothing answered twice, order kept, batch bounds kept."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inferoxy import messages as m
from inferoxy.errors import Code
from tests.unit.batching import BRIDGE, Harness, spec

MODELS = ("plain", "stacked", "stateful")


class AnyOrderOfEvents(RuleBasedStateMachine):
    """Bridges, instances, the clock and the registry do anything at any time; the harness checks every message."""

    @initialize(delay=st.sampled_from([0, 50]), policy=st.sampled_from(["reject", "drop_oldest", "drop_newest"]))
    def start(self, delay: int, policy: str) -> None:
        self.box = Harness(
            [
                spec("plain", batch_size=3, queue_size=6, max_queue_delay_ms=delay, drop_policy=policy),
                spec("stacked", batch_size=4, queue_size=6, max_queue_delay_ms=delay),
                spec("stateful", batch_size=2, queue_size=6, stateless=False, max_sequences=2, sequence_idle_s=2),
            ]
        )
        self.count = 0
        self.instances: dict[str, str] = {}
        self.cancelled: set[int] = set()

    @rule(
        model=st.sampled_from(MODELS),
        key=st.sampled_from(["a", "b"]),
        rows=st.integers(0, 5),
        priority=st.integers(0, 2),
        timeout_s=st.sampled_from([0.05, 1.0, 100.0]),
        sequence=st.integers(1, 3),
        start=st.booleans(),
        end=st.booleans(),
        flags=st.sampled_from([0, m.RequestFlag.SLOTTED]),
    )
    def request(
        self,
        model: str,
        key: str,
        rows: int,
        priority: int,
        timeout_s: float,
        sequence: int,
        start: bool,
        end: bool,
        flags: int,
    ) -> None:
        self.count += 1
        step = m.Sequence(sequence, start, end) if model == "stateful" else None
        self.box.request(
            self.count,
            model,
            timeout_s=timeout_s,
            key=key,
            rows=rows,
            priority=priority,
            sequence=step,
            flags=flags,
        )

    @rule(model=st.sampled_from(MODELS), limit=st.integers(1, 4))
    def instance_comes(self, model: str, limit: int) -> None:
        name = f"i{len(self.instances)}"
        self.instances[name] = model
        stacked, stateless = model == "stacked", model != "stateful"
        self.box.join(name, model, batch_size=4 if stacked else limit, stacked=stacked, stateless=stateless)

    def any_busy(self, pick: int) -> str | None:
        busy = [name.decode() for name, sent in self.box.batches.items() if sent]
        return sorted(busy)[pick % len(busy)] if busy else None

    @rule(pick=st.integers(0, 9), code=st.sampled_from(["", "", "MODEL_ERROR"]))
    def instance_answers(self, pick: int, code: str) -> None:
        if (name := self.any_busy(pick)) is not None:
            self.box.finish(name, code=code)

    @rule(pick=st.integers(0, 9))
    def instance_answers_in_part(self, pick: int) -> None:
        if (name := self.any_busy(pick)) is not None:
            self.box.finish(name, final=False, done=False)

    @rule(pick=st.integers(0, 9))
    def instance_dies(self, pick: int) -> None:
        alive = sorted(self.box.core.instances)
        if alive:
            self.box.lose(alive[pick % len(alive)].decode())

    @rule(pick=st.integers(0, 9), by_itself=st.booleans())
    def instance_is_drained(self, pick: int, by_itself: bool) -> None:
        alive = sorted(self.box.core.instances)
        if alive and by_itself:
            self.box.tell(alive[pick % len(alive)], m.Stop())
        elif alive:
            self.box.tell(b"task_manager", m.Drain(instance=alive[pick % len(alive)].decode()))

    @rule(pick=st.integers(1, 50))
    def client_cancels(self, pick: int) -> None:
        number = 1 + pick % max(self.count, 1)
        if number in self.box.requests and self.box.code(number) is None:
            self.cancelled.add(number)
        self.box.tell(BRIDGE, m.Cancel(ids=[number]))

    @rule(pick=st.integers(1, 50))
    def bridge_sends_again(self, pick: int) -> None:
        number = 1 + pick % max(self.count, 1)
        if number in self.box.requests and self.box.code(number) is None and number not in self.cancelled:
            self.box.tell(BRIDGE, self.box.requests[number], (str(number).encode(),))

    @rule(seconds=st.sampled_from([0.001, 0.06, 1.5]))
    def time_passes(self, seconds: float) -> None:
        self.box.advance(seconds)

    @rule(failing=st.booleans(), model=st.sampled_from(MODELS))
    def task_manager_reports(self, failing: bool, model: str) -> None:
        state = "failing" if failing else "idle"
        self.box.tell(b"task_manager", m.Condition(model=model, model_version="1", state=state, error="why"))  # type: ignore[arg-type]

    @invariant()
    def open_requests_are_those_without_an_answer(self) -> None:
        if not hasattr(self, "box"):
            return
        open_ids = {n for n in self.box.requests if self.box.code(n) is None and n not in self.cancelled}
        assert self.box.core.report(self.box.now)["open_requests"] == len(open_ids)

    def teardown(self) -> None:
        if not hasattr(self, "box"):
            return
        for model in MODELS:
            self.box.tell(b"task_manager", m.Condition(model=model, model_version="1", state="idle"))
            self.instance_comes(model, 4)
        for _ in range(500):
            while (name := self.any_busy(0)) is not None:
                self.box.finish(name)
            self.box.advance(0.5)
        for number in self.box.requests:
            if number not in self.cancelled:
                code = self.box.code(number)
                assert code is not None, f"request {number} was never answered"
                assert code in ("", *Code)
        for number, request in self.box.requests.items():
            if request.flags:
                fates = self.box.fates.get(number, [])
                assert fates, f"nothing was said of the slots of request {number}"
                assert fates[-1] != m.SlotFate.HELD, f"the slots of request {number} were never released"
        assert self.box.core.report(self.box.now)["open_requests"] == 0
        assert all(not i.in_flight for i in self.box.core.instances.values())


AnyOrderOfEvents.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase
