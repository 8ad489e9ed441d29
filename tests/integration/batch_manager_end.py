"""The batch manager's end of the backend socket, played by a test, and real instances connected to it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import Any

import msgspec
import zmq

from inferoxy import messages as m
from inferoxy import sockets, wire
from tests.requests_for_models import Call, Given, make_batch, read_result

TIMEOUT_S = 30.0


class Instance:
    """One `python -m inferoxy.runtime`; its output is kept."""

    def __init__(self, endpoint: str, name: str, artifact: Path, **changes: Any) -> None:
        self.name = name.encode()
        fields: dict[str, Any] = {"runtime": "", "batch_size": 8, "threads": 2, "log_level": "info", **changes}
        config = m.InstanceConfig(
            instance=name, model="x", model_version="1", backend=endpoint, token="t", artifact=str(artifact), **fields
        )
        environment = {**os.environ, "INFEROXY_INSTANCE": msgspec.json.encode(config).decode()}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inferoxy.runtime"], env=environment, stdout=self._output, stderr=self._output
        )

    def output(self) -> str:
        """What the process has printed."""
        self._output.seek(0)
        return self._output.read().decode()

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """The exit code."""
        return self.process.wait(timeout_s)

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._output.close()


class BatchManagerEnd:
    """A ROUTER that speaks to instances; every wait is bounded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = sockets.context()
        self.endpoint = f"ipc://{folder}/backend.sock"
        self.socket = sockets.router(self._context, self.endpoint)
        self.instances: list[Instance] = []
        self._batches = 0

    def __enter__(self) -> "BatchManagerEnd":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        for instance in self.instances:
            instance.close()
        self._context.destroy(linger=0)

    def restart(self) -> None:
        """A new socket at the same address, as after a crash."""
        self.socket.close(0)
        Path(self.endpoint[6:]).unlink(missing_ok=True)
        self.socket = sockets.router(self._context, self.endpoint)

    def launch(self, artifact: Path | str, **changes: Any) -> Instance:
        """Start an instance; text is the code of its model.py."""
        name = f"i{len(self.instances)}"
        if isinstance(artifact, str):
            folder = self._folder / name
            folder.mkdir()
            (folder / "model.py").write_text(dedent(artifact))
            artifact = folder
        instance = Instance(self.endpoint, name, artifact, **changes)
        self.instances.append(instance)
        return instance

    def welcome(self, instance: Instance, **fields: Any) -> m.Hello:
        """Wait for the instance's HELLO and answer it."""
        hello, _ = self.expect(instance, m.Hello)
        self.send(instance, m.Welcome(epoch=1, **fields))
        return hello

    def send(self, instance: Instance, message: m.Header, frames: list[Any] | None = None) -> None:
        """One message to an instance."""
        self.send_raw(instance, wire.encode(message, frames or []))

    def send_raw(self, instance: Instance, frames: list[Any]) -> None:
        """Any frames to an instance."""
        assert sockets.send(self.socket, [instance.name, *frames])

    def receive(self, instance: Instance, timeout_s: float = TIMEOUT_S) -> tuple[Any, list[Any]]:
        """The next message from an instance.

        Raises:
            TimeoutError: None came; carries the instance's output.
        """
        if not self.socket.poll(timeout_s * 1e3, zmq.POLLIN):
            raise TimeoutError(f"nothing from {instance.name!r}; it said: {instance.output()}")
        frames = sockets.recv(self.socket)
        assert frames is not None
        assert frames[0] == instance.name
        ((message, tensors),) = wire.decode(frames[1:])
        return message, [bytes(sockets.buffer(frame)) for frame in tensors]

    def expect(self, instance: Instance, kind: type[m.Header], timeout_s: float = TIMEOUT_S) -> tuple[Any, list[Any]]:
        """The next message of a kind; others before it are dropped."""
        until = time.monotonic() + timeout_s
        while True:
            found = self.receive(instance, max(0.0, until - time.monotonic()))
            if isinstance(found[0], kind):
                return found

    def post(self, instance: Instance, *calls: Call) -> int:
        """Send a batch; returns its id."""
        self._batches += 1
        self.send(instance, *make_batch(self._batches, list(calls)))
        return self._batches

    def results(self, instance: Instance, batch: int) -> list[list[Given]]:
        """All answers to a batch by ticket, until it is done."""
        given: dict[int, list[Given]] = {}
        while True:
            result, frames = self.expect(instance, m.Result)
            assert result.batch == batch
            for answer in read_result(result, frames):
                given.setdefault(answer.ticket, []).append(answer)
            if result.done:
                return [given[ticket] for ticket in sorted(given)]

    def drain(self, instance: Instance, batches: list[int]) -> dict[int, list[Given]]:
        """All answers to these batches, whatever their order."""
        given: dict[int, list[Given]] = {batch: [] for batch in batches}
        done: set[int] = set()
        while done != set(batches):
            result, frames = self.expect(instance, m.Result)
            given[result.batch] += read_result(result, frames)
            done |= {result.batch} if result.done else set()
        return given

    def ask(self, instance: Instance, *calls: Call) -> list[list[Given]]:
        """Send a batch and wait for its answers."""
        return self.results(instance, self.post(instance, *calls))

    def stop(self, instance: Instance) -> None:
        """Let an instance go, and see it end in order."""
        self.send(instance, m.Stop())
        assert instance.wait() == 0, instance.output()
