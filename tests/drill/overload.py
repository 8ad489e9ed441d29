"""The drill that asks for three times as much as there is, of a model that shares its slot with an urgent one."""

import time
from collections.abc import Sequence

from tests.drill.drill import Run
from tests.drill.flows import RIGHT, Flow, Outcome
from tests.drill.load import Load
from tests.drill.records import NEVER, percentile, refusals
from tests.drill.stack import DrillStack, models_yaml

TIMES = 3.0  # of its capacity that the model is asked for
GOODPUT_SHARE = 0.95
BUDGET_S = 0.4
URGENT_BUDGET_S, URGENT_RATE = 0.08, 20.0
SETTLE_S = 1.0  # at the beginning of each load, not counted
PROTOCOLS = ("http", "grpc", "zmq")
SHARES = {"http": 0.3, "grpc": 0.2, "zmq": 0.5}
REFUSED = ("QUEUE_FULL", "SHED")
URGENT = [Flow(f"urgent {p}", p, "urgent", rate=URGENT_RATE / 2) for p in ("http", "zmq")]
MODELS = models_yaml(
    work={"options": {"service_ms": 30}, "priority": 20, "latency_budget_ms": BUDGET_S * 1e3, "batch_size": 4},
    urgent={
        "options": {"service_ms": 8},
        "priority": 500,
        "latency_budget_ms": URGENT_BUDGET_S * 1e3,
        "batch_size": 1,
    },
)


def overload(run: Run) -> None:
    """Three times the capacity: goodput stays, refusals are clear, an urgent model on that slot keeps its budget."""
    seconds = 2.0 if run.is_quick else 4.0
    capacities, goodputs, urgent = [], [], []
    with run.stack(MODELS, settings={"cpu_slots": 1}) as stack:
        # In turns, so that a slow moment of the machine strikes both alike.
        for _ in range(run.few(3, 2)):
            run.say("a closed loop, to see what it can do")
            users = [Flow(f"closed {p}", p, "work", users=4) for p in PROTOCOLS]
            calm = _load(stack, users + URGENT, seconds)
            run.take(calm, refusals(*REFUSED, flows={flow.name for flow in URGENT}))
            capacities.append(_rate(_of(calm, "closed"), seconds))
            offered = TIMES * capacities[0]
            run.say(f"{offered:.0f} requests/s, of {capacities[-1]:.0f}/s that it can do")
            flows = [Flow(f"open {p}", p, "work", rate=offered * share) for p, share in SHARES.items()]
            busy = _load(stack, flows + URGENT, seconds)
            run.take(busy, refusals(*REFUSED))
            useful = [o for o in _of(busy, "open") if o.ended_at - o.sent_at <= BUDGET_S]
            goodputs.append(_rate(useful, seconds))
            urgent += [NEVER if o.code in REFUSED else o.ended_at - o.sent_at for o in _of(busy, "urgent")]
            bare = {o.flow for o in busy if o.code in REFUSED and not o.retry_after and "zmq" not in o.flow}
            run.check(not bare, f"refusals without Retry-After: {bare}")
    share, p99 = sum(goodputs) / sum(capacities), percentile(urgent, 0.99)
    told = (
        f"capacity {_list(capacities)}/s, {TIMES:g} times that offered: goodput {_list(goodputs)}/s, {share:.3f} of it"
    )
    run.note(f"{told}; the urgent model's p99 {p99 * 1e3:.1f} of {URGENT_BUDGET_S * 1e3:.0f} ms")
    run.check(share >= GOODPUT_SHARE, f"goodput is {share:.3f} of the capacity, expected at least {GOODPUT_SHARE}")
    run.check(p99 <= URGENT_BUDGET_S, f"the urgent model's p99 is {p99 * 1e3:.1f} ms, beyond its budget")


def _load(stack: DrillStack, flows: list[Flow], seconds: float) -> list[Outcome]:
    with Load(stack, flows) as load:
        load.wait_right(1)
        time.sleep(SETTLE_S + seconds)
        return load.stop()


def _of(outcomes: Sequence[Outcome], name: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.flow.startswith(name)]


def _rate(outcomes: Sequence[Outcome], seconds: float) -> float:
    """Right answers a second, from SETTLE_S behind the first request on."""
    began = min(outcome.sent_at for outcome in outcomes) + SETTLE_S
    return sum(o.code == RIGHT and began <= o.ended_at < began + seconds for o in outcomes) / seconds


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)
