"""Claims about `inferoxy bench` on a real stack: what it counts, and that it looks at answers. Nothing about speed."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferoxy.bench import runner
from inferoxy.bench.plan import Plan, expected_values, parse_tensor
from inferoxy.bench.suite import ceiling, crowd, echo, machine, plain_loop, wrk
from inferoxy.bench.suite.workloads import EXAMPLE, MODELS, PICTURE
from inferoxy.bench.traffic import questions
from inferoxy.errors import InferoxyError, InvalidRequest, ModelNotFound
from tests.integration.stack import Stack

TENSOR = "INPUT0:FP32:1x16"
RIGHT = {"OUTPUT0": expected_values([parse_tensor(TENSOR)], 0)["INPUT0"]}
DRIFTING = """
from inferoxy.runtime import Model


class Drifting(Model):
    inputs = {"X": ("FP32", [-1, 1])}
    outputs = {"Y": ("FP32", [-1, 1])}
    calls = 0.0

    def infer(self, inputs):
        self.calls += 1
        return {"Y": inputs["X"] * 0 + self.calls}
"""
SLOW = """
import time

from inferoxy.runtime import Model


class Slow(Model):
    inputs = {"X": ("FP32", [-1, 1])}
    outputs = {"Y": ("FP32", [-1, 1])}

    def infer(self, inputs):
        time.sleep(0.05)
        return {"Y": inputs["X"]}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("models")
    for name, code in (("drifting", DRIFTING), ("slow", SLOW)):
        (folder / f"{name}.py").write_text(code)
    models = (
        f"identity: {{artifact: {MODELS / 'identity'}, batch_size: 32}}\n"
        f"means: {{artifact: {MODELS / 'means'}, batch_size: 4}}\n"
        f"sleeper: {{artifact: {MODELS / 'sleeper'}, batch_size: 32}}\n"
        f"detector: {{artifact: {EXAMPLE / 'detector.onnx'}, batch_size: 4}}\n"
        f"drifting: {{artifact: {folder / 'drifting.py'}, batch_size: 4}}\n"
        f"slow: {{artifact: {folder / 'slow.py'}, batch_size: 1, queue_size: 1}}\n"
    )
    with Stack(models) as running:
        yield running


def url_of(stack: Stack, protocol: str) -> str:
    return {"http": stack.rest_url, "grpc": f"grpc://{stack.grpc_address}", "zmq": stack.zmq_endpoint}[protocol]


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    known = {k: v for k, v in os.environ.items() if not k.startswith("INFEROXY_")}
    command = [sys.executable, "-m", "inferoxy", "bench", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90.0, check=False, env=known)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def levels_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    levels: list[dict[str, Any]] = json.loads(done.stdout)["levels"]
    return levels


@pytest.mark.parametrize("protocol", ["http", "grpc", "zmq"])
def test_a_closed_loop_counts_what_is_answered_over_every_protocol(stack: Stack, protocol: str) -> None:
    plan = Plan(
        url=url_of(stack, protocol), model="identity", tensors=[TENSOR], slots=4, duration_s=1.0, warmup_s=0.3,
        expected=RIGHT,
    )  # fmt: skip
    told: list[tuple[runner.Shown, float]] = []
    outcome = runner.run(plan, on_progress=lambda shown, since: told.append((shown, since)))
    assert outcome.failures == {}
    assert outcome.problems == []
    assert outcome.completed == outcome.latency.count > 20
    assert 0 < outcome.latency.percentile(50) <= outcome.latency.most_s < 1.0
    assert outcome.samples.count > 5
    assert 1.0 <= outcome.samples.mean_batch <= 4.0
    assert told[-1][0].answered >= outcome.completed


@pytest.mark.parametrize(("protocol", "processes"), [("http", 1), ("grpc", 1), ("zmq", 2)])
def test_an_open_loop_sends_exactly_what_is_due(stack: Stack, protocol: str, processes: int) -> None:
    plan = Plan(
        url=url_of(stack, protocol), model="identity", tensors=[TENSOR], slots=64, rate=100.0,
        duration_s=1.0, warmup_s=0.2, expected=RIGHT,
    )  # fmt: skip
    outcome = runner.run(plan, processes)
    assert outcome.failures == {}
    assert outcome.latency.count == 100
    assert outcome.completed >= 80  # the last ones may be answered after the end
    assert len(outcome.cpu_shares) == processes


