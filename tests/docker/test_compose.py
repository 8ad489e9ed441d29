"""The shipped docker-compose.yml: what it promises, and that it serves a picture from a container on a real engine."""

import contextlib
import functools
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
import yaml

from inferoxy.config import DockerSettings, Settings
from inferoxy.supervisor import COMMANDS
from task_manager.launchers.containers import LABEL
from tests.docker.conftest import IMAGES, MODEL_BASE, ROOT
from tests.docker.engine.engine import build_image
from tests.integration.stack import wait_until

COMPOSE_FILE = ROOT / "docker-compose.yml"
COMPOSE_TOOL = "inferoxy-test/compose:latest"
PROXY = "inferoxy-test/proxy:latest"
PICTURE = ROOT / "examples" / "detector" / "sample.jpg"
TRUTH = PICTURE.with_suffix(".json")
PROJECT = "inferoxy-test"
LIMIT_S = 240.0
PORTS = ("INFEROXY_REST_PORT", "INFEROXY_GRPC_PORT", "INFEROXY_ZMQ_PORT", "INFEROXY_ADMIN_PORT")


def shipped() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_component_is_a_service_with_its_command(name: str) -> None:
    service = shipped()["services"][name]
    assert tuple(service["command"]) == COMMANDS[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"]
    assert "data:/data" in service["volumes"]


def test_only_the_task_manager_gets_the_engine_and_what_talks_by_sockets_alone_gets_no_network() -> None:
    services = shipped()["services"]
    with_engine = [name for name, service in services.items() if "docker.sock" in str(service.get("volumes"))]
    assert with_engine == ["task_manager"]
    without_network = {name for name, service in services.items() if service.get("network_mode") == "none"}
    assert without_network == {"batch_manager", "task_manager", "model_runtime"}
    assert services["model_manager"]["ports"][0].startswith("127.0.0.1:")


def test_every_variable_is_a_setting() -> None:
    for service in shipped()["services"].values():
        for name in service.get("environment", {}):
            assert name.removeprefix("INFEROXY_").lower() in Settings.model_fields


def test_the_runtime_image_is_the_one_the_launcher_uses() -> None:
    assert shipped()["services"]["model_runtime"]["image"] == DockerSettings().runtime_image


class Compose:
    """Runs the compose plugin, or docker-compose in a container where the host has none."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._override = folder / "override.yml"
        self._folder, self.environment = folder, environment
        image = {name: {"image": PROXY} for name in COMMANDS}
        image["task_manager"]["environment"] = {  # type: ignore[assignment]
            "INFEROXY_DOCKER__RUNTIME_IMAGE": MODEL_BASE,
            "INFEROXY_DOCKER__PULL": "never",
        }
        services = image | {"model_runtime": {"image": MODEL_BASE}}
        self._override.write_text(yaml.safe_dump({"services": services}))

    def __call__(self, *arguments: str) -> str:
        """One command; its output."""
        files = ["-p", PROJECT, "-f", str(COMPOSE_FILE), "-f", str(self._override)]
        done = subprocess.run(
            [*self._tool(), *files, *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _tool(self) -> list[str]:
        if has_plugin():
            return ["docker", "compose"]
        build_image(COMPOSE_TOOL, IMAGES / "compose" / "Dockerfile", IMAGES / "compose")
        mounts = [f"--volume={path}:{path}" for path in ("/var/run/docker.sock", str(ROOT), str(self._folder))]
        variables = [f"--env={name}" for name in self.environment]
        return ["docker", "run", "--rm", f"--workdir={ROOT}", *mounts, *variables, COMPOSE_TOOL]


@functools.cache
def has_plugin() -> bool:
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def compose(tmp_path: Path, runtime_image: str) -> Iterator[Compose]:
    build_image(PROXY, ROOT / "deploy" / "Dockerfile.proxy", ROOT)
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in PORTS]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        environment = {name: str(sock.getsockname()[1]) for name, sock in zip(PORTS, sockets, strict=True)}
    made = Compose(tmp_path, environment)
    try:
        yield made
    finally:
        made("down", "--volumes", "--timeout", "20")


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_the_services_serve_the_sample_picture_from_a_container_and_leave_nothing(compose: Compose) -> None:
    with contextlib.closing(docker.from_env()) as engine, httpx.Client(timeout=60.0, trust_env=False) as http:
        compose("up", "--detach", "--no-build")
        rest = f"http://127.0.0.1:{compose.environment['INFEROXY_REST_PORT']}"
        admin = f"http://127.0.0.1:{compose.environment['INFEROXY_ADMIN_PORT']}"

        def answers() -> bool:
            try:
                return http.get(f"{rest}/readyz").status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(answers, 60.0, lambda: compose("logs", "--no-color"))
        url = f"{rest}/v1/models/detector/predict"
        answer = http.post(url, content=PICTURE.read_bytes(), headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 200, answer.text + compose("logs", "--no-color")
        found = answer.json()["prediction"]["class_name"]
        assert sorted(found) == sorted(json.loads(TRUTH.read_text())["class_names"])

        def is_shown() -> bool:
            """The instance may serve before the engine has told the task manager what it was started as."""
            return [row["state"] for row in http.get(f"{admin}/instances").json() if row["where"]] == ["ready"]

        wait_until(is_shown, 20.0)
        (row,) = http.get(f"{admin}/instances").json()
        assert row["where"].startswith("container ")
        label = {"label": f"{LABEL}instance={row['id']}"}
        (instance,) = engine.containers.list(filters=label)
        mounted = {mount["Destination"]: mount["Source"] for mount in instance.attrs["Mounts"]}
        assert mounted["/model"] == str(PICTURE.parent)
        assert mounted["/run/inferoxy"].endswith(f"/{PROJECT}_data/_data/run/backend")
        compose("down", "--volumes", "--timeout", "20")
        assert not engine.containers.list(all=True, filters=label)
        assert not engine.volumes.list(filters={"name": f"{PROJECT}_data"})
