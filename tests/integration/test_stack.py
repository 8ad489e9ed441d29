"""Claims about a whole stack with a model: requests while parts of it are ended or killed, models that come and go."""

import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.stack import Stack, wait_until

SLOW_MODEL = """
import time

from inferoxy.runtime import Model


class Slow(Model):
    inputs = {"X": ("FP32", [-1, 2])}
    outputs = {"Y": ("FP32", [-1, 2])}

    def infer(self, inputs):
        time.sleep(0.4)
        return {"Y": inputs["X"] * 2}
"""


def models_of(folder: Path) -> str:
    (folder / "model.py").write_text(SLOW_MODEL)
    return f"slow: {{artifact: {folder}, batch_size: 2}}\n"


def ask(client: httpx.Client, url: str, number: float) -> list[float]:
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [number, number + 0.5]}]}
    answer = client.post(f"{url}/v2/models/slow/infer", json=body)
    assert answer.status_code == 200, answer.text
    found: list[float] = answer.json()["outputs"][0]["data"]
    return found


def asked(pool: ThreadPoolExecutor, client: httpx.Client, url: str, count: int) -> "list[Future[Any]]":
    return [pool.submit(ask, client, url, float(number)) for number in range(count)]


def right(count: int) -> list[list[float]]:
    return [[2.0 * number, 2.0 * number + 1.0] for number in range(count)]


def test_sigterm_answers_every_request_that_was_accepted(tmp_path: Path) -> None:
    with (
        Stack(models_of(tmp_path), grpc="", zmq="") as stack,
        httpx.Client(timeout=30.0, trust_env=False) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        ask(client, stack.rest_url, 0.0)
        futures = asked(pool, client, stack.rest_url, 8)
        wait_until(lambda: any(future.done() for future in futures), 10.0)
        assert stack.stop() == 0
        assert [future.result() for future in futures] == right(8)


@pytest.mark.parametrize("component", ["batch_manager", "task_manager", "model_manager"])
def test_no_client_of_a_stateless_model_notices_that_a_component_was_killed(tmp_path: Path, component: str) -> None:
    with (
        Stack(models_of(tmp_path), grpc="", zmq="") as stack,
        httpx.Client(timeout=30.0, trust_env=False) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        ask(client, stack.rest_url, 0.0)
        futures = asked(pool, client, stack.rest_url, 12)
        wait_until(lambda: any(future.done() for future in futures), 10.0)
        old = stack.kill(component)
        assert [future.result() for future in futures] == right(12)
        stack.wait_back(component, old)
        assert ask(client, stack.rest_url, 3.0) == [6.0, 7.0]


def test_a_killed_bridge_is_back_within_a_second_and_the_others_are_not_disturbed(tmp_path: Path) -> None:
    with Stack(models_of(tmp_path)) as stack, httpx.Client(timeout=30.0, trust_env=False) as client:
        ask(client, stack.rest_url, 0.0)
        grpc = stack.pid_of("bridge_grpc")
        stack.kill("bridge_rest")
        began = time.monotonic()

        def answers() -> bool:
            try:
                return ask(client, stack.rest_url, 1.0) == [2.0, 3.0]
            except httpx.HTTPError:
                return False

        wait_until(answers, 10.0, stack.log)
        assert time.monotonic() - began < 3.0  # a second, and the model's own time, on a busy machine
        assert stack.pid_of("bridge_grpc") == grpc


def test_instances_of_a_killed_task_manager_go_on_and_end_with_the_stack(tmp_path: Path) -> None:
    with Stack(models_of(tmp_path), grpc="", zmq="") as stack, httpx.Client(timeout=30.0, trust_env=False) as client:
        ask(client, stack.rest_url, 0.0)
        before = {row["id"] for row in httpx.get(f"{stack.admin_url}/instances", trust_env=False).json()}
        old = stack.kill("task_manager", signal.SIGKILL)
        stack.wait_back("task_manager", old)
        wait_until(
            lambda: {row["id"] for row in httpx.get(f"{stack.admin_url}/instances", trust_env=False).json()} == before,
            10.0,
            stack.log,
        )
        assert ask(client, stack.rest_url, 2.0) == [4.0, 5.0]


def test_load_starts_an_instance_without_any_request_and_unload_ends_it(tmp_path: Path) -> None:
    with Stack(models_of(tmp_path), grpc="", zmq="") as stack, httpx.Client(timeout=30.0, trust_env=False) as client:

        def states() -> list[str]:
            return [row["state"] for row in client.get(f"{stack.admin_url}/instances").json()]

        wait_until(lambda: client.post(f"{stack.admin_url}/models/slow/load").status_code == 200, 10.0, stack.log)
        wait_until(lambda: states() == ["ready"], 20.0, stack.log)
        assert client.post(f"{stack.admin_url}/models/slow/unload").status_code == 200
        wait_until(lambda: states() == [], 20.0, stack.log)
        assert ask(client, stack.rest_url, 5.0) == [10.0, 11.0]  # and it comes back when it is asked for


def test_a_model_registered_by_the_admin_api_serves_at_once_and_a_deleted_one_is_not_found(tmp_path: Path) -> None:
    models_of(tmp_path)
    with Stack("", grpc="", zmq="") as stack, httpx.Client(timeout=30.0, trust_env=False) as client:
        registered = client.post(f"{stack.admin_url}/models", json={"name": "slow", "artifact": str(tmp_path)})
        assert registered.status_code == 200

        def answers() -> bool:
            body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
            return client.post(f"{stack.rest_url}/v2/models/slow/infer", json=body).status_code == 200

        wait_until(answers, 10.0, stack.log)
        assert client.delete(f"{stack.admin_url}/models/slow").status_code == 200
        wait_until(lambda: client.get(f"{stack.rest_url}/v2/models/slow").status_code == 404, 5.0, stack.log)