def test_joined_zmq_requests_are_all_answered(stack: Stack) -> None:
    plan = Plan(
        url=stack.zmq_endpoint, model="identity", tensors=[TENSOR], slots=64, duration_s=0.5, warmup_s=0.2,
        expected=RIGHT, joined=True,
    )  # fmt: skip
    outcome = runner.run(plan)
    assert (outcome.failures, outcome.problems) == ({}, [])
    assert outcome.samples.mean_batch > 1.0


@pytest.mark.parametrize("protocol", ["http", "grpc", "zmq"])
def test_bodies_larger_than_socket_buffers_arrive_whole(stack: Stack, protocol: str) -> None:
    plan = Plan(
        url=url_of(stack, protocol), model="means", tensors=["INPUT0:UINT8:640x640x3"], slots=8, duration_s=0.5,
        warmup_s=0.2,
    )  # fmt: skip
    outcome = runner.run(plan)
    assert (outcome.failures, outcome.problems) == ({}, [])
    assert outcome.completed > 10


def test_the_command_prints_a_table_and_writes_figures_and_a_chart(stack: Stack, tmp_path: Path) -> None:
    chart, figures = tmp_path / "chart.html", tmp_path / "figures.json"
    done = bench(
        "detector", "--url", stack.rest_url, "--picture", PICTURE, "--concurrency", "1,4",
        "--duration", "0.6", "--warmup", "0.2", "--plot", chart, "--json", figures,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"detector at {stack.rest_url}, picture {PICTURE}" in done.stdout
    assert "│ c=1 " in done.stdout
    assert "│ c=4 " in done.stdout
    found = json.loads(figures.read_text())
    assert [level["level"] for level in found["levels"]] == ["c=1", "c=4"]
    assert all(level["requests"] > 0 and level["failed"] == 0 for level in found["levels"])
    assert all(level["served"]["decode_ms"]["mean"] > 0 for level in found["levels"])
    assert chart.read_text().count("<circle") == 8


@pytest.mark.parametrize(("protocol", "form"), [("http", "v2"), ("grpc", "predict"), ("zmq", "predict")])
def test_pictures_go_over_every_protocol(stack: Stack, protocol: str, form: str) -> None:
    done = bench(
        "detector", "--url", url_of(stack, protocol), "--picture", PICTURE, "--protocol", form, "--rate", "20",
        "--duration", "0.5", "--warmup", "0", "--json", "-",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (level,) = levels_of(done)
    assert (level["loop"], level["failed"], level["latency_ms"]["corrected"]) == ("open", 0, True)
    assert level["requests"] <= 10


def test_without_a_picture_or_tensor_the_declared_inputs_are_made_up(stack: Stack) -> None:
    runner.run(Plan(url=stack.rest_url, model="identity", tensors=[TENSOR], duration_s=0.1, warmup_s=0.0))
    options = ("--concurrency", "2", "--duration", "0.3", "--warmup", "0", "--json", "-")
    done = bench("identity", "--url", stack.zmq_endpoint, *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sent"] == "synthetic INPUT0:FP32:1x16"
    unknown = bench("nobody", "--url", stack.rest_url, *options)
    assert (unknown.returncode, "model 'nobody' is not registered" in unknown.stderr) == (2, True)


def test_a_body_of_the_users_own_is_sent(stack: Stack, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(
        json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": list(range(16))}]})
    )
    options = ("--concurrency", "2", "--duration", "0.3", "--warmup", "0", "--json", "-")
    done = bench("identity", "--url", stack.rest_url, "--body", body, *options)
    assert done.returncode == 0, done.stderr
    assert levels_of(done)[0]["requests"] > 0


def test_another_answer_after_the_load_than_before_is_noticed(stack: Stack) -> None:
    options = ("--concurrency", "2", "--duration", "0.3", "--warmup", "0", "--json", "-")
    done = bench("drifting", "--url", stack.zmq_endpoint, "--tensor", "X:FP32:1x1", *options)
    assert done.returncode == 1
    assert levels_of(done)[0]["problems"] == ["X:FP32:1x1: another answer after the load than before"]


def test_answers_that_are_not_what_was_expected_end_the_run(stack: Stack) -> None:
    wrong = {"OUTPUT0": [0.0] * 16}
    plan = Plan(url=stack.rest_url, model="identity", tensors=[TENSOR], expected=wrong)
    with pytest.raises(InferoxyError, match="output 'OUTPUT0': expected"):
        runner.run(plan)


@pytest.mark.parametrize("protocol", ["http", "grpc", "zmq"])
def test_what_the_server_says_about_a_wrong_request_is_told(stack: Stack, protocol: str) -> None:
    url = url_of(stack, protocol)
    with pytest.raises(InvalidRequest, match=r"expected shape \[-1, 16\], found \[1, 3\]"):
        runner.run(Plan(url=url, model="identity", tensors=["INPUT0:FP32:1x3"]))
    with pytest.raises(ModelNotFound, match="nobody"):
        runner.run(Plan(url=url, model="nobody", tensors=[TENSOR]))


@pytest.mark.parametrize("protocol", ["http", "grpc", "zmq"])
def test_refusals_are_counted_by_their_code(stack: Stack, protocol: str) -> None:
    plan = Plan(
        url=url_of(stack, protocol), model="slow", tensors=["X:FP32:1x1"], slots=200, rate=100.0, duration_s=0.6,
        warmup_s=0.0,
    )  # fmt: skip
    outcome = runner.run(plan)
    assert set(outcome.failures) == {"QUEUE_FULL"}
    assert outcome.failed + outcome.latency.count == 60
    assert outcome.latency.count > 5


@pytest.mark.parametrize(("protocol", "component"), [("http", "bridge_rest"), ("zmq", "bridge_zmq")])
def test_a_bridge_that_dies_costs_its_open_requests_and_no_more(stack: Stack, protocol: str, component: str) -> None:
    plan = Plan(
        url=url_of(stack, protocol), model="identity", tensors=[TENSOR], slots=4, duration_s=6.0, warmup_s=0.0,
        expected=RIGHT,
    )  # fmt: skip
    killed: list[float] = []
    back: list[int] = []

    def kill(shown: runner.Shown, since: float) -> None:
        if since > 0.5 and not killed:
            killed.append(time.monotonic())
            stack.kill(component)
        elif killed and not back and since > 4.5:
            back.append(shown.answered)

    outcome = runner.run(plan, on_progress=kill)
    assert set(outcome.failures) == {"CONNECTION_LOST"}
    assert outcome.problems == []
    assert outcome.completed > back[0] > 0  # it goes on when the bridge is back


def test_no_worker_is_left_when_a_run_is_broken_off(stack: Stack) -> None:
    class Enough(Exception):
        pass

    def stop(shown: runner.Shown, since: float) -> None:
        if since > 0.3:
            raise Enough

    plan = Plan(url=stack.rest_url, model="identity", tensors=[TENSOR], slots=2, duration_s=30.0, warmup_s=0.0)
    with pytest.raises(Enough):
        runner.run(plan, 2, stop)
    left = [line for line in machine.processes_below(os.getpid()).values() if "inferoxy.bench.worker" in line]
    assert left == []


def test_the_echo_answers_the_same_generator(tmp_path: Path) -> None:
    with echo.running(tmp_path) as url:
        outcome = runner.run(Plan(url=url, model="m", tensors=[TENSOR], slots=8, duration_s=0.4, warmup_s=0.1))
    assert (outcome.failures, outcome.problems) == ({}, [])
    assert outcome.completed == outcome.latency.count > 20


@pytest.mark.skipif(not ceiling.compiler(), reason="there is no C compiler")
def test_the_c_server_reads_every_body_and_answers(tmp_path: Path) -> None:
    with ceiling.running(tmp_path, 12) as url:
        plan = Plan(url=url, model="m", tensors=["INPUT0:UINT8:640x640x3"])
        (question,) = questions(plan)
        answered: list[bytes] = []

        def ask() -> None:
            import httpx

            sent = question.exchange()
            with httpx.Client(base_url=url, trust_env=False) as client:
                for _ in range(5):
                    answered.append(client.post(sent.path, content=sent.body, headers=sent.headers).content)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answered == [b"x" * 12] * 15
        if wrk.is_installed():
            counted = wrk.run(url, question.exchange(), 4, 1.0, tmp_path)
            assert counted.failed == 0
            assert counted.requests_per_s > 10
    assert not [c for c in machine.processes_below(os.getpid()).values() if c[0].endswith("/ceiling")]


def test_the_plain_loop_finds_the_objects_of_the_picture() -> None:
    for batch in (1, 3):
        looped = plain_loop.run(EXAMPLE / "detector.onnx", PICTURE, batch, 0.3, 0.1)
        assert looped.boxes > 0
        assert looped.pictures_per_s > 1


def test_the_crowd_measures_a_real_batch_manager() -> None:
    for scene in (crowd.Scene(1, 1, 64), crowd.Scene(20, 4, 400)):
        spent_us = crowd.measure(scene, 1.0, 0.2)
        assert 0.5 < spent_us < 1_000
