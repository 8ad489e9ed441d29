"""Drills with models that cannot be loaded: their clients learn why, other models are not disturbed."""

import re

from tests.drill.docker_engine import artifacts, main_engine
from tests.drill.drill import Run
from tests.drill.flows import Flow, Outcome
from tests.drill.load import Load, mixed
from tests.drill.records import refusals
from tests.drill.stack import DrillStack, models_yaml

LOAD_TIMEOUT_S = 2.0
MEMORY_MIB = 128
PROTOCOLS = ("http", "grpc", "zmq")
ON_DEMAND = {"min": 0, "max": 1}

# What the answer must say: the reason and, from its log, the last thing that the model printed.
RAISES = ("ended with exit code 70", "ValueError: the weights are broken")
CRASHES = ("was ended by SIGSEGV", "reading weights")
ENDLESS = (f"did not become ready within {LOAD_TIMEOUT_S:g} s (load_timeout_s)", "reading weights")
HUNGRY = (f"was killed because it used more than its {MEMORY_MIB} MiB of memory (memory_mib)", "reading weights")


def processes(run: Run) -> None:
    """Models that raise while they load, or load for ever: their clients are told why, nobody else is hurt."""
    models = models_yaml(
        double={"options": {"service_ms": 5}},
        raises={"options": {"fault": "raises"}, "instances": ON_DEMAND},
        crashes={"options": {"fault": "crashes"}, "instances": ON_DEMAND},
        endless={"options": {"fault": "endless"}, "instances": ON_DEMAND, "load_timeout_s": LOAD_TIMEOUT_S},
    )
    with run.stack(models) as stack, Load(stack, mixed()) as load:
        load.wait_right(20)
        _ask_failing(run, stack, {"raises": RAISES, "crashes": CRASHES, "endless": ENDLESS})
        run.pause(2.0)
        outcomes = load.stop()
    run.take(outcomes)


def containers(run: Run) -> None:
    """A container that eats its memory limit while it loads: its clients are told why, nobody else is hurt."""
    engine = main_engine(run.say)
    with artifacts() as folder:
        models = models_yaml(
            double={"options": {"service_ms": 5}, "artifact": f"{folder}/double", "memory_mib": 512},
            hungry={
                "options": {"fault": "hungry"},
                "artifact": f"{folder}/double",
                "memory_mib": MEMORY_MIB,
                "instances": ON_DEMAND,
            },
        )
        with run.stack(models, launcher="docker", settings=engine.settings()) as stack, Load(stack, mixed()) as load:
            load.wait_right(20, 60.0)
            _ask_failing(run, stack, {"hungry": HUNGRY})
            run.pause(2.0)
            outcomes = load.stop()
    run.take(outcomes)


def _ask_failing(run: Run, stack: DrillStack, expected: dict[str, tuple[str, ...]]) -> None:
    for model, texts in expected.items():
        run.say(f"asking {model}")
        flows = [Flow(f"{p} {model}", p, model, rate=2.0, limit=run.few(4, 2), timeout_s=30.0) for p in PROTOCOLS]
        with Load(stack, flows) as failing:
            outcomes = failing.wait()
        run.take(outcomes, refusals("MODEL_UNAVAILABLE"))
        for outcome in outcomes:
            missing = [text for text in texts if text not in _plain(outcome)]
            run.check(not missing, f"{outcome.flow}: expected {missing} in the error, found {outcome.why!r}")
        silent = {
            outcome.flow for outcome in outcomes if not outcome.retry_after and not outcome.flow.startswith("zmq")
        }
        run.check(not silent, f"answers without Retry-After: {silent}")


def _plain(outcome: Outcome) -> str:
    return re.sub(r"\s+", " ", outcome.why)
