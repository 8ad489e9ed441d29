"""A whole stack whose models run in containers: pictures and tensors in, right answers out, nothing left behind."""

import signal
from collections.abc import Iterator
from typing import Any

import docker
import httpx
import numpy as np
import pytest

from inferoxy import Client
from task_manager.launchers.containers import LABEL
from tests.docker.conftest import ROOT
from tests.integration.stack import Stack, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
DETECTOR = ROOT / "examples" / "detector" / "detector.onnx"
PICTURE = ROOT / "examples" / "detector" / "sample.jpg"
NEAR_PX, NEAR = 0.01, 1e-4  # two processes of one machine and one library


@pytest.fixture
def engine(runtime_image: str) -> Iterator[docker.DockerClient]:
    made = docker.from_env()
    yield made
    made.close()


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60.0, trust_env=False) as made:
        yield made


def docker_stack(models: str, runtime_image: str) -> Stack:
    settings = {"docker": {"runtime_image": runtime_image, "pull": "never"}}
    return Stack(models, launcher="docker", settings=settings, grpc="", zmq="")


def containers_of(engine: docker.DockerClient, model: str) -> list[Any]:
    found: list[Any] = engine.containers.list(filters={"label": f"{LABEL}model={model}"}, ignore_removed=True)
    return found


def predict(http: httpx.Client, stack: Stack, model: str) -> dict[str, Any]:
    answer = http.post(
        f"{stack.rest_url}/v1/models/{model}/predict",
        content=PICTURE.read_bytes(),
        headers={"Content-Type": "image/jpeg"},
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["prediction"]
    return found


def double(http: httpx.Client, stack: Stack, model: str, number: float) -> httpx.Response:
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [number, number + 0.5]}]}
    return http.post(f"{stack.rest_url}/v2/models/{model}/infer", json=body)


def test_the_detector_finds_the_same_in_a_container_as_in_a_process(
    engine: docker.DockerClient, http: httpx.Client, runtime_image: str
) -> None:
    models = f"in-a-box: {{artifact: {DETECTOR}, runtime: yolo, batch_size: 8, memory_mib: 1024}}\n"
    with Stack(models, grpc="", zmq="") as stack:
        expected = predict(http, stack, "in-a-box")
    with docker_stack(models, runtime_image) as stack:
        found = predict(http, stack, "in-a-box")
        assert len(containers_of(engine, "in-a-box")) == 1
    assert containers_of(engine, "in-a-box") == []
    assert found["class_name"] == expected["class_name"]
    assert len(found["boxes"]) > 0
    for ours, theirs in zip(found["boxes"], expected["boxes"], strict=True):
        assert ours == pytest.approx(theirs, abs=NEAR_PX)
    assert found["confidence"] == pytest.approx(expected["confidence"], abs=NEAR)


def test_a_model_image_serves_and_a_killed_container_is_replaced(
    engine: docker.DockerClient, http: httpx.Client, runtime_image: str, probe_image: str
) -> None:
    models = f"doubles: {{address: '{probe_image}', memory_mib: 512}}\n"
    with docker_stack(models, runtime_image) as stack:
        assert double(http, stack, "doubles", 1.0).json()["outputs"][0]["data"] == [2.0, 3.0]
        (first,) = containers_of(engine, "doubles")
        first.kill()
        assert double(http, stack, "doubles", 2.0).json()["outputs"][0]["data"] == [4.0, 5.0]
        (second,) = containers_of(engine, "doubles")
        assert second.id != first.id
    assert containers_of(engine, "doubles") == []


def test_large_tensors_go_by_shared_memory_and_come_back_right(
    engine: docker.DockerClient, http: httpx.Client, runtime_image: str, probe_image: str
) -> None:
    models = f"shares: {{address: '{probe_image}', memory_mib: 512, batch_size: 100000}}\n"
    rows = np.arange(200_000, dtype=np.float32).reshape(-1, 2)
    with docker_stack(models, runtime_image) as stack, Client(stack.rest_url) as client:
        for factor in (1, 2, 3):  # the first before anybody knows that the instance sees shared memory
            np.testing.assert_array_equal(client.infer("shares", {"X": rows * factor})["Y"], rows * factor * 2)
        (container,) = containers_of(engine, "shares")
        assert [m for m in container.attrs["Mounts"] if m["RW"] and m["Source"].startswith("/dev/shm/inferoxy-")]
    assert containers_of(engine, "shares") == []


def test_a_client_is_told_why_a_container_does_not_load(
    engine: docker.DockerClient, http: httpx.Client, runtime_image: str, probe_image: str
) -> None:
    models = (
        f"sick: {{address: '{probe_image}', memory_mib: 512, environment: {{PROBE: broken}}}}\n"
        "absent: {address: 'inferoxy-test/none:1'}\n"
    )
    with docker_stack(models, runtime_image) as stack:
        answer = double(http, stack, "sick", 1.0)
        assert answer.status_code == 503
        assert "ValueError: the weights are broken" in answer.json()["error"]
        answer = double(http, stack, "absent", 1.0)
        assert answer.status_code == 503
        assert "image inferoxy-test/none:1 is not on the engine" in answer.json()["error"]
    assert containers_of(engine, "sick") == []


def test_a_killed_task_managers_containers_go_on_and_end_with_the_stack(
    engine: docker.DockerClient, http: httpx.Client, runtime_image: str, probe_image: str
) -> None:
    models = f"lives-on: {{address: '{probe_image}', memory_mib: 512}}\n"
    with docker_stack(models, runtime_image) as stack:
        assert double(http, stack, "lives-on", 1.0).status_code == 200
        (before,) = containers_of(engine, "lives-on")
        old = stack.kill("task_manager")
        assert double(http, stack, "lives-on", 2.0).json()["outputs"][0]["data"] == [4.0, 5.0]
        stack.wait_back("task_manager", old)
        wait_until(lambda: [row["state"] for row in rows(http, stack)] == ["ready"], 10.0, stack.log)
        assert [container.id for container in containers_of(engine, "lives-on")] == [before.id]
    assert containers_of(engine, "lives-on") == []


def test_ctrl_c_leaves_no_container(
    engine: docker.DockerClient, http: httpx.Client, runtime_image: str, probe_image: str
) -> None:
    models = f"interrupted: {{address: '{probe_image}', memory_mib: 512}}\n"
    with docker_stack(models, runtime_image) as stack:
        assert double(http, stack, "interrupted", 1.0).status_code == 200
        stack.expected_code = stack.stop(signal.SIGINT, timeout_s=10.0)
    assert containers_of(engine, "interrupted") == []


def rows(http: httpx.Client, stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"{stack.admin_url}/instances").json()
    return found
