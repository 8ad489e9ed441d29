"""Real processes started, found again and ended by the process launcher."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferoxy.errors import ModelUnavailable
from inferoxy.messages import ModelSpec
from task_manager.launchers.base import Exit, LaunchRequest
from task_manager.launchers.process_launcher import KEPT_LOGS, LOG_FOLDER, RECORD_FOLDER, ProcessLauncher
from task_manager.launchers.process_records import Record, RecordFiles, start_ticks
from task_manager.planner import Launch
from task_manager.requests import launch_request
from tests.integration.surroundings import ECHO, Surroundings, is_alive, model_folder

TIMEOUT_S = 20.0
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""
BROKEN = "print('reading weights')\nraise ValueError('the weights are broken')\n"
DUMP = "import json, os\njson.dump(dict(os.environ), open(os.environ['DUMP'], 'w'))\n" + ECHO


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Surroundings]:
    with Surroundings(tmp_path / "data") as made:
        yield made


@pytest.fixture
def launcher(world: Surroundings) -> Iterator[ProcessLauncher]:
    made = ProcessLauncher(world.settings.data_dir)
    yield made
    for record in RecordFiles(world.settings.data_dir / RECORD_FOLDER).read():
        made.kill(record.instance)
        exit_of(made)
    made.close()


def request(world: Surroundings, tmp_path: Path, code: str = ECHO, name: str = "one", **fields: Any) -> LaunchRequest:
    spec = ModelSpec(name="echo", artifact=str(model_folder(tmp_path / "model", code)), runtime="python", **fields)
    return launch_request(Launch(spec, "digest", "cpu"), f"echo-1-{name}", world.settings, cores=2)


def exit_of(launcher: ProcessLauncher, timeout_s: float = TIMEOUT_S) -> Exit:
    until = time.monotonic() + timeout_s
    while True:
        ended = launcher.exits(0.2)
        if ended:
            assert len(ended) == 1
            return ended[0]
        assert time.monotonic() < until, "nothing has ended"


def pid_of(where: str) -> int:
    return int(where.removeprefix("pid "))


def wait_for_log(launcher: ProcessLauncher, instance: str, text: str) -> str:
    until = time.monotonic() + TIMEOUT_S
    while True:
        found = next((line for line in launcher.log_tail(instance) if text in line), "")
        if found:
            return found
        assert time.monotonic() < until, launcher.log_tail(instance)
        time.sleep(0.02)


def test_an_instance_introduces_itself_and_ends_in_order_when_it_is_stopped(
    world: Surroundings, launcher: ProcessLauncher, tmp_path: Path
) -> None:
    running = launcher.launch(request(world, tmp_path))
    assert world.instance() == "echo-1-one"
    assert world.hellos["echo-1-one"].pid == pid_of(running.where)
    threading.Thread(target=launcher.stop, args=("echo-1-one", TIMEOUT_S)).start()
    (ended,) = world.until(lambda: launcher.exits(0.02))
    assert (ended.instance, ended.code) == ("echo-1-one", 0)
    assert not list((world.settings.data_dir / RECORD_FOLDER).iterdir())
    assert "instance ends" in "\n".join(ended.log_tail)


def test_an_instance_that_does_not_stop_is_killed_with_all_it_has_started(
    world: Surroundings, launcher: ProcessLauncher, tmp_path: Path
) -> None:
    running = launcher.launch(request(world, tmp_path, STUBBORN))
    child = int(wait_for_log(launcher, running.instance, "child").split()[1])
    began = time.monotonic()
    launcher.stop(running.instance, 0.3)
    assert 0.3 <= time.monotonic() - began < 5.0
    assert (exit_of(launcher).code, is_alive(pid_of(running.where))) == (-signal.SIGKILL, False)
    assert not is_alive(child)


def test_what_an_instance_has_started_does_not_outlive_it(
    world: Surroundings, launcher: ProcessLauncher, tmp_path: Path
) -> None:
    code = STUBBORN.replace("time.sleep(600)\n", "sys.exit(3)\n")
    running = launcher.launch(request(world, tmp_path, code))
    ended = exit_of(launcher)
    assert ended.code not in (None, 0)
    child = int(next(line for line in launcher.log_tail(running.instance) if "child" in line).split()[1])
    until = time.monotonic() + 5.0
    while is_alive(child):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_load_failure_carries_the_end_of_the_log(
    world: Surroundings, launcher: ProcessLauncher, tmp_path: Path
) -> None:
    launcher.launch(request(world, tmp_path, BROKEN))
    ended = exit_of(launcher)
    assert ended.code == 70
    assert ended.reason == "ended with exit code 70"
    assert "ValueError: the weights are broken" in ended.log_tail[-1] + "".join(ended.log_tail)


def test_a_signal_is_named(world: Surroundings, launcher: ProcessLauncher, tmp_path: Path) -> None:
    running = launcher.launch(request(world, tmp_path))
    os.kill(pid_of(running.where), signal.SIGSEGV)
    assert exit_of(launcher).reason == "was ended by SIGSEGV"


def test_an_instance_gets_no_settings_and_no_secrets_of_the_stack(
    world: Surroundings, launcher: ProcessLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INFEROXY_DOCKER__PASSWORD", "TASK_MANAGER_DOCKER_CONFIG_PASSWORD"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    dump = tmp_path / "environment.json"
    launcher.launch(request(world, tmp_path, DUMP, environment={"DUMP": str(dump)}, cpus=2.0))
    world.instance()
    found = json.loads(dump.read_text())
    assert "hidden" not in found.values()
    assert not [name for name in found if name.startswith("INFEROXY_")]
    assert (found["PYTHONPATH"], found["OMP_NUM_THREADS"], found["PATH"]) == ("/somewhere", "2", os.environ["PATH"])
    assert found["CUDA_VISIBLE_DEVICES"] == ""


def test_a_gpu_instance_sees_its_gpu_alone(world: Surroundings, launcher: ProcessLauncher, tmp_path: Path) -> None:
    dump = tmp_path / "environment.json"
    asked = request(world, tmp_path, DUMP, environment={"DUMP": str(dump)}, run_on_gpu=True)
    launcher.launch(launch_request(Launch(asked.spec, "digest", "gpu:1"), "echo-1-one", world.settings, cores=2))
    world.instance()
    assert json.loads(dump.read_text())["CUDA_VISIBLE_DEVICES"] == "1"


def launch_and_die(world: Surroundings, asked: LaunchRequest) -> None:
    """A task manager that launches an instance and is killed."""
    code = (
        "import os, sys, msgspec; from pathlib import Path; "
        "from inferoxy.messages import InstanceConfig, ModelSpec; "
        "from task_manager.launchers.base import LaunchRequest; "
        "from task_manager.launchers.process_launcher import ProcessLauncher; "
        "config, spec = (msgspec.json.decode(a, type=t) for a, t in zip(sys.argv[2:], (InstanceConfig, ModelSpec))); "
        "ProcessLauncher(Path(sys.argv[1])).launch(LaunchRequest(config, spec, 'digest')); "
        "os.kill(os.getpid(), 9)"
    )
    arguments = [str(world.settings.data_dir), *(msgspec.json.encode(x).decode() for x in (asked.config, asked.spec))]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, timeout=TIMEOUT_S)
    assert done.returncode == -signal.SIGKILL


def test_an_instance_outlives_its_launcher_and_is_adopted(
    world: Surroundings, launcher: ProcessLauncher, tmp_path: Path
) -> None:
    asked = request(world, tmp_path, gpu_memory_mib=7)
    launch_and_die(world, asked)
    (found,) = launcher.adopt()
    assert (found.instance, found.model, found.version) == ("echo-1-one", "echo", "1")
    assert (found.digest, found.device, found.gpu_memory_mib) == ("digest", "cpu", 7)
    assert world.instance() == "echo-1-one"
    assert launcher.adopt() == []
    launcher.kill("echo-1-one")
    ended = exit_of(launcher)
    assert (ended.instance, ended.code) == ("echo-1-one", None)
    assert not is_alive(pid_of(found.where))


def test_an_adopted_instance_is_stopped_in_order(
    world: Surroundings, launcher: ProcessLauncher, tmp_path: Path
) -> None:
    launch_and_die(world, request(world, tmp_path))
    (found,) = launcher.adopt()
    world.instance()
    threading.Thread(target=launcher.stop, args=("echo-1-one", TIMEOUT_S)).start()
    (ended,) = world.until(lambda: launcher.exits(0.02))
    assert "instance ends" in "\n".join(ended.log_tail)
    assert not is_alive(pid_of(found.where))


def test_an_instance_whose_record_was_not_finished_is_found_by_its_environment(
    world: Surroundings, launcher: ProcessLauncher, tmp_path: Path
) -> None:
    launch_and_die(world, request(world, tmp_path))
    records = RecordFiles(world.settings.data_dir / RECORD_FOLDER)
    (record,) = records.read()
    pid, record.pid, record.start_ticks = record.pid, 0, 0
    records.write(record)
    (found,) = launcher.adopt()
    assert pid_of(found.where) == pid


def test_a_process_that_only_has_the_recorded_number_is_left_alone(
    world: Surroundings, launcher: ProcessLauncher
) -> None:
    records = RecordFiles(world.settings.data_dir / RECORD_FOLDER)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        began = start_ticks(stranger.pid)
        assert began is not None
        common = {"model": "echo", "version": "1", "digest": "d", "device": "cpu", "gpu_memory_mib": 0, "log": ""}
        for name, pid, ticks in (("recycled", stranger.pid, began - 5), ("gone", 2**22 - 1, began), ("unborn", 0, 0)):
            records.write(Record(instance=name, pid=pid, start_ticks=ticks, started_at=0.0, **common))
        (world.settings.data_dir / RECORD_FOLDER / "damaged.json").write_text('{"pid":')
        assert launcher.adopt() == []
        assert list(records.read()) == []
        launcher.kill("recycled")
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_only_the_newest_logs_are_kept(world: Surroundings, launcher: ProcessLauncher, tmp_path: Path) -> None:
    folder = world.settings.data_dir / LOG_FOLDER
    for number in range(KEPT_LOGS + 9):
        path = folder / f"old-{number}.log"
        path.write_text("x")
        os.utime(path, (number, number))
    running = launcher.launch(request(world, tmp_path))
    left = {path.name for path in folder.iterdir()}
    assert left == {f"old-{n}.log" for n in range(9, KEPT_LOGS + 9)} | {f"{running.instance}.log"}
    assert Path(running.log).stat().st_mode & 0o777 == 0o600


def test_an_image_is_refused_with_what_to_do(world: Surroundings, launcher: ProcessLauncher) -> None:
    spec = ModelSpec(name="echo", address="registry.example/echo:1")
    with pytest.raises(ModelUnavailable, match=r"model 'echo' is an image \(registry.example/echo:1\): use the docker"):
        launcher.launch(launch_request(Launch(spec, "d", "cpu"), "echo-1-x", world.settings, 1))


def test_a_missing_folder_is_named(world: Surroundings, launcher: ProcessLauncher, tmp_path: Path) -> None:
    spec = ModelSpec(name="echo", artifact=str(tmp_path / "missing" / "model.onnx"))
    with pytest.raises(ModelUnavailable, match=r"model 'echo': cannot start a process: .*missing"):
        launcher.launch(launch_request(Launch(spec, "d", "cpu"), "echo-1-x", world.settings, 1))
    assert not list((world.settings.data_dir / RECORD_FOLDER).iterdir())


def test_nothing_is_started_once_the_stack_ends(world: Surroundings, launcher: ProcessLauncher, tmp_path: Path) -> None:
    launcher.abandon()
    with pytest.raises(ModelUnavailable, match="ending"):
        launcher.launch(request(world, tmp_path))
