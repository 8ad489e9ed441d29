"""Drills with instances in containers: container killed, task manager killed, dockerd restarted and killed."""

import os
import select
import signal
import threading
import time

from tests.drill.docker_engine import PrivateEngine, artifacts, main_engine
from tests.drill.drill import Run
from tests.drill.flows import Flow
from tests.drill.load import Load, mixed
from tests.drill.records import nothing, refusals
from tests.drill.stack import DrillStack, models_yaml
from tests.integration.stack import wait_until

START_S = 60.0
BACK_S = 90.0
KINDS = (signal.SIGTERM, signal.SIGKILL)
AWAY_S = 1.5  # how long an engine stays away at least


def killed(run: Run) -> None:
    """A container is killed, and the task manager: what runs is adopted, what died is replaced, nothing runs twice."""
    engine = main_engine(run.say)
    with artifacts() as folder:
        models = models_yaml(
            double={"options": {"service_ms": 5}, "artifact": f"{folder}/double", "memory_mib": 512},
            slow={
                "options": {"load_s": 3.0},
                "artifact": f"{folder}/double",
                "memory_mib": 512,
                "instances": {"min": 0, "max": 1},
            },
        )
        with run.stack(models, launcher="docker", settings=engine.settings()) as stack, Load(stack, mixed()) as load:
            load.wait_right(20, START_S)
            blows = []
            before = engine.containers(stack)
            for number in range(run.few(2, 1)):
                run.say(f"kill the task manager, time {number + 1}")
                old, since = stack.pid_of("task_manager"), time.monotonic()
                run.pause(1.0)
                blows.append(("task manager killed", stack.signal("task_manager", signal.SIGKILL), since))
                stack.wait_back("task_manager", old, BACK_S)
                load.wait_right(20)
                found = engine.containers(stack)
                run.check(found == before, f"expected the containers {before}, found {found}")
            run.say("kill the container")
            run.pause(1.0)
            since, at = time.monotonic() - 1.0, time.monotonic()
            os.kill(next(iter(before.values())), signal.SIGKILL)
            load.wait_right(60, BACK_S)
            blows.append(("container killed", at, since))
            run.say("kill the task manager while a container starts")
            with Load(
                stack, [Flow("first of a slow model", "http", "slow", rate=10.0, limit=5, timeout_s=60.0)]
            ) as slow:
                wait_until(lambda: len(engine.containers(stack)) == 2, START_S)
                both = engine.containers(stack)
                stack.signal("task_manager", signal.SIGKILL)
                slow.wait_right(5, START_S)
                first = slow.stop()
            run.check(engine.containers(stack) == both, f"expected {both}, found {engine.containers(stack)}")
            outcomes = load.stop()
        run.check(not engine.containers(stack), f"containers are left: {engine.containers(stack)}")
    run.take(outcomes)
    run.take(first)
    for what, at, since in blows:
        run.recovered(what, outcomes, at, since)


def dockerd(run: Run) -> None:
    """A private dockerd is restarted and killed under load, with containers that outlive it, and without."""
    with PrivateEngine(run.say) as engine, artifacts() as folder:
        models = models_yaml(double={"options": {"service_ms": 5}, "artifact": f"{folder}/double", "memory_mib": 512})
        with run.stack(models, launcher="docker", settings=engine.settings()) as stack:
            for keeps in (True, False):
                if not keeps:  # the engine has begun with such that do
                    engine.signal(signal.SIGTERM)
                    engine.start(keeps_containers=False)
                with Load(stack, mixed(timeout_s=60.0)) as load:
                    load.wait_right(20, START_S)
                    blows = [_restart(run, engine, stack, load, number, keeps) for number in KINDS]
                    run.pause(1.0)
                    outcomes = load.stop()
                run.take(outcomes, nothing if keeps else refusals("MODEL_UNAVAILABLE"))
                for what, at, since in blows:
                    run.recovered(what, outcomes, at, since)
        run.check(not engine.containers(stack), f"containers are left: {engine.containers(stack)}")


def _restart(
    run: Run, engine: PrivateEngine, stack: DrillStack, load: Load, number: signal.Signals, keeps: bool
) -> tuple[str, float, float]:
    """End dockerd in one way and start it again; what it was, when it struck and since when all was calm before."""
    what = f"dockerd {number.name}, containers {'outlive' if keeps else 'end with'} it"
    run.say(what)
    load.wait_right(60, BACK_S)
    before, since = engine.containers(stack), time.monotonic()
    run.pause(1.0)
    with _End(next(iter(before.values()))) as end:
        at = engine.signal(number)
        time.sleep(AWAY_S)
        engine.start(keeps_containers=keeps)
        load.wait_right(60, BACK_S)
        after = engine.containers(stack)
    run.check((before == after) == keeps, f"{what}: the containers {before} became {after}")
    return what, end.at or at, since


class _End:
    """Notes when a process ends, while the context lasts; `at` is None while it has not."""

    def __init__(self, pid: int) -> None:
        self.at: float | None = None
        self._pidfd = os.pidfd_open(pid)
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._is_over = False

    def __enter__(self) -> "_End":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._is_over = True
        self._thread.join()
        os.close(self._pidfd)

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        while not self._is_over:
            if poller.poll(50):
                self.at = time.monotonic()
                return
