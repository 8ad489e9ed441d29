"""Start one bridge as its own process, as the supervisor does, and end it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from inferoxy.lifecycle import SUPERVISOR_FD

_MODULES = {"rest": "bridges.rest.server", "grpc": "bridges.grpc.server", "zmq": "bridges.zmq.server"}
_START = """
import sys
from pathlib import Path
from inferoxy import config
from {module} import run
sys.exit(run(config.load(Path({file!r}))))
"""
START_S = 20.0


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Bridge:
    """A running bridge; `address` is HOST:PORT. Ending it checks that it ends in order."""

    def __init__(self, kind: str, frontend: str, *, port: int = 0, **settings: Any) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        where = f"tcp://{self.address}" if kind == "zmq" else self.address
        content = {kind: where, "frontend": frontend, "data_dir": self.folder.name, "drain_s": 3.0, **settings}
        file = Path(self.folder.name) / "config.yaml"
        file.write_text(yaml.safe_dump(content))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [sys.executable, "-W", "error::ResourceWarning", "-c"]
            self.process = subprocess.Popen(
                [*command, _START.format(module=_MODULES[kind], file=str(file))],
                env={**os.environ, SUPERVISOR_FD: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
            )
            theirs.close()
            ours.settimeout(START_S)
            self.is_ready = ours.recv(16) == b"READY\n"
            self._supervisor = ours.dup()

    def __enter__(self) -> "Bridge":
        assert self.is_ready, self.end()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        code, log = self.end()
        assert kind is not None or code == 0, f"exit code {code}\n{log}"

    def leave(self) -> None:
        """Be a supervisor that was killed."""
        self._supervisor.close()

    def end(self) -> tuple[int, str]:
        """SIGTERM, then its exit code and log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=15)
        self._supervisor.close()
        self.folder.cleanup()
        return self.process.returncode, log.decode()
