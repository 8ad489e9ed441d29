"""A program on a terminal of its own, for what is shown only there, and for keys that a person presses."""

import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Sequence
from types import TracebackType

SIZE = (40, 160)  # rows, columns
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])")


class Terminal:
    """A program that runs on a terminal while the context lasts.

    Args:
        command: The program and its arguments.
        environment: All of its variables.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.shown = ""
        self._at = 0
        self._code: int | None = None
        self._pid, self._end = pty.fork()
        if self._pid == 0:
            try:
                os.execvpe(command[0], list(command), environment)
            finally:
                os._exit(127)
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._end)
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._end, text.encode())

    def wait_shown(self, text: str, timeout_s: float = 10.0) -> None:
        """Read until the text has been shown, behind that of the last call."""
        until = time.monotonic() + timeout_s
        while (found := self.shown.find(text, self._at)) < 0:
            assert time.monotonic() < until, f"expected {text!r} on the terminal, found {self.shown[self._at :]!r}"
            assert self._read(0.1), f"the program has ended without {text!r}: {self.shown[self._at :]!r}"
        self._at = found + len(text)

    def wait(self, timeout_s: float = 10.0) -> int:
        """Read until the program ends; its exit code."""
        until = time.monotonic() + timeout_s
        while self._read(0.1):
            assert time.monotonic() < until, f"not ended after {timeout_s} s: {self.plain()}"
        self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def plain(self) -> str:
        """What was shown, without colours and movements."""
        return _ESCAPES.sub("", self.shown).replace("\r\n", "\n")

    def _read(self, timeout_s: float) -> bool:
        """Take what is shown within this time; False when the program has closed the terminal."""
        if not select.select([self._end], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self._end, 65_536)
        except OSError as exc:
            if exc.errno == errno.EIO:  # how Linux says that nobody holds the other end
                return False
            raise
        self.shown += data.decode(errors="replace")
        return bool(data)
