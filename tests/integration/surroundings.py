"""What a task manager and its instances talk to, played by a test: batch manager and model manager, every wait bounded.

Sockets are real; `turn` reads them, does what the real ones would do at once, and keeps the rest for the test to see.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
import zmq

from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.config import Settings, complete
from inferoxy.messages import ModelSpec

TIMEOUT_S = 20.0
LOADS_PERIOD_S = 0.2  # the real one tells every second, and at once when something has changed
ECHO = """
from inferoxy.runtime import Model


class Echo(Model):
    inputs = {"X": ("FP32", [-1, 2])}
    outputs = {"Y": ("FP32", [-1, 2])}

    def infer(self, inputs):
        return {"Y": inputs["X"]}
"""


def model_folder(folder: Path, code: str = ECHO) -> Path:
    """A folder with this model.py."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(code)
    return folder


class Surroundings:
    """The other ends of a task manager's links in one data directory."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.settings: Settings = complete(
            Settings(**{"data_dir": data_dir, "arena_dir": data_dir / "arena"} | settings)
        )
        self.epoch = 1
        self.specs: list[ModelSpec] = []
        self.queued: dict[str, int] = {}
        self.hellos: dict[str, m.Hello] = {}  # connected instances, in the order of their first HELLO
        self.greeted_at: dict[str, float] = {}
        self.drained: list[str] = []
        self.conditions: dict[str, m.Condition] = {}
        self.told: list[m.Condition] = []
        self.report: dict[str, Any] = {}
        self.is_holding = False  # instances that want to leave are not let go
        self.on_result: Callable[[m.Result, list[bytes]], None] = lambda result, tensors: None
        self._revision = 0
        self._peers: dict[str, bytes] = {}
        self._told_at = 0.0
        self._context = sockets.context()
        self._open()

    def __enter__(self) -> "Surroundings":
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        self._context.destroy(linger=0)

    def close(self) -> None:
        """Both managers are gone."""
        for sock in self._sockets:
            sock.close(0)

    def restart(self) -> None:
        """Both managers are back under the same addresses, and have forgotten everything."""
        self.epoch += 1
        self.hellos.clear()
        self.conditions.clear()
        self._peers.clear()
        self._open()

    def register(self, *specs: ModelSpec) -> None:
        """These are the models from now on."""
        self.specs = list(specs)
        self._revision += 1
        if "registry" in self._peers:
            self._send(self.registry, "registry", self._catalog())

    def ask_for(self, model: str, queued: int = 1) -> None:
        """So many requests wait for a model now."""
        self.queued[model] = queued
        self.tell_loads()

    def command(self, action: Any, model: str) -> None:
        """A person's command."""
        self._send(self.registry, "registry", m.Command(action=action, model=model))

    def until(self, condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
        """Serve until the condition holds; its value."""
        end = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < end, f"not within {timeout_s} s; conditions {self.conditions}; {self.report}"
            self.turn()
        return found

    def instance(self, model: str = "echo", other_than: Sequence[str] = ()) -> str:
        """Serve until an instance of this model is connected; its name."""
        found: str = self.until(
            lambda: next((n for n, h in self.hellos.items() if h.model == model and n not in other_than), "")
        )
        return found

    def row(self, instance: str) -> dict[str, Any]:
        """What the task manager reports of an instance; nothing when it does not."""
        return next((row for row in self.report.get("instances", []) if row["id"] == instance), {})

    def turn(self, wait_ms: int = 20) -> None:
        """Read what is there."""
        if time.monotonic() - self._told_at >= LOADS_PERIOD_S:
            self.tell_loads()
        for sock, _ in self._poller.poll(wait_ms):
            while (frames := sockets.recv(sock)) is not None:
                for header, tensors in wire.decode(frames[1:]):
                    self._handle(bytes(frames[0]), header, tensors)

    def tell_loads(self) -> None:
        """As the batch manager does: queues and connected instances."""
        self._told_at = time.monotonic()
        loads = [
            m.ModelLoad(spec.name, spec.version, self.queued.get(spec.name, 0), 0.0, 0, 0.0, 0.0, 0.0)
            for spec in self.specs
        ]
        connected = [
            m.ConnectedInstance(name, hello.model, hello.model_version, 0, name in self.drained, 0.0, 0, 0)
            for name, hello in self.hellos.items()
        ]
        self._send(self.control, "control", m.Loads(epoch=self.epoch, loads=loads, instances=connected))

    def _handle(self, peer: bytes, header: Any, tensors: Sequence[Any]) -> None:
        now = time.monotonic()
        match header:
            case m.Attach():
                if "control" not in self._peers:
                    self._peers["control"] = peer
                    self.tell_loads()
            case m.Subscribe():
                self._peers["registry"] = peer
                if header.revision != str(self._revision):
                    self._send(self.registry, "registry", self._catalog())
            case m.Report():
                self.report = header.report
            case m.Condition():
                self.conditions[header.model] = header
                self.told.append(header)
            case m.Drain():
                self.drained.append(header.instance)
                self._release(header.instance)
            case m.Hello():
                assert header.token == wire.instance_token(
                    self.settings.secret, header.instance, header.model, header.model_version
                )
                self.hellos[header.instance] = header
                self.greeted_at.setdefault(header.instance, now)
                self.queued.pop(header.model, None)
                sockets.send(self.backend, [peer, *wire.encode(m.Welcome(epoch=self.epoch))])
                self.tell_loads()
            case m.Heartbeat():
                if peer.decode() in self.hellos:
                    sockets.send(self.backend, [peer, *wire.encode(m.Heartbeat(epoch=self.epoch))])
                else:
                    sockets.send(self.backend, [peer, *wire.encode(m.Who(epoch=self.epoch))])
            case m.Result():
                self.on_result(header, [bytes(sockets.buffer(frame)) for frame in tensors])
            case m.Stop():
                self._release(peer.decode())

    def _release(self, instance: str) -> None:
        if not self.is_holding and self.hellos.pop(instance, None) is not None:
            sockets.send(self.backend, [instance.encode(), *wire.encode(m.Stop())])
            self.tell_loads()

    def _catalog(self) -> m.Catalog:
        return m.Catalog(revision=str(self._revision), models=self.specs)

    def _send(self, sock: zmq.Socket[bytes], link: str, header: m.Header) -> None:
        if link in self._peers:
            sockets.send(sock, [self._peers[link], *wire.encode(header)])

    def _open(self) -> None:
        folder = Path(self.settings.backend.removeprefix("ipc://")).parent
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        self.backend = sockets.router(self._context, self.settings.backend, mode=0o666)
        self.control = sockets.router(self._context, self.settings.control)
        self.registry = sockets.router(self._context, self.settings.registry)
        self._sockets = (self.backend, self.control, self.registry)
        self._poller = zmq.Poller()
        for sock in self._sockets:
            self._poller.register(sock, zmq.POLLIN)


class TaskManager:
    """A task manager as a process of its own in the same data directory; leaving the context ends it."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        data_dir = surroundings.settings.data_dir
        config = data_dir / "settings.yaml"
        config.write_text(yaml.safe_dump(surroundings.settings.model_dump(mode="json")))
        self._log = data_dir / "task_manager.log"
        code = (
            "import sys; from pathlib import Path; from inferoxy.config import load; "
            "from task_manager.server import run; sys.exit(run(load(Path(sys.argv[1]))))"
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith("INFEROXY_")}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, str(config)], env=environment, stdout=log, stderr=log
            )

    def __enter__(self) -> "TaskManager":
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            print(self.log(), file=sys.stderr)
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                self._surroundings.until(lambda: self.process.poll() is not None)
        finally:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
