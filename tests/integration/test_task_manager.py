"""A task manager as a process, between a batch manager and a model manager played by the test; instances are real."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferoxy.messages import ModelSpec, Scale
from task_manager.launchers.process_launcher import LOG_FOLDER, RECORD_FOLDER
from tests.integration.surroundings import Surroundings, TaskManager, is_alive, model_folder

DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""
BROKEN = "raise ValueError('the weights are broken')\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Surroundings]:
    with Surroundings(tmp_path / "data", drain_s=2.0) as made:
        yield made


def echo(tmp_path: Path, **fields: Any) -> ModelSpec:
    return ModelSpec(name="echo", artifact=str(model_folder(tmp_path / "echo")), runtime="python", **fields)


def pids(world: Surroundings) -> list[int]:
    return [hello.pid for hello in world.hellos.values()]


def test_the_first_request_starts_an_instance_and_idleness_ends_it(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, keep_warm_s=0.0))
    with TaskManager(world):
        world.until(lambda: world.conditions.get("echo"))
        assert world.conditions["echo"].state == "idle"
        asked_at = time.monotonic()
        world.ask_for("echo")
        name = world.instance()
        assert world.greeted_at[name] - asked_at < 5.0
        (pid,) = pids(world)
        world.until(lambda: not world.hellos)
        assert world.drained == [name]
        world.until(lambda: not is_alive(pid))
        world.until(lambda: world.report.get("instances") == [])
        assert [c.state for c in world.told] == ["idle", "starting", "ready", "idle"]


def test_an_instance_is_reported_with_its_state_its_place_and_its_log(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, instances=Scale(1, 1)))
    with TaskManager(world):
        name = world.instance()
        row = world.until(lambda: world.row(name).get("state") == "ready" and world.row(name))
        assert (row["model"], row["version"], row["device"]) == ("echo", "1", "cpu")
        assert row["where"] == f"pid {world.hellos[name].pid}"
        assert 0 <= row["age_s"] < 20
        assert Path(row["log"]).read_text()
        assert world.report["launcher"] == "process"


def test_a_load_failure_is_told_at_once_and_the_next_request_tries_again(world: Surroundings, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "broken", BROKEN)
    world.register(ModelSpec(name="broken", artifact=str(folder), runtime="python"))
    with TaskManager(world):
        world.until(lambda: world.conditions.get("broken"))
        world.ask_for("broken")
        world.until(lambda: world.conditions["broken"].state == "failing")
        told = world.conditions["broken"]
        assert told.error.startswith("model 'broken': instance broken-1-")
        assert "exit code 70 before it was seen to be ready" in told.error
        assert "ValueError: the weights are broken" in told.error
        assert 0 < told.retry_s <= 0.5
        world.queued.clear()  # they have been answered
        world.until(lambda: world.conditions["broken"].state == "idle")
        model_folder(folder, model_folder(tmp_path / "good").joinpath("model.py").read_text())
        world.ask_for("broken")
        world.instance("broken")
        world.until(lambda: world.report["failures"])


def test_a_killed_instance_is_replaced_within_a_second_and_a_load(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, instances=Scale(1, 1)))
    with TaskManager(world):
        first = world.instance()
        world.until(lambda: world.row(first).get("state") == "ready")
        os.kill(world.hellos.pop(first).pid, signal.SIGKILL)
        killed_at = time.monotonic()
        second = world.instance(other_than=[first])
        assert world.greeted_at[second] - killed_at < 4.0  # a second, and the time to start Python on a busy machine
        world.until(lambda: world.conditions["echo"].state == "ready")


def test_a_killed_task_manager_leaves_its_instances_to_the_next_one(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, instances=Scale(2, 2)))
    with TaskManager(world) as first:
        world.until(lambda: len(world.hellos) == 2)
        before = dict(world.hellos)
        first.kill()
    world.report = {}
    with TaskManager(world) as second:
        world.until(lambda: [row["state"] for row in world.report.get("instances", [])] == ["ready", "ready"])
        assert {row["id"] for row in world.report["instances"]} == set(before)
        assert all(row["adopted"] for row in world.report["instances"])
        second.process.send_signal(signal.SIGTERM)
        world.until(lambda: second.process.poll() is not None)
        assert second.process.returncode == 0
    assert not [hello for hello in before.values() if is_alive(hello.pid)]


def test_instances_of_a_dead_task_manager_that_died_meanwhile_are_replaced(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, instances=Scale(1, 1)))
    with TaskManager(world) as first:
        name = world.instance()
        first.kill()
    os.kill(world.hellos.pop(name).pid, signal.SIGKILL)
    with TaskManager(world):
        world.instance(other_than=[name])
        assert name not in {row["id"] for row in world.report.get("instances", [])}


def test_told_to_end_it_ends_every_instance_and_says_so(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, instances=Scale(2, 2)))
    with TaskManager(world) as manager:
        world.until(lambda: len(world.hellos) == 2)
        running = pids(world)
        manager.process.send_signal(signal.SIGTERM)
        world.until(lambda: manager.process.poll() is not None)
        assert manager.process.returncode == 0
        assert not [pid for pid in running if is_alive(pid)]
        assert not list((world.settings.data_dir / RECORD_FOLDER).iterdir())
        assert len(list((world.settings.data_dir / LOG_FOLDER).iterdir())) == 2


def test_instances_that_do_not_stop_are_killed_when_the_drain_is_over(world: Surroundings, tmp_path: Path) -> None:
    deaf = ModelSpec(name="deaf", artifact=str(model_folder(tmp_path / "deaf", DEAF)), runtime="python")
    world.register(deaf)
    with TaskManager(world) as manager:
        world.until(lambda: world.conditions.get("deaf"))
        world.ask_for("deaf")
        world.until(lambda: world.report.get("instances") and world.report["instances"][0]["where"])
        pid = int(world.report["instances"][0]["where"].split()[1])
        manager.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        world.until(lambda: manager.process.poll() is not None)
        assert time.monotonic() - began < world.settings.drain_s + 2.5
        assert manager.process.returncode == 0
        assert not is_alive(pid)


def test_a_model_that_does_not_load_in_time_is_killed_and_told(world: Surroundings, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "deaf", DEAF)
    world.register(ModelSpec(name="deaf", artifact=str(folder), runtime="python", load_timeout_s=1.0))
    with TaskManager(world):
        world.until(lambda: world.conditions.get("deaf"))
        world.ask_for("deaf")
        world.until(lambda: world.conditions["deaf"].state == "failing")
        assert "did not become ready within 1 s (load_timeout_s)" in world.conditions["deaf"].error


def test_a_removed_model_is_drained_and_a_changed_one_replaced(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, instances=Scale(1, 1)))
    with TaskManager(world):
        first = world.instance()
        world.until(lambda: world.conditions["echo"].state == "ready")
        world.register(echo(tmp_path, instances=Scale(1, 1), batch_size=4))
        second = world.instance(other_than=[first])
        world.until(lambda: first not in world.hellos)
        assert world.drained == [first]
        assert world.hellos[second].batch_size == 4
        world.register()
        world.until(lambda: not world.hellos)
        assert world.drained == [first, second]


def test_serving_survives_the_absence_of_both_managers(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, instances=Scale(1, 1)))
    with TaskManager(world):
        name = world.instance()
        world.until(lambda: world.row(name).get("state") == "ready")
        world.close()
        time.sleep(0.3)
        world.restart()
        assert world.instance() == name
        world.until(lambda: world.conditions.get("echo") and world.conditions["echo"].state == "ready")
        assert [row["id"] for row in world.report["instances"]] == [name]


def test_a_drain_that_a_batch_manager_has_forgotten_is_repeated(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, instances=Scale(1, 1), timeout_ms=60_000.0))
    with TaskManager(world):
        name = world.instance()
        world.until(lambda: world.row(name).get("state") == "ready")
        world.is_holding = True
        world.register()
        world.until(lambda: world.drained == [name])
        world.close()
        world.restart()
        world.is_holding = False
        world.until(lambda: world.drained == [name, name])


def test_commands_load_and_unload(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path))
    with TaskManager(world):
        world.until(lambda: world.conditions.get("echo"))
        world.command("load", "echo")
        name = world.instance()
        world.until(lambda: world.row(name).get("state") == "ready")
        world.command("unload", "echo")
        world.until(lambda: not world.hellos)
        world.until(lambda: world.conditions["echo"].state == "idle")


def test_a_gpu_model_without_a_gpu_says_so_to_clients(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, run_on_gpu=True))
    with TaskManager(world):
        world.until(lambda: world.conditions.get("echo"))
        assert world.conditions["echo"].state == "failing"
        assert "cannot be placed: it has run_on_gpu: true" in world.conditions["echo"].error


def test_a_second_task_manager_of_one_data_directory_refuses_to_start(world: Surroundings) -> None:
    with TaskManager(world):
        world.until(lambda: world.report)
        with TaskManager(world) as second:
            assert second.process.wait(20.0) == 3
            assert "another task manager runs in this data directory" in second.log()


def test_a_bug_ends_the_task_manager_but_not_the_instances(world: Surroundings, tmp_path: Path) -> None:
    world.register(echo(tmp_path, instances=Scale(1, 1)))
    with TaskManager(world) as first:
        name = world.instance()
        world.register(echo(tmp_path, options={"not JSON": msgspec.msgpack.Ext(7, b"")}))
        world.until(lambda: first.process.poll() is not None)
        assert first.process.returncode == 1
        assert "Traceback" in first.log()
    assert is_alive(world.hellos[name].pid)
    world.register(echo(tmp_path, instances=Scale(1, 1)))
    with TaskManager(world):
        world.until(lambda: world.row(name).get("state") == "ready")


def test_a_docker_engine_that_is_away_is_told_to_clients_and_keeps_nobody_from_ending(tmp_path: Path) -> None:
    away = {"base_url": "unix:///nowhere/docker.sock"}
    with Surroundings(tmp_path / "data", launcher="docker", docker=away) as world:
        world.register(echo(tmp_path))
        with TaskManager(world) as manager:
            world.until(lambda: world.conditions.get("echo"))
            assert world.conditions["echo"].state == "failing"
            assert "the Docker engine at unix:///nowhere/docker.sock does not answer" in world.conditions["echo"].error
            world.until(lambda: world.report.get("launcher_error"))
            manager.process.send_signal(signal.SIGTERM)
            assert manager.process.wait(10.0) == 0
