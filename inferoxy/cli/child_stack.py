"""A stack as a child process, with its output in a file: started, waited for, ended.

Invariant: the stack ends when this process does, however that happens (lifecycle.py's pipe).
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from inferoxy.errors import InferoxyError
from inferoxy.lifecycle import SUPERVISOR_FD

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0  # after Ctrl-C; the stack itself needs less
POLL_S = 0.05
TAIL_LINES = 20


class StackFailed(InferoxyError):
    """The stack could not be started, or has ended by itself. `exit_code` is its own."""

    exit_code = 1


class ChildStack:
    """`inferoxy up` as a child.

    Args:
        flags: Of `inferoxy up`.
        log: File that gets what the stack writes; the old one is replaced.
    """

    def __init__(self, flags: Sequence[str], log: Path) -> None:
        self.log = log
        self.addresses: dict[str, str] = {}
        log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        # The log is for people: plain lines, unless the caller has chosen.
        env = {"INFEROXY_LOG_FORMAT": "console", "NO_COLOR": "1", **os.environ, SUPERVISOR_FD: str(theirs.fileno())}
        with theirs, log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inferoxy", "up", *flags],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._channel = ours
        self._channel.settimeout(POLL_S)

    def __enter__(self) -> "ChildStack":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
        self._channel.close()

    @property
    def pid(self) -> int:
        """Of its supervisor."""
        return self._process.pid

    def wait_ready(self, tick: Callable[[], None]) -> None:
        """Wait until the stack can be used; `addresses` then says where: rest, grpc, zmq, admin.

        Args:
            tick: Called about every POLL_S seconds.

        Raises:
            StackFailed: It ended instead, or took longer than START_TIMEOUT_S.
        """
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            tick()
            try:
                said = self._channel.recv(64)
            except TimeoutError:
                continue
            except OSError:
                said = b""
            if said:
                self._read_addresses()
                return
            self._process.wait()
            self.check()
        raise StackFailed(f"the stack was not ready within {START_TIMEOUT_S:.0f} s\n{self.tail()}")

    def check(self) -> None:
        """Raise StackFailed if the stack has ended."""
        code = self._process.poll()
        if code is None:
            return
        failure = StackFailed(self._last_error() or f"the stack ended with exit code {code}\n{self.tail()}")
        failure.exit_code = code if code > 0 else 1
        raise failure

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"  the end of {self.log}:", *(f"  {line}" for line in lines)])

    def end(self) -> None:
        """End the stack as Ctrl-C would; kill it when that takes too long."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read_addresses(self) -> None:
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("ready: "):
                words = line.split()[1:]
                self.addresses = dict(zip(words[::2], words[1::2], strict=True))

    def _last_error(self) -> str:
        """What the stack said in plain words before it logged anything."""
        lines = self.log.read_text(errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return "\n".join(errors) if len(errors) == len(lines) else ""
