"""The batch manager under more load than it can take: slots that are shared, budgets that are kept, what is shed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_manager.telemetry import Telemetry
from inferoxy import messages as m
from inferoxy.errors import Code
from tests.unit.batching import Harness, spec


def running(box: Harness) -> dict[str, list[int]]:
    """The requests that each busy instance computes."""
    return {name.decode(): sent[0].ids for name, sent in box.batches.items() if sent}


def two_models(slots: int = 1, high: dict[str, object] | None = None, low: dict[str, object] | None = None) -> Harness:
    """`high` (priority 100) and `low` (priority 20), an instance each, batches of one, on so many slots."""
    box = Harness(
        [
            spec("high", batch_size=1, priority=100, **(high or {})),
            spec("low", batch_size=1, priority=20, **(low or {})),
        ],
        cpu_slots=slots,
    )
    box.join("h", "high", device="cpu")
    box.join("l", "low", device="cpu")
    return box


def learn(box: Harness, instance: str, model: str, seconds: float) -> None:
    """Let a batch of this model take so long."""
    number = 10_000 + len(box.requests)
    box.request(number, model)
    box.advance(seconds)
    assert box.finish(instance) == [number]


def test_one_slot_runs_one_batch_at_a_time_whoever_is_idle() -> None:
    box = two_models()
    box.request(1, "low")
    box.request(2, "high")
    assert running(box) == {"l": [1]}
    box.finish("l")
    assert running(box) == {"h": [2]}


def test_without_a_limit_every_instance_runs() -> None:
    box = two_models(slots=0)
    box.request(1, "low")
    box.request(2, "high")
    assert running(box) == {"l": [1], "h": [2]}


def test_the_order_across_models_is_priority_then_due_then_arrival() -> None:
    soon = {"latency_budget_ms": 900_000.0, "protect": "none"}
    specs = [spec("a", batch_size=1, priority=50), spec("b", batch_size=1, priority=50, **soon)]
    specs += [spec("c", batch_size=1, priority=60), spec("d", batch_size=1, priority=50)]
    box = Harness(specs, cpu_slots=1)
    for name in "abcd":
        box.join(f"i{name}", name)
    box.request(1, "d")
    for number, name in enumerate("abcd", 2):
        box.request(number, name)
    order = []
    while running(box):
        (name,) = running(box)
        order += box.finish(name)
    assert order == [1, 4, 3, 2, 5]  # c is above the others, b is due first of those, a came before d


def test_a_requests_own_priority_counts_across_models_and_within() -> None:
    box = two_models(low={"queue_size": 9})
    box.request(1, "high")
    box.request(3, "low")
    box.request(4, "low", priority=500)
    box.request(2, "high")
    box.finish("h")
    assert running(box) == {"l": [4]}
    box.finish("l")
    assert running(box) == {"h": [2]}


def test_a_full_batch_is_not_sent_ahead_while_another_model_wants_the_slot() -> None:
    box = Harness([spec("a", batch_size=1), spec("b", batch_size=1)], cpu_slots=1)
    box.join("ia", "a")
    box.join("ib", "b")
    box.request(1, "a")
    box.request(2, "a")
    assert [sent.ids for sent in box.batches[b"ia"]] == [[1], [2]]
    box.request(3, "a")
    box.request(4, "b")
    box.finish("ia")
    assert [sent.ids for sent in box.batches[b"ia"]] == [[2]]
    box.finish("ia")
    assert running(box) == {"ia": [3]}
    box.finish("ia")
    assert running(box) == {"ib": [4]}


def test_of_what_came_together_the_highest_priority_starts() -> None:
    box = two_models(high={"protect": "none"})
    items = [box.make(1, "low", 10.0), box.make(2, "high", 10.0), box.make(3, "low", 10.0, priority=900)]
    box.tell(b"rest-1", m.Requests(items=items), (b"1", b"2", b"3"))
    assert running(box) == {"l": [3]}
    box.finish("l")
    assert running(box) == {"h": [2]}


@pytest.mark.parametrize(("budget_ms", "sent"), [(300.0, [[1], [2]]), (200.0, [[1]])])
def test_a_full_batch_is_sent_ahead_only_if_it_is_in_time_behind_the_one_that_runs(
    budget_ms: float, sent: list[list[int]]
) -> None:
    box = Harness([spec(batch_size=1, latency_budget_ms=budget_ms)])
    box.join("i1", batch_size=1)
    learn(box, "i1", "m", 0.1)
    box.request(1)
    box.request(2)  # can start until 4 % of the budget and 100 ms before its end
    assert [batch.ids for batch in box.batches[b"i1"]] == sent
    assert box.finish("i1") == [1]
    assert box.finish("i1") == [2]


def test_instances_on_different_devices_do_not_share_slots() -> None:
    box = Harness([spec("a", batch_size=1), spec("b", batch_size=1)], cpu_slots=1)
    box.join("ia", "a", device="cpu")
    box.join("ib", "b", device="gpu:0")
    box.request(1, "a")
    box.request(2, "b")
    assert running(box) == {"ia": [1], "ib": [2]}


def test_a_model_with_no_slots_runs_beside_everything_and_one_with_two_waits_for_both() -> None:
    specs = [spec("free", slots=0), spec("wide", slots=2, priority=200), spec("narrow", batch_size=1)]
    box = Harness(specs, cpu_slots=2)
    for name in ("free", "wide", "narrow"):
        box.join(f"i-{name}", name)
    box.join("i-narrow-2", "narrow")
    box.request(1, "narrow")
    box.request(2, "wide")
    box.request(3, "free")
    box.request(4, "narrow")
    assert sorted(running(box).values()) == [[1], [3]], "what needs less must not overtake"
    box.finish(next(n for n in running(box) if n.startswith("i-narrow")))
    assert sorted(running(box).values()) == [[2], [3]]


def test_a_batch_that_overruns_its_prediction_no_longer_holds_its_slot() -> None:
    box = two_models()
    learn(box, "l", "low", 0.1)
    box.request(1, "low")
    box.request(2, "high")
    box.advance(1.0)
    assert running(box) == {"l": [1]}
    box.advance(0.2)
    assert running(box) == {"l": [1], "h": [2]}


def test_a_lost_instance_gives_its_slot_back() -> None:
    box = two_models()
    box.request(1, "low")
    box.request(2, "high")
    box.lose("l")
    assert running(box) == {"h": [2]}


def test_a_request_that_can_no_longer_make_the_budget_is_shed_while_the_batch_before_it_runs() -> None:
    box = two_models(high={"latency_budget_ms": 100.0, "protect": "none"})
    learn(box, "h", "high", 0.03)
    for number in (1, 2, 3):  # the second is sent ahead
        box.request(number, "high")
    box.advance(0.0655)
    assert box.code(3) is None
    box.advance(0.001)  # 100 ms less 4 % less the 30 ms that it would take
    assert box.code(3) == Code.SHED
    assert "latency_budget_ms 100" in box.answers[3][0].error
    assert box.finish("h") == [1]
    assert box.core.report(box.now)["models"][0]["drops"] == {"latency_budget_ms": 1}


def test_a_budget_does_not_begin_before_the_model_is_ready() -> None:
    box = Harness([spec(latency_budget_ms=100.0, batch_size=1)])
    box.request(1)
    box.request(2)
    box.advance(5.0)
    box.join("i1", batch_size=1)
    assert box.code(1) is box.code(2) is None
    assert box.finish("i1") == [1]
    assert box.finish("i1") == [2]


def test_a_budget_that_even_an_idle_model_cannot_keep_still_lets_it_work() -> None:
    box = Harness([spec(latency_budget_ms=100.0, batch_size=1)])
    box.join("i1", batch_size=1)
    for _ in range(3):
        learn(box, "i1", "m", 1.0)


def test_a_newcomer_of_higher_priority_displaces_the_lowest_of_a_full_queue() -> None:
    box = Harness([spec(queue_size=2, batch_size=1)])
    for number in (1, 2):
        box.request(number)
    box.request(3, priority=500)
    box.request(4, priority=200)
    box.request(5)
    assert [box.code(n) for n in range(1, 6)] == [Code.SHED, Code.SHED, None, None, Code.QUEUE_FULL]
    assert "higher priority" in box.answers[1][0].error
    assert "queue_size 2" in box.answers[1][0].error


@pytest.mark.parametrize(("policy", "dropped", "code"), [
    ("reject", 3, Code.QUEUE_FULL), ("drop_oldest", 1, Code.SHED), ("drop_newest", 2, Code.SHED),
])  # fmt: skip
def test_the_drop_policy_says_who_has_to_go_and_the_answer_which_limit_was_hit(
    policy: str, dropped: int, code: Code
) -> None:
    box = Harness([spec(queue_size=2, drop_policy=policy)])
    for number in (1, 2, 3):
        box.request(number)
    assert {number: box.code(number) for number in (1, 2, 3) if box.code(number)} == {dropped: code}
    assert "queue_size 2" in box.answers[dropped][0].error


def stream(box: Harness, model: str, instance: str, *, every_s: float, takes_s: float, count: int, first: int) -> None:
    """Requests at equal distances, each answered before the next one comes."""
    for number in range(first, first + count):
        box.request(number, model)
        box.advance(takes_s)
        if instance in running(box):
            assert box.finish(instance) == [number]
        box.advance(every_s - takes_s)


def test_strict_protection_starts_nothing_that_would_make_the_next_frame_wait_until_the_stream_ends() -> None:
    box = two_models(high={"protect": "strict", "latency_budget_ms": 50.0})
    learn(box, "l", "low", 0.030)
    box.advance(1.0)
    stream(box, "high", "h", every_s=0.02, takes_s=0.005, count=6, first=1)
    box.request(100, "low")
    stream(box, "high", "h", every_s=0.02, takes_s=0.005, count=4, first=10)
    assert box.code(100) is None
    assert running(box) == {}
    box.advance(0.029)
    assert running(box) == {}, "one frame may be late"
    box.advance(0.01)
    assert running(box) == {"l": [100]}


def test_strict_protection_lets_work_run_that_fits_between_two_frames() -> None:
    box = two_models(high={"protect": "strict", "latency_budget_ms": 50.0})
    learn(box, "l", "low", 0.030)
    box.advance(1.0)
    stream(box, "high", "h", every_s=0.1, takes_s=0.005, count=6, first=1)
    box.request(10, "high")
    box.request(100, "low")
    box.advance(0.005)
    box.finish("h")
    assert running(box) == {"l": [100]}


def test_a_budget_is_protected_from_work_that_is_too_long_but_not_from_what_leaves_it_time() -> None:
    for takes_s, runs in ((0.030, True), (0.200, False)):
        box = two_models(high={"latency_budget_ms": 100.0})
        learn(box, "l", "low", takes_s)
        learn(box, "h", "high", 0.010)
        box.advance(1.0)
        stream(box, "high", "h", every_s=0.02, takes_s=0.01, count=4, first=1)
        box.request(100, "low")
        assert bool(running(box)) is runs
        box.advance(1.0)
        assert running(box) == {"l": [100]}, "without a stream there is nothing to protect"


def test_long_batches_are_cut_to_what_leaves_the_protected_model_its_budget() -> None:
    box = Harness(
        [spec("high", priority=100, latency_budget_ms=100.0), spec("low", priority=1, batch_size=8)], cpu_slots=1
    )
    box.join("h", "high", batch_size=1)
    box.join("l", "low", batch_size=8)
    number = 1000
    for size in (1, 8, 1, 8):
        box.requests_at_once(list(range(number, number + size)), "low")
        box.advance(0.010 * size)
        assert len(box.finish("l")) == size
        number += size
    learn(box, "h", "high", 0.005)
    box.requests_at_once(list(range(1, 9)), "low")
    assert 1 <= len(running(box)["l"]) < 8


def test_low_work_that_has_waited_for_long_goes_first_when_the_others_have_room() -> None:
    for budget_ms, first in ((10_000.0, "l"), (200.0, "h")):
        box = two_models(high={"latency_budget_ms": budget_ms, "protect": "none"}, low={"latency_budget_ms": 400.0})
        learn(box, "l", "low", 0.045)
        learn(box, "h", "high", 0.250)
        box.request(1, "high")
        box.request(2, "low")
        box.advance(0.250)
        box.request(3, "high")
        box.finish("h")
        assert list(running(box)) == [first]


def test_a_model_over_its_target_rate_lets_others_go_first_but_takes_what_is_left() -> None:
    box = two_models(high={"target_fps": 10.0, "queue_size": 99})
    for number in range(1, 6):
        box.request(number, "high")
    box.request(50, "low")
    order = []
    while busy := list(running(box)):
        box.advance(0.01)
        order += box.finish(busy[0])
    assert order[0] == 1
    assert 50 in order[:3]
    assert sorted(order) == [1, 2, 3, 4, 5, 50]


def test_telemetry_tells_what_happened_to_each_request_and_why() -> None:
    events = Telemetry()
    high = spec("high", batch_size=1, latency_budget_ms=100.0, queue_size=2)
    box = Harness([high], telemetry=events)
    box.join("h", "high")
    for number in (1, 2, 3, 4):
        box.request(number, "high", timeout_s=1.0)
    box.advance(0.2)
    box.finish("h", code=Code.MODEL_ERROR)
    told = [(e["event"], e["request_id"], e.get("reason", e.get("code", ""))) for e in events.take()]
    assert told == [
        ("enqueued", "r1", ""), ("dispatched", "r1", ""), ("enqueued", "r2", ""), ("dispatched", "r2", ""),
        ("enqueued", "r3", ""), ("enqueued", "r4", ""),
        ("shed", "r3", "latency_budget_ms"), ("shed", "r4", "latency_budget_ms"), ("executed", "r1", "MODEL_ERROR"),
    ]  # fmt: skip


def test_telemetry_is_bounded_and_counts_what_it_lost() -> None:
    box = Harness([spec()], telemetry=Telemetry(at_most=3))
    assert box.telemetry is not None
    for number in range(5):
        box.request(number)
    assert (len(box.telemetry), box.telemetry.lost) == (3, 2)
    assert [e["request_id"] for e in box.telemetry.take()] == ["r2", "r3", "r4"]
    assert box.telemetry.take() == []


@given(st.data())
def test_slots_are_never_exceeded_nothing_starves_for_ever_and_every_request_is_answered(data: st.DataObject) -> None:
    slots = data.draw(st.integers(1, 3))
    names = ["a", "b", "c"]
    specs = [
        spec(
            name,
            batch_size=data.draw(st.integers(1, 3)),
            priority=data.draw(st.sampled_from([1, 50, 100])),
            latency_budget_ms=data.draw(st.sampled_from([0.0, 80.0, 500.0])),
            protect=data.draw(st.sampled_from(["none", "budget", "strict"])),
            target_fps=data.draw(st.sampled_from([0.0, 5.0])),
            slots=data.draw(st.integers(0, 2)),
        )
        for name in names
    ]
    box = Harness(specs, cpu_slots=slots)
    ends: dict[str, float] = {}
    for name in names:
        for copy in range(data.draw(st.integers(1, 2))):
            box.join(f"{name}{copy}", name, batch_size=3)

    def pass_time(seconds: float) -> None:
        end = box.now + seconds
        while True:
            box.advance(0.0)
            for name in running(box):
                ends.setdefault(name, box.now + data.draw(st.sampled_from([0.005, 0.03, 0.2])))
            used = sum(box.core.instances[n.encode()].state.spec.slots for n in running(box))
            alone = max((box.core.instances[n.encode()].state.spec.slots for n in running(box)), default=0)
            assert used <= max(slots, alone), "more batches run than there are slots"
            name, at = min(ends.items(), key=lambda item: item[1], default=("", float("inf")))
            if at > box.core.next_wakeup() <= end:
                box.advance(box.core.next_wakeup() - box.now)
                continue
            if at > end:
                box.advance(end - box.now)
                return
            box.advance(at - box.now)
            del ends[name]
            box.finish(name)

    number = 0
    for _ in range(data.draw(st.integers(1, 25))):
        for _ in range(data.draw(st.integers(1, 3))):
            number += 1
            box.request(number, data.draw(st.sampled_from(names)), timeout_s=60.0)
        pass_time(data.draw(st.sampled_from([0.0, 0.01, 0.05, 0.4])))
    pass_time(10.0)
    codes = [box.code(i) for i in range(1, number + 1)]
    assert all(code in ("", Code.SHED) for code in codes), "what waits runs when the load is over"
    assert all(device.used == 0 for device in box.core._devices.by_name.values())


def test_an_instance_that_computes_on_when_nobody_waits_any_more_is_lost_and_may_not_come_back() -> None:
    box = Harness([spec(timeout_ms=1_000.0)])
    box.join("i1")
    box.request(1, timeout_s=1.0)
    box.advance(5.9)
    assert b"i1" in box.core.instances
    box.advance(0.5)
    assert b"i1" not in box.core.instances
    assert box.code(1) == Code.DEADLINE_EXCEEDED
    box.batches.clear()
    box.join("i1")
    welcome = box.last(m.Welcome)
    assert isinstance(welcome, m.Welcome)
    assert "on one batch" in welcome.error
    box.join("i2")
    box.request(2)
    assert running(box) == {"i2": [2]}


def test_an_instance_that_hangs_on_one_request_of_a_batch_is_lost_and_the_others_run_again() -> None:
    box = Harness([spec(timeout_ms=1_000.0)])
    box.join("i1", batch_size=4)
    learn(box, "i1", "m", 0.1)
    box.requests_at_once([1, 2], timeout_s=60.0)
    box.advance(6.0)
    assert b"i1" in box.core.instances
    box.advance(1.2)  # 20 times the 100 ms that it should take, and the silence that is granted to a hanging process
    assert b"i1" not in box.core.instances
    box.batches.clear()
    box.join("i2", batch_size=4)
    assert box.finish("i2") == [1]
    assert box.finish("i2") == [2]


def test_a_first_batch_may_take_as_long_as_somebody_waits_for_it() -> None:
    box = Harness([spec(timeout_ms=1_000.0)])
    box.join("i1")
    box.request(1, timeout_s=600.0)
    box.advance(500.0)
    assert box.finish("i1") == [1]
