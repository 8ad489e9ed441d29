"""Call functions of a client script that runs in the foreign clients' environment.

Invariant: a script that hangs or dies fails the test that called it, not the ones after it.
"""

import json
import os
import queue
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

ENVIRONMENT = Path(__file__).parents[2] / ".venv" / "compat"
SCRIPTS = Path(__file__).parent / "clients"
ANSWER_S = 60.0


class Raised(Exception):
    """What the client raised, as its library tells it.

    Attributes:
        kind: The name of its class.
        message: The server's text.
        status: As the library gives it, such as "404" or "StatusCode.NOT_FOUND".
    """

    def __init__(self, kind: str, message: str, status: str) -> None:
        super().__init__(f"{kind} [{status}] {message}")
        self.kind, self.message, self.status = kind, message, status


class Caller:
    """A client script that waits for calls, started with the first one.

    Args:
        script: Its file name.
        arguments: Of its command line.
        environment: The virtual environment it runs in.

    Attributes:
        is_grpc: Whether the client speaks gRPC, by the first argument.
    """

    def __init__(self, script: str, *arguments: str, environment: Path = ENVIRONMENT) -> None:
        self._arguments, self._environment = (script, *arguments), environment
        self._command = [str(environment / "bin" / "python"), "-W", "ignore", str(SCRIPTS / script), *arguments]
        self.is_grpc = "grpc" in arguments[0]
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> "Caller":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def another(self) -> "Caller":
        """A second process of the same script, for calls at the same time."""
        return Caller(*self._arguments, environment=self._environment)

    def call(self, function: str, **arguments: Any) -> Any:
        """What the function gives.

        Raises:
            Raised: It raised.
            AssertionError: There is no answer.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps({"call": function, "with": arguments}) + "\n")
        process.stdin.flush()
        try:
            line = self._lines.get(timeout=ANSWER_S)
        except queue.Empty:
            line = ""
        if not line:
            self._end()
            raise AssertionError(f"{self._command[3]} has not answered {function}({arguments}); its log is above")
        answer = json.loads(line)
        if "raised" in answer:
            raise Raised(answer["raised"], answer["message"], answer["status"])
        return answer["gave"]

    def attempt(self, function: str, **arguments: Any) -> Any:
        """The same, but what it raised is given instead."""
        try:
            return self.call(function, **arguments)
        except Raised as exc:
            return exc

    def _start(self) -> "subprocess.Popen[str]":
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._lines = queue.Queue()
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put("")
