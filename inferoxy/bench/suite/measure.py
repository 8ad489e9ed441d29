"""Measure a probe once, on a stack of its own that stays up for all rounds of its workload."""

import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from inferoxy.bench import runner, traffic
from inferoxy.bench.plan import Plan, expected_values, parse_tensor, synthesize
from inferoxy.bench.suite import ceiling, echo, machine, plain_loop, wrk
from inferoxy.bench.suite.readings import Reading
from inferoxy.bench.suite.workloads import PICTURE, Probe, Workload, models_yaml
from inferoxy.cli.child_stack import ChildStack
from inferoxy.client import address as addresses
from inferoxy.client.calls import drive
from inferoxy.client.protocols import blocking_transport
from inferoxy.errors import InferoxyError

OWN, WRK, INSIDE = "inferoxy bench", "wrk", "in the loop itself"
# What is in the command line of each component, for shares of CPU and for profiles.
COMPONENTS = {
    "bridge_rest": ("bridge", "rest"),
    "bridge_grpc": ("bridge", "grpc"),
    "bridge_zmq": ("bridge", "zmq"),
    "batch_manager": ("batch-manager",),
    "task_manager": ("task-manager",),
    "model_manager": ("model-manager",),
    "instance": ("inferoxy.runtime",),
}


class Site:
    """A workload's stack and ceilings, running. `pid` is the stack's supervisor's."""

    def __init__(
        self, workload: Workload, folder: Path, stack: ChildStack, echo_url: str, longer_url: str, c_url: str
    ) -> None:
        self.workload = workload
        self.pid = stack.pid
        self._folder = folder
        self._rest = stack.addresses["rest"]
        self._zmq = stack.addresses["zmq"]
        self._admin = stack.addresses["admin"]
        self._echo_url = echo_url
        self._longer_url = longer_url
        self._c_url = c_url

    def is_missing(self, probe: Probe) -> bool:
        """Whether the probe cannot be measured here: there is no C compiler."""
        return probe.kind == "rest" and probe.target == "ceiling" and not self._c_url

    def measure(self, probe: Probe, number: int, seconds: float, warmup_s: float) -> Reading:
        """Measure a probe in a round."""
        watch = machine.Watch()
        if probe.kind == "plain":
            looped = plain_loop.run(self.workload.artifact, PICTURE, probe.size, seconds, warmup_s)
            reading = Reading(
                probe=probe.key, round=number, generator=INSIDE,
                requests_per_s=looped.pictures_per_s, p50_ms=looped.p50_ms, p99_ms=looped.p99_ms,
            )  # fmt: skip
        else:
            before, began = self.cpu_s(), time.monotonic()
            if probe.kind == "rest" and not probe.exact and wrk.is_installed():
                reading = self._by_wrk(probe, number, seconds, warmup_s)
            else:
                reading = self._by_ourselves(probe, number, seconds, warmup_s)
            if probe.target == "stack":
                # What was spent on warm-up counts on both sides; starting the generator hardly does.
                requests = max(1.0, reading.requests_per_s * min(time.monotonic() - began, seconds + warmup_s))
                reading.cpu_us = {
                    name: (spent - before.get(name, 0.0)) / requests * 1e6
                    for name, spent in self.cpu_s().items()
                    if spent > before.get(name, 0.0)
                }
        usage = watch.stop()
        reading.others, reading.stolen = usage.others, usage.stolen
        return reading

    def plan(self, probe: Probe, seconds: float, warmup_s: float) -> Plan:
        """What our own generator sends for a probe."""
        workload = self.workload
        urls = {
            "rest": {"stack": self._rest, "ceiling": self._c_url},
            "zmq": {"stack": self._zmq, "ceiling": self._echo_url, "longer": self._longer_url},
        }
        return Plan(
            url=urls[probe.kind][probe.target],
            model=workload.model,
            tensors=[workload.tensor] if workload.tensor else [],
            pictures=[] if workload.tensor else [str(PICTURE)],
            slots=probe.size,
            duration_s=seconds,
            warmup_s=warmup_s,
            expected=expected(workload) if probe.target == "stack" else {},
            joined=probe.joined,
        )

    def verify(self) -> None:
        """Ask the stack once by REST, with the bytes that are measured, and look at the answer.

        Raises:
            InferoxyError: It is wrong.
        """
        plan = self.plan(self.workload.probes[0]._replace(kind="rest", target="stack"), 1.0, 0.0)
        transport = blocking_transport(addresses.parse(plan.url))
        try:
            answer = drive(traffic.questions(plan)[0].steps(), transport.exchange)
        finally:
            transport.close()
        wrong = traffic.unexpected(answer, plan.expected)
        if not wrong and not self.workload.tensor and not traffic.content_of(answer)["boxes"]:
            wrong = f"no object found in {PICTURE}"
        if wrong:
            raise InferoxyError(f"{self.workload.name}: {wrong}")

    def status(self) -> dict[str, Any]:
        """What the stack says of itself."""
        with urllib.request.urlopen(f"{self._admin}/status", timeout=10.0) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def pids(self) -> dict[str, int]:
        """The processes of the stack, by component."""
        found: dict[str, int] = {}
        for pid, command in machine.processes_below(self.pid).items():
            for name, words in COMPONENTS.items():
                if "-m" in command[1:3] and all(word in command[2:6] for word in words):
                    found[name] = pid
        return found

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds of each of them so far."""
        return {name: machine.cpu_s(pid) for name, pid in self.pids().items()}

    def _by_wrk(self, probe: Probe, number: int, seconds: float, warmup_s: float) -> Reading:
        plan = self.plan(probe, seconds, warmup_s)
        asked = traffic.questions(plan)[0].exchange()
        if warmup_s:
            wrk.run(plan.url, asked, probe.size, warmup_s, self._folder)
        counted = wrk.run(plan.url, asked, probe.size, seconds, self._folder)
        return Reading(
            probe=probe.key, round=number, generator=WRK, requests_per_s=counted.requests_per_s,
            p50_ms=counted.p50_ms, p99_ms=counted.p99_ms, failed=counted.failed,
        )  # fmt: skip

    def _by_ourselves(self, probe: Probe, number: int, seconds: float, warmup_s: float) -> Reading:
        outcome = runner.run(self.plan(probe, seconds, warmup_s))
        return Reading(
            probe=probe.key, round=number, generator=OWN,
            requests_per_s=outcome.throughput, failed=outcome.failed, mean_batch=outcome.samples.mean_batch,
            p50_ms=outcome.latency.percentile(50) * 1e3, p99_ms=outcome.latency.percentile(99) * 1e3,
            problems=outcome.problems,
        )  # fmt: skip


@contextmanager
def site(workload: Workload) -> Iterator[Site]:
    """The workload's stack, its model loaded, and its ceilings, while the context lasts.

    Raises:
        InferoxyError: Something of it cannot be started, or it answers wrongly.
    """
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="ix-bench-")))
        models = folder / "models.yaml"
        models.write_text(models_yaml(workload))
        flags = ["--rest=127.0.0.1:0", "--grpc=127.0.0.1:0", "--zmq=tcp://127.0.0.1:0", "--admin=127.0.0.1:0"]
        flags += [f"--models={models}", f"--data-dir={folder / 'data'}", "--launcher=process", "--log-level=warning"]
        stack = running.enter_context(ChildStack(flags, folder / "stack.log"))
        stack.wait_ready(lambda: None)
        kinds = {probe.kind for probe in workload.probes if probe.target == "ceiling"}
        echo_url = longer_url = ""
        if "zmq" in kinds:
            echo_url = running.enter_context(echo.running(folder))
            longer_url = running.enter_context(echo.running(folder, hops=3))
        c_url = ""
        if "rest" in kinds and ceiling.compiler():
            c_url = running.enter_context(ceiling.running(folder, workload.answer_bytes))
        made = Site(workload, folder, stack, echo_url, longer_url, c_url)
        try:
            made.verify()
            yield made
            made.verify()
        except InferoxyError as exc:
            exc.message += f"\n{stack.tail()}"
            raise


def expected(workload: Workload) -> dict[str, list[float]]:
    """What the workload's model must answer to its synthetic input; nothing where a picture is sent."""
    if not workload.tensor:
        return {}
    tensor = parse_tensor(workload.tensor)
    if workload.model == "means":
        pixels = synthesize(tensor, Plan(url="", model="").seed)
        return {"OUTPUT0": pixels[::64, ::64].mean(axis=(0, 1), dtype="float64").tolist()}
    return {"OUTPUT0": expected_values([tensor], 0)[tensor.name]}


def tools() -> dict[str, str]:
    """What is used where there is a choice."""
    return {"rest_throughput_by": WRK if wrk.is_installed() else OWN, "c_compiler": ceiling.compiler() or "missing"}
