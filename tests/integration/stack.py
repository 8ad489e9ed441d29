"""A real stack for tests: `inferoxy up` as a subprocess on free ports and a fresh data directory.

Invariant: leaving the context asserts that the stack ended as told, and that no process, socket file or shared-memory
file of it is left.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from inferoxy.config import Settings
from inferoxy.supervisor import COMMANDS

READY_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02


class Stack:
    """A stack that runs while the context lasts.

    Args:
        models: Path of a models.yaml, or its text (artifacts in it must then be absolute); "" for none.
        launcher: "process" or "docker".
        data_dir: Kept afterwards when given, else a folder of its own that is removed.
        settings: Settings that have no flag, as of a settings file.
        environment: Variables added to the stack's.
        flags: Further flags of `inferoxy up`; an empty address leaves a bridge out.
    """

    def __init__(
        self,
        models: Path | str = "",
        *,
        launcher: str = "process",
        data_dir: Path | None = None,
        settings: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        **flags: str,
    ) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="ix-")
        folder = Path(self._own.name)
        self.data_dir = (data_dir or folder / "data").resolve()
        self.models = folder / "models.yaml"
        if isinstance(models, Path):
            self.models = models.resolve()
        else:
            self.models.write_text(models)
        config = folder / "settings.yaml"
        config.write_text(json.dumps(settings or {}))  # JSON is YAML too
        self._ready_file = folder / "ready"
        self._log_file = folder / "stack.log"
        addresses = {"rest": "127.0.0.1:0", "grpc": "127.0.0.1:0", "zmq": "tcp://127.0.0.1:0", "admin": "127.0.0.1:0"}
        given = addresses | {"launcher": launcher, "log_level": "info"} | flags
        self.command = [sys.executable, "-m", "inferoxy", "up", f"--config={config}", f"--models={self.models}"]
        self.command += [f"--data-dir={self.data_dir}", f"--ready-file={self._ready_file}"]
        self.command += [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("INFEROXY_")} | (environment or {})
        self._addresses: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None
        self.expected_code = 0

    @property
    def rest_url(self) -> str:
        """http://HOST:PORT of the REST bridge."""
        return self._addresses["rest"]

    @property
    def grpc_address(self) -> str:
        """HOST:PORT of the gRPC bridge."""
        return self._addresses["grpc"]

    @property
    def zmq_endpoint(self) -> str:
        """tcp://HOST:PORT of the ZeroMQ bridge."""
        return self._addresses["zmq"]

    @property
    def admin_url(self) -> str:
        """http://HOST:PORT of the admin API."""
        return self._addresses["admin"]

    def __enter__(self) -> "Stack":
        try:
            self.launch()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            print(self.log(), file=sys.stderr)
            self.close()
            return
        try:
            code = self.stop()
            assert code == self.expected_code, f"the stack ended with exit code {code}\n{self.log()}"
            self.assert_nothing_left()
        finally:
            self.close()

    def launch(self) -> None:
        """Start the process without waiting."""
        self._ready_file.unlink(missing_ok=True)
        with self._log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.exit_code = None

    def wait_ready(self) -> None:
        """Wait until every component does its work."""
        wait_until(lambda: self._ready_file.exists() or self.ended(), READY_TIMEOUT_S, self.log)
        assert self._ready_file.exists(), f"the stack ended with exit code {self.exit_code}\n{self.log()}"
        words = self._ready_file.read_text().split()
        assert words[0] == "ready:"
        self._addresses = dict(zip(words[1::2], words[2::2], strict=True))

    def ended(self) -> bool:
        """Whether the supervisor has ended; `exit_code` then says how."""
        if self.process is not None and self.process.poll() is not None:
            self.exit_code = self.process.returncode
        return self.exit_code is not None

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Signal the supervisor and wait for its end; the exit code."""
        if self.process is None:
            return 0
        if not self.ended():
            self.process.send_signal(number)
        self.exit_code = self.process.wait(timeout_s)
        return self.exit_code

    def log(self) -> str:
        """All that the stack has written."""
        return self._log_file.read_text(errors="replace")

    def pid_of(self, component: str) -> int:
        """The process of a component, such as "batch_manager" or "bridge_rest".

        Raises:
            LookupError: It does not run.
        """
        words = ["-m", "inferoxy", *COMMANDS[component], "--config"]
        for pid, command in processes_of(self.data_dir).items():
            if command[1 : 1 + len(words)] == words:
                return pid
        raise LookupError(f"{component} does not run")

    def kill(self, component: str, number: int = signal.SIGKILL) -> int:
        """Signal a component; the pid it had."""
        pid = self.pid_of(component)
        os.kill(pid, number)
        return pid

    def wait_back(self, component: str, old_pid: int, timeout_s: float = 10.0) -> int:
        """Wait until a component is ready under another pid than this; that pid."""

        wait_until(lambda: self.is_ready(component, old_pid), timeout_s, self.log)
        return self.pid_of(component)

    def is_ready(self, component: str, other_than: int = 0) -> bool:
        """Whether the supervisor reports a component as ready, under another pid than this."""
        return any(p["pid"] != other_than and p["state"] == "ready" for p in self.supervised(component))

    def supervised(self, component: str) -> list[dict[str, Any]]:
        """What the supervisor reported of a component last; nothing while the model manager is away."""
        try:
            found = self.status()
        except (httpx.HTTPError, KeyError):
            return []
        processes = found["components"].get("supervisor", {}).get("processes", [])
        return [process for process in processes if process["name"] == component]

    def status(self) -> dict[str, Any]:
        """GET /status of the admin API."""
        answer = httpx.get(f"{self.admin_url}/status", timeout=5.0, trust_env=False)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def assert_nothing_left(self) -> None:
        """No process, socket file or shared-memory file of this stack."""
        wait_until(lambda: not processes_of(self.data_dir), 2.0, lambda: f"left: {processes_of(self.data_dir)}")
        settings = Settings.model_construct(data_dir=self.data_dir)
        assert not settings.run_dir.exists(), f"left: {list(settings.run_dir.rglob('*'))}"
        left = list(Path("/dev/shm").glob(f"inferoxy-{settings.stack}*"))
        assert not left, f"left: {left}"

    def close(self) -> None:
        """End whatever still runs and remove the folder, without asserting anything; leaving the context does it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in processes_of(self.data_dir):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._own.cleanup()


def processes_of(data_dir: Path) -> dict[int, list[str]]:
    """The command lines, by pid, of processes that belong to the stack in this data directory (not the supervisor).

    Components name its settings file in their arguments, instances its socket in their environment.
    """
    run_dir = os.fsencode(Settings.model_construct(data_dir=data_dir).run_dir)
    found: dict[int, list[str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            told = command if b"--config" in command else (entry / "environ").read_bytes()
        except OSError:
            continue
        if run_dir + b"/" in told and int(entry.name) != os.getpid():
            found[int(entry.name)] = command.decode(errors="replace").split("\0")
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float, explain: Callable[[], str] = str) -> None:
    """Return as soon as the condition holds; fail with an explanation when it has not in time."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s} s\n{explain()}"
        time.sleep(POLL_S)
