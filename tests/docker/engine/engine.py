"""The Docker engine of the tests: make one answer, and build images with it.

The two scripts beside this file do the work on the machine; this module runs them once per process and holds the
policy for tests. Talking to containers is left to the tests themselves.
Invariant: nothing here ends or reconfigures an engine.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_SCRIPTS = ("ensure_engine.sh", "ensure_base_images.sh")
_SCRIPT_LIMIT_S = 1200.0
_BUILD_LIMIT_S = 1200.0
_TAIL_LINES = 40
_EXIT_IMPOSSIBLE = 3


class ImageBuildError(RuntimeError):
    """`docker build` failed; the message ends with its last output lines."""


class EngineStatus(Enum):
    READY = "ready"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True)
class EngineState:
    """What `ensure_engine` found. `reason` is empty when READY."""

    status: EngineStatus
    reason: str = ""


@functools.cache
def ensure_engine() -> EngineState:
    """Make a Docker engine and the base images available; once per process, later calls return the same state.

    The scripts' progress goes to stderr as it comes. From nothing this takes about a minute, on a machine that is
    set up less than a second; CI runs the scripts before pytest, so that no test's timeout pays for it.
    """
    for script in _SCRIPTS:
        exit_code, tail = _run([str(_HERE / script)], limit_s=_SCRIPT_LIMIT_S, echo=True)
        if exit_code == _EXIT_IMPOSSIBLE:
            return EngineState(EngineStatus.IMPOSSIBLE, tail[-1] if tail else f"{script} gave no reason")
        if exit_code != 0:
            return EngineState(EngineStatus.IMPOSSIBLE, "\n".join([f"{script} ended with {exit_code}:", *tail]))
    return EngineState(EngineStatus.READY)


def require_engine() -> None:
    """Call from a pytest fixture: without an engine, fail where CI=true and skip, saying why, elsewhere."""
    import pytest

    state = ensure_engine()
    if state.status is EngineStatus.READY:
        return
    message = f"needs Docker: {state.reason}"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def build_image(tag: str, dockerfile: Path, context: Path, build_args: Mapping[str, str] | None = None) -> str:
    """Build an image, layers cached by the engine, and return its id ("sha256:…").

    Without the buildx plugin this is the classic builder, which knows neither `RUN --mount`, `COPY --chmod` nor
    here-documents, sends the whole context (write a .dockerignore), and builds every stage of the file.

    Raises:
        ImageBuildError: The build failed; the message holds its last 40 lines.
    """
    with tempfile.TemporaryDirectory(prefix="inferoxy-build-") as folder:
        id_file = Path(folder, "image-id")
        command = ["docker", "build", "--tag", tag, "--file", str(dockerfile), "--iidfile", str(id_file)]
        for name, value in (build_args or {}).items():
            command += ["--build-arg", f"{name}={value}"]
        if _has_buildx():
            builder = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
        else:
            builder = {"DOCKER_BUILDKIT": "0"}
            command.append("--force-rm")  # or the container of a step that failed stays behind
        exit_code, tail = _run([*command, str(context)], limit_s=_BUILD_LIMIT_S, environment=builder)
        if exit_code != 0:
            raise ImageBuildError("\n".join([f"building {tag} from {dockerfile} ended with {exit_code}:", *tail]))
        return id_file.read_text().strip()


@functools.cache
def _has_buildx() -> bool:
    asked = subprocess.run(["docker", "buildx", "version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return asked.returncode == 0


def _run(
    command: list[str], *, limit_s: float, echo: bool = False, environment: Mapping[str, str] | None = None
) -> tuple[int, list[str]]:
    """Run a command to its end, or past `limit_s` end it with all its children; its exit status and last lines.

    An engine that the command started in a session of its own lives on.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    except OSError as exc:
        return 127, [f"{command[0]}: {exc.strerror}"]
    assert process.stdout is not None
    timer = threading.Timer(limit_s, _stop_session, (process,))
    timer.start()
    try:
        for line in process.stdout:
            tail.append(line.rstrip())
            if echo:
                print(tail[-1], file=sys.stderr, flush=True)
    except BaseException:
        _stop_session(process)
        raise
    finally:
        process.wait()
        timer.cancel()
        process.stdout.close()
    return process.returncode, list(tail)


def _stop_session(process: subprocess.Popen[str]) -> None:
    # poll() first: once the leader is reaped its number may belong to another process.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
