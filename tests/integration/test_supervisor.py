"""Claims about a whole stack's start and end: what is refused, restarted, drained and swept up."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.stack import Stack, processes_of, wait_until

# Without bridges a stack starts sooner; what is claimed here is the same for every component.
QUIET = {"rest": "", "grpc": "", "zmq": ""}
COMPONENTS = ("model_manager", "batch_manager", "task_manager", "bridge_rest", "bridge_grpc", "bridge_zmq")


def refused(*flags: str) -> tuple[int, str]:
    """The exit code of `inferoxy up` and what it wrote, for a stack that must not start."""
    command = [sys.executable, "-m", "inferoxy", "up", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_taken_port_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag, value in (("rest", address), ("admin", address), ("grpc", address), ("zmq", f"tcp://{address}")):
            others = [f"--{name}=" for name in ("rest", "admin", "grpc", "zmq") if name != flag]
            code, said = refused(f"--data-dir={tmp_path}", f"--{flag}={value}", *others)
            scheme = "tcp://" if flag == "zmq" else ""
            assert code == 3
            assert (
                said == f"error: {flag}: {address} is already in use; choose another with --{flag} {scheme}HOST:PORT\n"
            )
    assert processes_of(tmp_path) == {}


def test_two_bridges_on_one_port_are_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    code, said = refused(f"--data-dir={tmp_path}", f"--rest={address}", f"--admin={address}", "--grpc=", "--zmq=")
    assert code == 3
    assert said.startswith(f"error: admin: {address} is already in use")


def test_a_component_that_refuses_its_settings_ends_the_start_with_its_own_exit_code() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        control = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        stack = Stack(settings={"control": control}, **QUIET)
        try:
            stack.launch()
            wait_until(stack.ended, 20.0, stack.log)
            assert stack.exit_code == 3
            assert f"cannot listen on {control}" in stack.log()
            stack.assert_nothing_left()
        finally:
            stack.close()


def test_a_broken_models_file_is_refused_with_every_problem(tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("detector:\n  adress: image\n  batch_size: many\n")
    code, said = refused(f"--models={models}", f"--data-dir={tmp_path / 'data'}")
    assert code == 2
    assert said.splitlines() == [
        f"error: {models}:2: detector.adress: unknown key, did you mean address?",
        f'error: {models}:3: detector.batch_size: expected an integer of at least 1, found "many"',
    ]


def test_the_data_directory_of_a_running_stack_is_refused_and_free_again_after_it() -> None:
    with Stack(**QUIET) as stack:
        flags = [f"--data-dir={stack.data_dir}", "--rest=", "--grpc=", "--zmq=", "--admin="]
        assert stack.process is not None
        code, said = refused(*flags)
        assert code == 3
        assert said == (
            f"error: data directory {stack.data_dir} is in use by another stack (pid {stack.process.pid});"
            " choose another with --data-dir DIR\n"
        )
        assert stack.status()["components"]  # and the running one is not disturbed
        stack.stop()
        stack.launch()
        stack.wait_ready()


def test_two_stacks_run_side_by_side() -> None:
    with Stack("a: {address: x}", **QUIET) as one, Stack("b: {address: y}", **QUIET) as other:
        assert [m["name"] for m in one.status()["models"]] == ["a"]
        assert [m["name"] for m in other.status()["models"]] == ["b"]


def test_a_killed_component_is_back_within_seconds() -> None:
    with Stack() as stack:
        for component in COMPONENTS:
            old = stack.kill(component)
            new = stack.wait_back(component, old)
            assert new != old
            (row,) = stack.supervised(component)
            assert (row["restarts"], row["last_end"]) == (1, "SIGKILL")
        assert stack.log().count('"event": "process ended"') == len(COMPONENTS)


def test_status_shows_every_process_and_what_each_manager_reports() -> None:
    with Stack("a: {address: x}") as stack:
        wait_until(lambda: all(stack.is_ready(component) for component in COMPONENTS), 5.0)
        wait_until(lambda: {"batch_manager", "task_manager"} <= stack.status()["components"].keys(), 5.0)
        components = stack.status()["components"]
        assert [process["name"] for process in components["supervisor"]["processes"]] == list(COMPONENTS)
        assert components["batch_manager"]["pid"] == stack.pid_of("batch_manager")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything_in_order_and_quickly(number: int) -> None:
    with Stack(**QUIET) as stack:
        began = time.monotonic()
        assert stack.stop(number) == 0
        assert time.monotonic() - began < 5.0
        stack.assert_nothing_left()


def test_a_component_that_does_not_end_is_killed_after_ctrl_c_within_five_seconds() -> None:
    with Stack(**QUIET) as stack:
        stack.kill("task_manager", signal.SIGSTOP)
        began = time.monotonic()
        assert stack.stop(signal.SIGINT) == 0
        assert time.monotonic() - began < 5.0
        assert "killed, it did not end in time" in stack.log()


def test_a_second_ctrl_c_kills_at_once() -> None:
    with Stack(**QUIET) as stack:
        stack.expected_code = 130
        stack.kill("task_manager", signal.SIGSTOP)
        assert stack.process is not None
        stack.process.send_signal(signal.SIGTERM)
        wait_until(lambda: '"event": "draining"' in stack.log(), 5.0)
        began = time.monotonic()
        assert stack.stop(signal.SIGINT) == 130
        assert time.monotonic() - began < 1.0


def test_components_end_by_themselves_when_the_supervisor_is_killed() -> None:
    with Stack(**QUIET) as stack:
        assert stack.process is not None
        os.kill(stack.process.pid, signal.SIGKILL)
        wait_until(lambda: processes_of(stack.data_dir) == {}, 10.0, lambda: str(processes_of(stack.data_dir)))
        assert stack.stop() == -signal.SIGKILL
        # What the killed supervisor could not sweep up, the next one does.
        stack.launch()
        stack.wait_ready()


def test_the_ready_file_and_the_last_line_say_where_the_stack_is() -> None:
    with Stack("a: {address: x}", grpc="", zmq="") as stack:
        line = next(line for line in stack.log().splitlines() if line.startswith("ready: "))
        assert line == f"ready: rest {stack.rest_url} admin {stack.admin_url}"


def test_components_see_neither_the_callers_settings_nor_other_peoples_secrets(tmp_path: Path) -> None:
    environment = {"INFEROXY_DOCKER__PASSWORD": "hush", "INFEROXY_LOG_LEVEL": "debug"}
    with Stack(environment=environment, data_dir=tmp_path / "data", **QUIET) as stack:
        for pid in processes_of(stack.data_dir):
            assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()
        config = next((tmp_path / "data" / "run").glob("config.yaml"))
        assert config.stat().st_mode & 0o777 == 0o600
        assert "hush" in config.read_text()
