"""Drills that kill the parts in the middle: batch manager, task manager, model manager."""

import os
import signal
import time

import httpx

from tests.drill.drill import Run
from tests.drill.flows import CONNECTION, Flow, Outcome
from tests.drill.load import SEQUENCES, Load, mixed
from tests.drill.records import SHADOW_S, is_of_sequence, lost_sequences
from tests.drill.stack import STATEFUL, DrillStack, models_yaml
from tests.integration.stack import wait_until

BATCH_MANAGER_LIMIT_S = 2.0
BACK_S = 30.0
ADMIN_BACK_LIMIT_S = 5.0

MODELS = models_yaml(double={"options": {"service_ms": 5}}, sum=STATEFUL)


def batch_manager(run: Run) -> None:
    """The batch manager is killed under load: no stateless client sees an error, sequences are lost and begin anew."""
    with run.stack(MODELS) as stack, Load(stack, mixed() + SEQUENCES) as load:
        load.wait_right(40)
        blows = _kill_often(run, stack, load, "batch_manager", run.few(4, 1))
        outcomes = load.stop()
    run.take(outcomes, lost_sequences([at for at, _ in blows]))
    stateless = [outcome for outcome in outcomes if not is_of_sequence(outcome)]
    stateful = [outcome for outcome in outcomes if is_of_sequence(outcome)]
    for at, since in blows:
        run.recovered("batch manager killed", stateless, at, since, BATCH_MANAGER_LIMIT_S)
        run.recovered("batch manager killed: sequences", stateful, at, since, BATCH_MANAGER_LIMIT_S)


def task_manager(run: Run) -> None:
    """The task manager is killed: serving goes on, its instances are adopted, none is started twice or left."""
    models = models_yaml(
        double={"options": {"service_ms": 5}}, slow={"options": {"load_s": 3.0}, "instances": {"min": 0}}
    )
    with run.stack(models) as stack, Load(stack, mixed()) as load:
        load.wait_right(40)
        before = stack.instances("double")
        blows = _kill_often(run, stack, load, "task_manager", run.few(3, 1))
        run.check(stack.instances("double") == before, f"expected {before}, found {stack.instances('double')}")
        run.say("kill while a model loads")
        with Load(stack, [Flow("first of a slow model", "http", "slow", rate=10.0, limit=5)]) as slow:
            wait_until(lambda: len(stack.instances("slow")) == 1, BACK_S)
            loading = stack.instances("slow")
            since, at = time.monotonic(), stack.signal("task_manager", signal.SIGKILL)
            slow.wait_right(5)
            first = slow.stop()
        blows.append((at, since))
        run.check(stack.instances("slow") == loading, f"expected {loading}, found {stack.instances('slow')}")
        run.say("kill together with its instance")
        _wait_component(stack, "task_manager")
        (pid,) = stack.instances("double").values()
        since, at = time.monotonic(), stack.signal("task_manager", signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        both = (at, since)
        load.wait_right(60, BACK_S)
        run.check(len(stack.instances("double")) == 1, f"expected one instance, found {stack.instances('double')}")
        outcomes = load.stop()
    run.take(outcomes)
    run.take(first)
    for at, since in blows:
        run.recovered("task manager killed", outcomes, at, since, 1.0)
    run.recovered("task manager and instance killed", outcomes, *both)


def model_manager(run: Run) -> None:
    """The model manager is killed: serving goes on, and the admin API comes back with everything registered."""
    with run.stack(MODELS) as stack, Load(stack, mixed() + SEQUENCES) as load:
        load.wait_right(40)
        blows, away_s, registered = [], [], _registered(stack)
        for number in range(run.few(3, 1)):
            run.say(f"kill {number + 1}")
            since = time.monotonic()
            run.pause(1.0)
            blows.append((stack.signal("model_manager", signal.SIGKILL), since))
            wait_until(lambda: _registered(stack) == registered, BACK_S, stack.log)
            away_s.append(time.monotonic() - blows[-1][0])
            load.wait_right(20)
        run.pause(1.0)
        outcomes = load.stop()
    run.take(outcomes)
    run.note(f"the admin API was away for {', '.join(f'{value:.2f}' for value in away_s)} s")
    run.check(max(away_s) <= ADMIN_BACK_LIMIT_S, f"the admin API was away for {max(away_s):.2f} s")
    for at, since in blows:
        run.recovered("model manager killed", outcomes, at, since, 1.0)


def bridges(run: Run) -> None:
    """Each bridge is killed: only its own connections break, and it is back within a second."""
    with run.stack(MODELS) as stack, Load(stack, mixed()) as load:
        load.wait_right(40)
        blows: list[tuple[str, float, float]] = []
        for component, protocol in (("bridge_rest", "http"), ("bridge_zmq", "zmq"), ("bridge_grpc", "grpc")):
            run.say(f"kill {component}")
            for at, since in _kill_often(run, stack, load, component, run.few(2, 1)):
                blows.append((protocol, at, since))
        outcomes = load.stop()

    def allowed(outcome: Outcome) -> bool:
        own = [at for protocol, at, _ in blows if outcome.flow.startswith(protocol)]
        return outcome.code == CONNECTION and any(at - SHADOW_S < outcome.sent_at < at + SHADOW_S for at in own)

    run.take(outcomes, allowed)
    for protocol, at, since in blows:
        own = [outcome for outcome in outcomes if outcome.flow.startswith(protocol)]
        run.recovered(f"{protocol} bridge killed", own, at, since, 1.0)


def _kill_often(run: Run, stack: DrillStack, load: Load, component: str, times: int) -> list[tuple[float, float]]:
    """Kill a component so often, each time once all is as before; (instant, since when it was calm) of each time."""
    blows = []
    since = time.monotonic()
    for number in range(times):
        run.pause(1.0)
        run.say(f"kill {component}, time {number + 1}")
        old = stack.pid_of(component)
        blows.append((stack.signal(component, signal.SIGKILL), since))
        stack.wait_back(component, old, BACK_S)
        load.wait_right(60, BACK_S)
        since = time.monotonic()
    run.pause(1.0)
    return blows


def _wait_component(stack: DrillStack, component: str) -> None:
    wait_until(lambda: stack.is_ready(component), BACK_S, stack.log)


def _registered(stack: DrillStack) -> object:
    try:
        answer = httpx.get(f"{stack.admin_url}/models", timeout=2.0, trust_env=False)
    except httpx.HTTPError:
        return None
    return answer.json() if answer.status_code == 200 else None
