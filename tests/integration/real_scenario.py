"""A scenario of `inferoxy simulate`, run for real: a stack whose models sleep, and a client that sends on time.

Each task is a python model that sleeps as long as its service time; requests are sent over ZeroMQ at the instants of
the scenario. Latencies count from those instants, so a late sender makes nothing look better. Where that is allowed,
all of it goes before whatever else the machine does.
"""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from batch_manager.simulation.arrivals import US_PER_MS, arrivals_of
from batch_manager.simulation.policies import Policy, spec_of
from batch_manager.simulation.scenario import Scenario
from inferoxy import messages as m
from inferoxy import sockets, wire
from tests.integration.stack import Stack, processes_of, wait_until

LOOK_S = 0.0002  # between two looks at the socket; the standard poll waits in whole milliseconds
WARM = 8  # requests of each task, one after the other, before anything counts
HOPS = 4  # from client to batch manager, to instance, to batch manager, to client
REST_S = 0.6  # between rounds: no stream is expected any more, and all queues are empty
ANSWER_S = 20.0
KEYS = (
    "batch_size", "max_queue_delay_ms", "priority", "latency_budget_ms", "protect", "target_fps", "slots", "timeout_ms",
    "queue_size", "drop_policy",
)  # fmt: skip
MODEL = """
import time

from inferoxy.runtime import Model


class Sleeper(Model):
    inputs = {{"X": ("FP32", [-1, 1])}}
    outputs = {{"Y": ("FP32", [-1, 1])}}

    def infer(self, inputs):
        end = time.perf_counter() + {seconds}
        while (left_s := end - time.perf_counter()) > 0:
            time.sleep(max(0.0, left_s - 0.0002))
        return {{"Y": inputs["X"]}}
"""
PAYLOAD = wire.encode_payload(m.Payload([m.Tensor("X", "FP32", (1, 1))]))


@dataclass
class Round:
    """One run of the plan: milliseconds from end to end of what models answered, and codes of everything else, by task.

    `on_the_way_ms` is what of each latency was neither waiting in the batch manager nor computing. `paused_ms` is the
    longest time for which the machine did not let run who had something to do: a model that had slept enough, or the
    client, which looks every LOOK_S.
    """

    latencies_ms: dict[str, list[float]]
    codes: dict[str, list[str]]
    on_the_way_ms: list[float] = field(default_factory=list)
    paused_ms: float = 0.0

    @property
    def hop_ms(self) -> float:
        """What a message took from one process to the next."""
        return statistics.median(self.on_the_way_ms) / HOPS


@contextmanager
def real_scenario(scenario: Scenario, policy: Policy, folder: Path) -> "Iterator[RealScenario]":
    """A stack that serves a scenario's tasks as a policy registers them, warmed up.

    Args:
        scenario: Tasks with batches of one, one instance and no jitter.
        policy: What the models are registered with.
        folder: Where the models are written.
    """
    models = []
    for name, task in scenario.tasks.items():
        assert (task.batch_size, task.jitter, task.instances) == (1, 0.0, 1), "these models always sleep as long"
        source = folder / f"{name}.py"
        source.write_text(MODEL.format(seconds=task.service_ms / 1e3))
        spec = spec_of(name, task, policy)
        told = ", ".join(f"{key}: {getattr(spec, key)}" for key in KEYS)
        models.append(f"{name}: {{artifact: {source}, runtime: python, instances: {{min: 1, max: 1}}, {told}}}\n")
    context = sockets.context()
    with Stack("".join(models), settings={"cpu_slots": scenario.workers}, rest="", grpc="") as stack:
        try:
            real = RealScenario(scenario, stack, sockets.dealer(context, stack.zmq_endpoint))
            wait_until(real.is_ready, 30.0, stack.log)
            go_first([*processes_of(stack.data_dir), os.getpid()])
            real.warm_up()
            yield real
        finally:
            go_first([os.getpid()], os.SCHED_OTHER, 0)
            context.destroy(linger=0)


def go_first(pids: list[int], scheduler: int = os.SCHED_RR, priority: int = 1) -> None:
    """Let these processes run before all others, where that is allowed."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            try:
                os.sched_setscheduler(int(thread.name), scheduler, os.sched_param(priority))
            except (PermissionError, ProcessLookupError):
                return


class RealScenario:
    """Sends what a scenario says to a stack that serves its tasks."""

    def __init__(self, scenario: Scenario, stack: Stack, socket: zmq.Socket[bytes]) -> None:
        self._scenario = scenario
        self._stack = stack
        self._socket = socket
        self._next_id = 0

    def is_ready(self) -> bool:
        """Whether every model has its instance."""
        models = self._stack.status()["components"].get("batch_manager", {}).get("models", [])
        return len(models) == len(self._scenario.tasks) and all(model["state"] == "ready" for model in models)

    def warm_up(self) -> None:
        """Let the stack learn how long each model takes."""
        for name in self._scenario.tasks:
            for _ in range(WARM):
                self._play([(0.0, name)])

    def round(self) -> Round:
        """Run the scenario once."""
        time.sleep(REST_S)
        plan = [
            (at_us / US_PER_MS / 1e3, place, name)
            for place, (name, task) in enumerate(self._scenario.tasks.items())
            for at_us, _ in arrivals_of(name, task, self._scenario.seed)
        ]
        return self._play([(at_s, name) for at_s, _, name in sorted(plan)])

    def _play(self, plan: list[tuple[float, str]]) -> Round:
        """Send each request at its second; return when all are answered."""
        found = Round({name: [] for name in self._scenario.tasks}, {name: [] for name in self._scenario.tasks})
        due: dict[int, tuple[float, str]] = {}
        began = time.perf_counter() + 0.01
        until = began + plan[-1][0] + ANSWER_S
        looked = time.perf_counter()
        while plan or due:
            now = time.perf_counter()
            found.paused_ms = max(found.paused_ms, (now - looked - LOOK_S) * 1e3)
            assert now < until, f"{len(due)} requests were not answered within {ANSWER_S} s\n{self._stack.log()}"
            while plan and began + plan[0][0] <= now:
                at_s, name = plan.pop(0)
                self._next_id += 1
                due[self._next_id] = (began + at_s, name)
                self._send(name)
            for response in self._received():
                at, name = due.pop(response.id)
                if response.code:
                    found.codes[name].append(response.code)
                    continue
                latency_ms, compute_ms = (time.perf_counter() - at) * 1e3, response.served.compute_us / 1e3
                found.latencies_ms[name].append(latency_ms)
                found.on_the_way_ms.append(latency_ms - response.served.queue_us / 1e3 - compute_ms)
                found.paused_ms = max(found.paused_ms, compute_ms - self._scenario.tasks[name].service_ms)
            looked = time.perf_counter()
            time.sleep(LOOK_S)
        return found

    def _send(self, name: str) -> None:
        request = m.Request(id=self._next_id, model=name, payload=PAYLOAD)
        assert sockets.send(self._socket, wire.encode(request, [bytes(4)]))

    def _received(self) -> list[Any]:
        found: list[Any] = []
        while (parts := sockets.recv(self._socket)) is not None:
            found += [header for header, _ in wire.decode(parts) if isinstance(header, m.Response)]
        return found
