"""Docker engines for drills: the machine's own, and a private one that may be restarted and killed.

Invariant: the machine's own engine is never ended or changed; the private one leaves no process, mount or file behind.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import docker

from task_manager.launchers.containers import LABEL
from tests.docker.engine.engine import EngineStatus, build_image, ensure_engine
from tests.drill.drill import Impossible
from tests.drill.stack import MODELS, DrillStack
from tests.integration.stack import wait_until

IMAGE = "inferoxy-drill/model:latest"
ROOT = Path(__file__).parents[2]
ANSWERS_S, ENDS_S = 60.0, 30.0
ZOMBIE_S, POLL_S = 1.0, 0.05
DRIVERS = ("overlay2", "overlay2", "vfs")  # each is tried once; a busy disk may make the first try too slow


class Engine:
    """An engine that answers. `base_url` is empty for the machine's own."""

    def __init__(self, base_url: str = "") -> None:
        self.base_url = base_url

    def settings(self) -> dict[str, Any]:
        """Settings of a stack whose instances run there."""
        return {"docker": {"base_url": self.base_url, "runtime_image": IMAGE, "pull": "never"}}

    def containers(self, stack: DrillStack) -> dict[str, int]:
        """Pids of the running containers of a stack, by container id."""
        label = f"{LABEL}stack={hashlib.sha256(str(stack.data_dir).encode()).hexdigest()[:16]}"
        client = docker.DockerClient(self.base_url) if self.base_url else docker.from_env()
        with contextlib.closing(client):
            found = client.containers.list(filters={"label": label}, ignore_removed=True)
            return {container.id: container.attrs["State"]["Pid"] for container in found}


def main_engine(say: Callable[[str], None]) -> Engine:
    """The machine's own engine, with the image of the runtime as it is in this checkout.

    Raises:
        Impossible: There is none.
    """
    say("making the runtime's image")
    why = _prepare()
    if why:
        raise Impossible(why)
    return Engine()


@functools.cache
def _prepare() -> str:
    state = ensure_engine()
    if state.status is not EngineStatus.READY:
        return f"there is no Docker engine: {state.reason}"
    build_image(IMAGE, ROOT / "deploy" / "Dockerfile.model", ROOT)
    return ""


@contextlib.contextmanager
def artifacts() -> Iterator[Path]:
    """The drills' models where a container's user may read them."""
    with tempfile.TemporaryDirectory(prefix="ix-models-") as name:
        folder = Path(name, "models")
        shutil.copytree(MODELS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield folder


class PrivateEngine(Engine):
    """A dockerd of our own while the context lasts, with the runtime's image and without a network.

    Raises:
        Impossible: It cannot be started here.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        if os.geteuid() != 0:
            raise Impossible(f"only root can start an engine (this is uid {os.geteuid()})")
        missing = [program for program in ("dockerd", "unshare") if shutil.which(program) is None]
        if missing:
            raise Impossible(f"there is no {missing[0]}")
        main_engine(say)
        self._say = say
        self._folder = Path(tempfile.mkdtemp(prefix="ix-engine-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._driver = DRIVERS[0]
        super().__init__(f"unix://{self._folder}/docker.sock")

    def __enter__(self) -> "PrivateEngine":
        try:
            self._start_with_some_driver()
            self._say("copying the image into the private engine")
            with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saving:
                subprocess.run(
                    ["docker", "--host", self.base_url, "load", "--quiet"],
                    stdin=saving.stdout,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self, *, keeps_containers: bool) -> None:
        """Start dockerd and wait until it answers.

        Args:
            keeps_containers: Whether containers go on while it is away (live-restore).
        """
        # In a network of its own: with --bridge=none dockerd deletes docker0, which may be the other engine's.
        command = [
            "unshare",
            "--net",
            "dockerd",
            f"--data-root={self._folder}/data",
            f"--exec-root={self._folder}/exec",
        ]
        command += [f"--pidfile={self._folder}/pid", f"--host={self.base_url}", "--bridge=none", "--iptables=false"]
        command += [f"--storage-driver={self._driver}", f"--live-restore={str(keeps_containers).lower()}"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self._answers() or self._has_ended(), ANSWERS_S, self.log)
        if self._has_ended():
            raise Impossible(f"dockerd does not start: {self.log()[-500:]}")

    def signal(self, number: int) -> float:
        """Signal dockerd and wait for its end; the instant of the signal."""
        at = time.monotonic()
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(ENDS_S)
        self._forget_zombie()
        return at

    def log(self) -> str:
        """What dockerd has written."""
        return (self._folder / "log").read_text(errors="replace")

    def close(self) -> None:
        """End everything of this engine and remove its files."""
        if self._process is not None and not self._has_ended():
            self._remove_containers()
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDS_S)
        self._kill_processes()
        for mount in reversed(self._mounts()):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_with_some_driver(self) -> None:
        for driver in DRIVERS:
            self._driver = driver
            try:
                self.start(keeps_containers=True)
                return
            except Impossible:
                self._kill_processes()
                if driver == DRIVERS[-1]:
                    raise

    def _forget_zombie(self) -> None:
        """Wait for a killed dockerd's containerd to be reaped: dockerd takes one for alive that init has not."""
        file = self._folder / "exec" / "containerd" / "containerd.pid"
        until = time.monotonic() + ZOMBIE_S
        while file.exists() and time.monotonic() < until:
            if not Path(f"/proc/{file.read_text().strip()}/exe").exists():
                file.unlink()
            time.sleep(POLL_S)

    def _kill_processes(self) -> None:
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self._processes(), ENDS_S)

    def _answers(self) -> bool:
        command = ["docker", "--host", self.base_url, "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _remove_containers(self) -> None:
        with contextlib.suppress(Exception), contextlib.closing(docker.DockerClient(self.base_url)) as client:
            for container in client.containers.list(all=True):
                container.remove(force=True)

    def _processes(self) -> list[int]:
        """Its dockerd, containerd and shims: all name the folder in their command lines."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = entry.read_bytes()
            except OSError:
                continue
            program = command.partition(b"\0")[0].rpartition(b"/")[2]
            if program.startswith((b"dockerd", b"containerd")) and os.fsencode(self._folder) in command:
                found.append(int(entry.parent.name))
        return found

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [line.split()[1] for line in lines if line.split()[1].startswith(str(self._folder))]
