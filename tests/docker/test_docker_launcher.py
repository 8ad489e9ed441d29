"""Real containers started, confined, found again and ended by the Docker launcher, over a mounted socket."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import numpy as np
import pytest

from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.arena import SLOT_MIN_BYTES, Arena
from inferoxy.arena import model_folder as arena_folder
from inferoxy.errors import ModelUnavailable
from inferoxy.messages import Scale
from task_manager.launchers.containers import LABEL
from task_manager.launchers.docker_launcher import ARENA_FOLDER, DockerLauncher
from task_manager.planner import Launch
from task_manager.requests import launch_request
from tests.docker.containers import Containers, artifact_of
from tests.docker.engine.engine import require_engine
from tests.docker.tiny_registry import PASSWORD, USER, TinyRegistry
from tests.integration.surroundings import TIMEOUT_S, Surroundings, TaskManager, model_folder
from tests.requests_for_models import Call, make_batch, read_result

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    require_engine()
    made = docker.from_env()
    yield made
    made.close()


@pytest.fixture
def world(tmp_path: Path, runtime_image: str) -> Iterator[Surroundings]:
    # The launcher's own user, and folders of pytest that nobody else may enter: only what is mounted is to be reached.
    with Surroundings(
        tmp_path / "data", launcher="docker", docker={"runtime_image": runtime_image, "pull": "never"}
    ) as made:
        yield made


@pytest.fixture
def containers(world: Surroundings, client: docker.DockerClient) -> Iterator[Containers]:
    made = Containers(world, client)
    made.launcher.adopt()
    yield made
    made.close()


def confined(containers: Containers, instance: str) -> dict[str, Any]:
    """What the probe has found out about itself."""
    (line,) = [line for line in containers.launcher.log_tail(instance, 50) if line.startswith("confined")]
    found: dict[str, Any] = json.loads(line.removeprefix("confined "))
    return found


def test_a_model_image_serves_over_the_mounted_socket_and_is_confined(containers: Containers, probe_image: str) -> None:
    world = containers.world
    running = containers.launcher.launch(containers.request(address=probe_image, cpus=1.5))
    assert world.instance("probe") == "probe-1-one"
    found = confined(containers, "probe-1-one")
    assert (found["uid"], found["gid"]) == (10001, 10001)
    assert found["capabilities"] == 0
    assert found["no_new_privileges"] == "1"
    assert found["interfaces"] == ["lo"]
    assert found["writable"] == ["/tmp"]
    assert (found["cwd"], found["home"], found["threads"]) == ("/app", "/tmp", "2")
    host = containers.of("probe-1-one").attrs["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["Privileged"]) == ("none", True, False)
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (512 << 20, 512 << 20, 1_500_000_000)
    assert host["PidsLimit"] == world.settings.docker.pids_limit
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "2"}
    assert running.where == f"container {containers.of('probe-1-one').short_id}"

    batch, frames = make_batch(7, [Call({"X": np.array([[1.0, 2.5]], np.float32)})])
    assert sockets.send(world.backend, [b"probe-1-one", *wire.encode(batch, frames)])
    results: list[Any] = []
    world.on_result = lambda result, tensors: results.extend(read_result(result, tensors))
    world.until(lambda: results)
    assert results[0].tensors["Y"].tolist() == [[2.0, 5.0]]


def test_a_container_sees_its_own_models_shared_memory_and_no_other(
    containers: Containers, probe_image: str, tmp_path: Path
) -> None:
    world = containers.world
    world.settings.arena_dir = tmp_path / "arena"
    arena = Arena(world.settings.arena_dir, 64 << 20)
    try:
        other = arena.take("another", SLOT_MIN_BYTES)
        mine = arena.take("probe", SLOT_MIN_BYTES)
        assert mine is not None
        assert other is not None
        containers.launcher.launch(containers.request(address=probe_image, batch_size=8192))
        world.instance("probe")
        assert world.hellos["probe-1-one"].arena
        rows = np.arange(16_384, dtype=np.float32).reshape(8192, 2)
        mine.view[:] = rows.tobytes()
        results: list[Any] = []
        world.on_result = lambda result, tensors: results.extend(read_result(result, tensors))
        for number, slot in enumerate((mine.slot, other.slot)):
            payload = wire.encode_payload(m.Payload([m.Tensor("X", "FP32", rows.shape)]))
            item = m.BatchItem(0, 0, payload, 10_000_000, places=wire.encode_payload(m.Places([slot])))
            sockets.send(world.backend, [b"probe-1-one", *wire.encode(m.Batch(id=number, items=[item]))])
        world.until(lambda: len(results) == 2)
        assert results[0].code == "", results[0].error
        np.testing.assert_array_equal(results[0].tensors["Y"], rows * 2)
        assert results[1].code == "INVALID_REQUEST"
    finally:
        arena.close()


def test_a_container_whose_shared_memory_was_swept_away_is_not_adopted(
    containers: Containers, probe_image: str, tmp_path: Path
) -> None:
    containers.world.settings.arena_dir = tmp_path / "arena"
    containers.launcher.launch(containers.request(address=probe_image))
    containers.another_launcher()
    assert [running.instance for running in containers.launcher.adopt()] == ["probe-1-one"]
    folder = arena_folder(tmp_path / "arena", "probe")
    folder.rename(tmp_path / "swept")
    folder.mkdir()
    containers.another_launcher()
    assert containers.launcher.adopt() == []
    assert containers.names() == []


def test_a_container_ends_in_order_and_is_removed(containers: Containers, probe_image: str) -> None:
    containers.launcher.launch(containers.request(address=probe_image))
    containers.world.instance("probe")
    threading.Thread(target=containers.launcher.stop, args=("probe-1-one", TIMEOUT_S)).start()
    ended = containers.exit()
    assert (ended.instance, ended.code, ended.reason) == ("probe-1-one", 0, "ended with exit code 0")
    assert "instance ends" in ended.log_tail[-1]
    assert containers.names() == []


def test_an_artifact_folder_runs_in_the_runtime_image(containers: Containers, tmp_path: Path) -> None:
    folder = artifact_of(model_folder(tmp_path / "echo"))
    containers.launcher.launch(containers.request(artifact=folder, runtime="python"))
    containers.world.instance("probe")
    mounts = {mount["Destination"]: mount["RW"] for mount in containers.of("probe-1-one").attrs["Mounts"]}
    shared = arena_folder(Path(ARENA_FOLDER), "probe")
    assert mounts == {"/app": False, "/run/inferoxy": False, str(shared): True}


def test_a_model_file_runs_in_the_runtime_image(containers: Containers) -> None:
    request = containers.request(artifact=str(ROOT / "examples/detector/detector.onnx"), runtime="yolo")
    containers.launcher.launch(request)
    hello = containers.world.hellos[containers.world.instance("probe")]
    assert hello.metadata["names"]


def test_a_restarted_batch_manager_is_reached_again(containers: Containers, probe_image: str) -> None:
    world = containers.world
    containers.launcher.launch(containers.request(address=probe_image))
    world.instance("probe")
    world.turn(100)
    world.close()
    world.restart()  # the socket file is another one now
    assert world.instance("probe") == "probe-1-one"


def test_a_restarted_launcher_adopts_by_label(containers: Containers, probe_image: str) -> None:
    containers.launcher.launch(containers.request(address=probe_image, gpu_memory_mib=3))
    containers.world.instance("probe")
    containers.another_launcher()
    (found,) = containers.launcher.adopt()
    assert (found.instance, found.model, found.version, found.digest) == ("probe-1-one", "probe", "1", "digest")
    assert (found.device, found.gpu_memory_mib) == ("cpu", 3)
    assert abs(found.started_at - time.time()) < 120
    containers.launcher.kill("probe-1-one")
    assert containers.exit().instance == "probe-1-one"
    assert containers.names() == []


def test_remains_of_an_earlier_run_are_removed_and_other_stacks_left_alone(
    containers: Containers, probe_image: str
) -> None:
    labels = {f"{LABEL}stack": containers.launcher.stack, f"{LABEL}instance": "remains"}
    created = containers.client.containers.create(probe_image, labels=labels, network_mode="none")
    ended = containers.client.containers.create(probe_image, labels=labels, network_mode="none")
    ended.start()
    assert ended.wait(timeout=TIMEOUT_S)["StatusCode"] == 64  # it was told nothing
    strange = containers.client.containers.create(
        probe_image, entrypoint=["sleep", "600"], labels=labels, network_mode="none"
    )
    strange.start()
    other = containers.client.containers.create(
        probe_image, labels=labels | {f"{LABEL}stack": "another"}, network_mode="none"
    )
    try:
        containers.another_launcher()
        assert containers.launcher.adopt() == []
        left = {c.id for c in containers.client.containers.list(all=True, ignore_removed=True)}
        assert not left & {created.id, ended.id, strange.id}
        assert other.id in left
    finally:
        other.remove(force=True)


def test_a_load_failure_carries_the_end_of_the_containers_log(containers: Containers, probe_image: str) -> None:
    containers.launcher.launch(containers.request(address=probe_image, environment={"PROBE": "broken"}))
    ended = containers.exit()
    assert (ended.code, ended.reason) == (70, "ended with exit code 70")
    assert "ValueError: the weights are broken" in ended.log_tail
    assert containers.names() == []


def test_a_container_over_its_memory_limit_is_killed_and_says_so(containers: Containers, probe_image: str) -> None:
    request = containers.request(address=probe_image, memory_mib=128, environment={"PROBE": "hungry"})
    containers.launcher.launch(request)
    assert containers.exit().reason == "was killed because it used more than its 128 MiB of memory (memory_mib)"


def test_a_container_that_does_not_stop_is_killed_after_the_grace(containers: Containers, probe_image: str) -> None:
    containers.launcher.launch(containers.request(address=probe_image, environment={"PROBE": "deaf"}))
    until = time.monotonic() + TIMEOUT_S
    while "deaf now" not in containers.launcher.log_tail("probe-1-one"):
        assert time.monotonic() < until
    began = time.monotonic()
    containers.launcher.stop("probe-1-one", 1.0)
    assert 0.9 < time.monotonic() - began < 8.0
    assert containers.exit().code == 137


def test_a_container_that_somebody_removes_has_ended(containers: Containers, probe_image: str) -> None:
    containers.launcher.launch(containers.request(address=probe_image))
    containers.of("probe-1-one").remove(force=True)
    assert containers.exit().reason == "its container was removed"
    containers.launcher.stop("probe-1-one", 0.0)
    containers.launcher.kill("probe-1-one")


def test_a_missing_image_is_named_with_its_registry(world: Surroundings, containers: Containers) -> None:
    with pytest.raises(ModelUnavailable, match=r"'probe': image inferoxy-test/none:1 is not on the engine, and docker"):
        containers.launcher.launch(containers.request(address="inferoxy-test/none:1"))
    world.settings.docker.pull = "missing"
    with pytest.raises(
        ModelUnavailable,
        match=r"image 127\.0\.0\.1:9/no/such:2 is not on the engine, and registry 127\.0\.0\.1:9 does not deliver it: ",
    ):
        containers.launcher.launch(containers.request(address="127.0.0.1:9/no/such:2"))
    assert containers.names() == []


def test_a_private_image_is_pulled_with_the_login_of_its_registry(world: Surroundings, containers: Containers) -> None:
    with TinyRegistry() as registry:
        world.settings.docker.pull = "missing"
        request = containers.request(address=registry.image)
        with pytest.raises(ModelUnavailable, match="does not deliver it"):
            containers.launcher.launch(request)
        assert registry.authorized == 0
        world.settings.docker.registry = registry.address
        world.settings.docker.login, world.settings.docker.password = USER, PASSWORD
        try:
            # It holds no program, so it cannot run; but it is here.
            with pytest.raises(ModelUnavailable, match=r"model 'probe': the Docker engine refused: .*no-such-program"):
                containers.launcher.launch(request)
            assert containers.client.images.get(registry.image)
            assert registry.authorized > 0
            assert containers.names() == []
            pulled = registry.authorized
            world.settings.docker.pull = "always"
            with pytest.raises(ModelUnavailable, match="no-such-program"):
                containers.launcher.launch(request)
            assert registry.authorized > pulled
        finally:
            containers.client.images.remove(registry.image, force=True)


def test_an_image_name_that_is_an_url_is_refused(world: Surroundings, containers: Containers) -> None:
    world.settings.docker.pull = "always"
    with pytest.raises(ModelUnavailable, match=r"image http://x/y:1: Repository name cannot contain a scheme"):
        containers.launcher.launch(containers.request(address="http://x/y:1"))


def test_a_missing_runtime_image_says_what_makes_it(world: Surroundings, containers: Containers) -> None:
    world.settings.docker.runtime_image = "inferoxy-test/none:1"
    with pytest.raises(ModelUnavailable, match=r"docker\.pull is never \(deploy/Dockerfile\.model makes it\)"):
        containers.launcher.launch(containers.request(artifact="/models/x.onnx"))


def test_a_gpu_is_asked_for_by_name_and_an_engine_without_any_says_so(
    world: Surroundings, containers: Containers, probe_image: str
) -> None:
    if "nvidia" in containers.client.info().get("Runtimes", {}):
        pytest.skip("this engine has GPUs")
    spec = m.ModelSpec(name="probe", address=probe_image, run_on_gpu=True)
    with pytest.raises(ModelUnavailable, match="model 'probe': the Docker engine refused: could not select device"):
        containers.launcher.launch(launch_request(Launch(spec, "d", "gpu:0"), "probe-1-gpu", world.settings, 1))
    assert containers.names() == []


def test_an_engine_that_does_not_answer_is_named(world: Surroundings) -> None:
    world.settings.docker.base_url = "unix:///nowhere/docker.sock"
    launcher = DockerLauncher(world.settings)
    expected = r"the Docker engine at unix:///nowhere/docker\.sock does not answer: .*No such file"
    with pytest.raises(ModelUnavailable, match=expected):
        launcher.adopt()
    launcher.close()


def test_a_backend_that_a_container_without_network_cannot_reach_is_refused(
    world: Surroundings, containers: Containers, probe_image: str
) -> None:
    world.settings.backend = "tcp://10.0.0.1:7000"
    with pytest.raises(ModelUnavailable, match=r"could not reach the backend tcp://10.0.0.1:7000: expected a network"):
        containers.launcher.launch(containers.request(address=probe_image))


def test_containers_outlive_their_task_manager_and_end_with_the_next_one(
    world: Surroundings, containers: Containers, probe_image: str
) -> None:
    world.register(m.ModelSpec(name="probe", address=probe_image, memory_mib=512, instances=Scale(2, 2)))
    with TaskManager(world) as first:
        world.until(lambda: len(world.hellos) == 2, 60.0)
        names = sorted(world.hellos)
        first.kill()
    assert containers.names() == names
    with TaskManager(world):
        world.until(lambda: [row["state"] for row in world.report.get("instances", [])] == ["ready", "ready"])
        assert sorted(world.hellos) == names
        containers.of(names[0]).kill()
        del world.hellos[names[0]]
        world.until(lambda: len(world.hellos) == 2, 60.0)
    assert containers.names() == []
