"""Drills in which a file system is full: the data directory's, and that of shared memory."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.drill.drill import Impossible, Run
from tests.drill.flows import Flow
from tests.drill.load import Load, mixed
from tests.drill.records import refusals
from tests.drill.stack import DOUBLE, DrillStack, models_yaml
from tests.integration.stack import wait_until

DISK_MIB, SHARED_MIB = 32, 96
MEBIBYTE = bytes(1 << 20)
HUGE = 1 << 18  # elements: 1 MiB
BACK_S = 40.0


def disk(run: Run) -> None:
    """The data directory's disk is full, and any component dies meanwhile: no client notices."""
    with _tmpfs(DISK_MIB) as mount:
        models = models_yaml(double={"options": {"service_ms": 5}})
        with run.stack(models, data_dir=mount / "data") as stack, Load(stack, mixed()) as load:
            load.wait_right(20)
            with _filled(mount):
                run.say("disk full")
                load.wait_right(60, BACK_S)
                run.pause(1.0)
            for component in ("batch_manager", "bridge_zmq", "model_manager", "task_manager"):
                old = stack.pid_of(component)
                with _filled(mount):
                    run.say(f"disk full, {component} killed")
                    stack.signal(component, signal.SIGKILL)
                    _wait_runs(stack, component, old)
                    load.wait_right(60, BACK_S)
                    run.pause(1.0)
                stack.wait_back(component, old, BACK_S)
            outcomes = load.stop()
        run.take(outcomes)


def disk_and_instance(run: Run) -> None:
    """An instance dies while the disk is full: clear errors at the worst, and all is well once it has room."""
    with _tmpfs(DISK_MIB) as mount:
        models = models_yaml(double={"options": {"service_ms": 5}})
        with run.stack(models, data_dir=mount / "data") as stack, Load(stack, mixed(rate=100.0)) as load:
            load.wait_right(20)
            since = time.monotonic()
            with _filled(mount):
                answer = _register(stack, "another")
                run.check(
                    answer.status_code in (200, 503, 507), f"registering: found {answer.status_code} {answer.text}"
                )
                at = time.monotonic()
                for pid in stack.instances("double").values():
                    os.kill(pid, signal.SIGKILL)
                time.sleep(3.0)
            freed = time.monotonic()
            load.wait_right(60, BACK_S)
            run.pause(1.0)
            outcomes = load.stop()
            run.check(_register(stack, "another").is_success, "a model cannot be registered once the disk has room")
        refused = [outcome for outcome in outcomes if outcome.code == "MODEL_UNAVAILABLE"]
        clear = [outcome for outcome in refused if "No space left on device" in outcome.why]
        run.check(len(clear) == len(refused), f"expected the reason in words, found {[o.why for o in refused[:1]]}")
        run.take(outcomes, refusals("MODEL_UNAVAILABLE"))
        run.recovered("disk full and instance killed", outcomes, at, since)
        run.recovered("the same, from when the disk had room", outcomes, freed, since)


def shared_memory(run: Run) -> None:
    """Shared memory is full at the start, or becomes full: large tensors travel in frames, slower, never wrong."""
    large = [Flow(f"{p} huge", p, rate=6.0, elements=HUGE) for p in ("http", "zmq", "grpc")]
    with _tmpfs(SHARED_MIB) as mount:
        models = models_yaml(double={"options": {"service_ms": 5}})
        with contextlib.ExitStack() as full:
            full.enter_context(_filled(mount))
            stack = full.enter_context(run.stack(models, settings={"arena_dir": str(mount / "arena")}))
            with Load(stack, mixed(rate=100.0) + large) as load:
                load.wait_right(20)
                for _ in range(run.few(3, 1)):
                    run.say("shared memory is full")
                    run.pause(2.0)
                    _empty(mount)
                    run.say("there is room again")
                    run.pause(2.0)
                    run.check(_used(mount) > 0, "shared memory is not used though there is room")
                    _fill(mount)
                    os.kill(next(iter(stack.instances("double").values())), signal.SIGKILL)
                    load.wait_right(30, BACK_S)
                outcomes = load.stop()
            stack.stop()
            _empty(mount)
            left = [path for path in (mount / "arena").rglob("*") if path.is_file()]
            run.check(not left, f"shared memory is left: {left}")
        run.take(outcomes)


@contextlib.contextmanager
def _tmpfs(size_mib: int) -> Iterator[Path]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        raise Impossible(f"only root can mount a small file system (this is uid {os.geteuid()})")
    with tempfile.TemporaryDirectory(prefix="ix-full-") as name:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", name],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Impossible(f"mount: {done.stderr.strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=False)


@contextlib.contextmanager
def _filled(mount: Path) -> Iterator[None]:
    _fill(mount)
    try:
        yield
    finally:
        _empty(mount)


def _fill(mount: Path) -> None:
    """Write until not a byte more fits."""
    with (mount / "filler").open("ab", buffering=0) as file:
        for piece in (MEBIBYTE, MEBIBYTE[:4096], b"x"):
            try:
                while file.write(piece):
                    pass
            except OSError:
                continue


def _empty(mount: Path) -> None:
    (mount / "filler").unlink(missing_ok=True)


def _used(mount: Path) -> int:
    return sum(path.stat().st_blocks for path in (mount / "arena").rglob("*") if path.is_file())


def _wait_runs(stack: DrillStack, component: str, old: int) -> None:
    def runs() -> bool:
        try:
            return stack.pid_of(component) != old
        except LookupError:
            return False

    wait_until(runs, BACK_S, stack.log)


def _register(stack: DrillStack, name: str) -> httpx.Response:
    model = {"name": name, "artifact": str(DOUBLE), "runtime": "python"}
    return httpx.post(f"{stack.admin_url}/models", json=model, timeout=20.0, trust_env=False)
