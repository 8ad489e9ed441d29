"""Drills that end, stop or occupy instances: killed in the middle of a batch, hanging, looping, poisoned."""

import os
import signal
import time

from tests.drill.drill import Run
from tests.drill.flows import Flow
from tests.drill.load import SEQUENCES, Load, mixed
from tests.drill.models.double.model import CRASH, EXIT, LOOP, RAISE
from tests.drill.records import is_of_sequence, lost_sequences, refusals
from tests.drill.stack import STATEFUL, DrillStack, models_yaml
from tests.integration.stack import wait_until

KILLED_LIMIT_S = 1.0  # beyond the model's own load time
LOST_S = 2.0
LOOP_LIMIT_S = 2.0 + LOST_S + 3.0  # the model's timeout_ms, the time until it counts as lost, and a start
BACK_S = 60.0


def killed(run: Run) -> None:
    """The only instances of two models are killed under load, again and again: sequences are lost, nothing else."""
    models = models_yaml(double={"options": {"service_ms": 8}}, sum=STATEFUL)
    with run.stack(models) as stack, Load(stack, mixed() + SEQUENCES) as load:
        load.wait_right(20)
        since, blows = time.monotonic(), []
        for number in range(run.few(6, 2)):
            run.pause(1.5)
            run.say(f"kill {number + 1}")
            pids = [*stack.instances("double").values(), *stack.instances("sum").values()]
            run.check(len(pids) == 2, f"expected one instance of each model, found {len(pids)}")
            blows.append((time.monotonic(), since))
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            load.wait_right(60, BACK_S)
            since = time.monotonic()
        run.pause(1.0)
        outcomes = load.stop()
        load_s = {model: stack.load_s(model)[1:] for model in ("double", "sum")}
    run.take(outcomes, lost_sequences(at for at, _ in blows))
    for model, values in load_s.items():
        run.note(f"{model}: loaded in {', '.join(f'{value:.2f}' for value in values)} s")
        own = [outcome for outcome in outcomes if is_of_sequence(outcome) == (model == "sum")]
        for (at, calm_since), own_s in zip(blows, values, strict=True):
            run.recovered(f"instance of {model} killed", own, at, calm_since, KILLED_LIMIT_S + own_s)


def hangs(run: Run) -> None:
    """One of two instances is stopped (SIGSTOP) with a batch: the other answers its requests, and it is replaced."""
    models = models_yaml(double={"options": {"service_ms": 8}, "instances": {"min": 2, "max": 2}})
    with run.stack(models, settings={"instance_lost_s": LOST_S}) as stack, Load(stack, mixed()) as load:
        wait_until(lambda: len(stack.events("an instance is ready")) == 2, 30.0, stack.log)
        load.wait_right(20)
        since, blows = time.monotonic(), []
        for number in range(run.few(3, 1)):
            run.pause(1.0)
            run.say(f"stop {number + 1}")
            before = stack.instances("double")
            name, pid = sorted(before.items())[0]
            blows.append((time.monotonic(), since))
            os.kill(pid, signal.SIGSTOP)
            _wait_replaced(stack, name)
            load.wait_right(60, BACK_S)
            since = time.monotonic()
        run.pause(1.0)
        outcomes = load.stop()
    run.take(outcomes)
    for at, calm_since in blows:
        run.recovered("instance stopped", outcomes, at, calm_since, KILLED_LIMIT_S)


def _wait_replaced(stack: DrillStack, name: str) -> None:
    def is_replaced() -> bool:
        found = stack.instances("double")
        return name not in found and len(found) == 2

    wait_until(is_replaced, BACK_S, stack.log)


def loops(run: Run) -> None:
    """The model loops for ever on one input: that request alone fails, at its deadline, and the model comes back."""
    models = models_yaml(double={"options": {"service_ms": 8}, "timeout_ms": 2_000})
    looping = Flow("looping", "zmq", rate=5.0, mark=LOOP, timeout_s=2.0, limit=1)
    with run.stack(models, settings={"instance_lost_s": LOST_S}) as stack, Load(stack, mixed(timeout_s=20.0)) as load:
        load.wait_right(40)
        since = load.began_at
        with Load(stack, [looping]) as poison:
            stuck = poison.wait()
        load.wait_right(60, BACK_S)
        run.pause(2.0)
        outcomes = load.stop()
    run.take(stuck, refusals("DEADLINE_EXCEEDED", "INSTANCE_LOST"))
    run.take(outcomes)
    run.recovered("model loops for ever", outcomes, stuck[0].sent_at, since, LOOP_LIMIT_S)


def poisoned(run: Run) -> None:
    """Inputs that kill the process or make the model raise, among good ones in their batches: they alone fail."""
    models = models_yaml(double={"options": {"service_ms": 10}})
    count = run.few(3, 1)
    poisons = [
        Flow("exits", "zmq", rate=0.3, mark=EXIT, limit=count),
        Flow("crashes", "http", rate=0.25, mark=CRASH, limit=count),
        Flow("raises", "grpc", rate=3.0, mark=RAISE, limit=10 * count),
    ]
    with run.stack(models) as stack, Load(stack, mixed(rate=150.0, timeout_s=30.0)) as load:
        load.wait_right(40)
        since = load.began_at
        with Load(stack, poisons) as poison:
            poisonous = poison.wait()
        load.wait_right(60, BACK_S)
        run.pause(2.0)
        outcomes = load.stop()
        printed = stack.instance_logs()
    batches = [int(line.rpartition(" ")[2]) for line in printed.splitlines() if line.startswith("poisoned batch of")]
    run.check(max(batches, default=0) > 1, f"no poison was among others in a batch, found batches of {batches}")
    fatal = [outcome for outcome in poisonous if outcome.flow != "raises"]
    raised = [outcome for outcome in poisonous if outcome.flow == "raises"]
    found = run.take(fatal, refusals("INSTANCE_LOST"))
    run.check(found.refused == 2 * count, f"expected {2 * count} poisons to fail with INSTANCE_LOST, found {found}")
    found = run.take(raised, refusals("MODEL_ERROR"))
    told = sum("cannot double this" in outcome.why for outcome in raised)
    run.check(told == 10 * count, f"expected {10 * count} to fail in the model's words, found {told} of {found}")
    run.take(outcomes)
    for blow in fatal:
        run.recovered("poisonous input", outcomes, blow.sent_at, since)
