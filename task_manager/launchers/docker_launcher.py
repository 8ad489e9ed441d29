"""Instances as Docker containers; the only module that imports docker.

A container gets its backend's socket folder and its model's folder (both read-only), its own model's shared memory and
nothing else of the host: no network while the backend is a unix socket, no capabilities, a read-only root, another user
than root, bounded memory, processes and logs. What belongs to a stack is known by its labels, which is all that a
restarted task manager needs.
Invariant: a container that has ended is removed, after the end of its log was read.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import msgspec
import requests
from docker import auth, errors, types

from inferoxy.arena import model_folder
from inferoxy.config import Settings
from inferoxy.errors import ModelUnavailable
from inferoxy.logs import get
from inferoxy.messages import InstanceConfig
from task_manager.launchers.base import (
    TAIL_LINES,
    Exit,
    Launcher,
    LaunchRequest,
    Running,
    environment_of,
    launched,
    readable_tail,
)
from task_manager.launchers.containers import LABEL, arena_identity, end_of, labels_of, running_of, where_of
from task_manager.launchers.host_paths import on_host, own_container_id

POLL_S = 0.5
ENGINE_TIMEOUT_S = 60
TMPFS = "rw,nosuid,nodev,size=256m"
LOG_OPTIONS = {"max-size": "10m", "max-file": "2"}
BACKEND_FOLDER = "/run/inferoxy"
FOLDER_ARTIFACT = "/app"
FILE_ARTIFACT = "/model"
ARENA_FOLDER = "/run/inferoxy-arena"
RUNTIME_HINT = " (deploy/Dockerfile.model makes it)"

log = get()


class DockerLauncher(Launcher):
    """Starts instances as containers of one engine, which may be away when this is made.

    Args:
        settings: Complete settings of the stack.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._docker = settings.docker
        self._address = settings.docker.base_url or os.environ.get("DOCKER_HOST", "")
        self._containers: dict[str, str] = {}  # instance -> container id
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._client: docker.DockerClient | None = None
        self._mounts: list[dict[str, Any]] | None = None
        self.stack = ""  # the label's value; known once the engine has answered

    def launch(self, request: LaunchRequest) -> Running:
        """Pull the image if needed, make a container and start it; see Launcher."""
        image = request.spec.address or self._docker.runtime_image
        with self._engine(f"model {request.spec.name!r}") as api:
            self._provide(api, image, request.spec.name)
            config, mounts = self._inside(request)
            if self._abandoned.is_set():
                raise ModelUnavailable(f"model {request.spec.name!r}: the task manager is ending")
            made = api.create_container(
                image,
                name=f"inferoxy-{self.stack[:6]}-{request.instance}",
                user=self._docker.user,
                environment={"HOME": "/tmp"} | environment_of(request, config),
                labels=labels_of(request, self.stack, self._settings.arena_root if config.arena else None),
                host_config=self._host_config(api, request, mounts),
                use_config_proxy=False,
            )
            container = str(made["Id"])
            try:
                api.start(container)
            except BaseException:
                _remove(api, container)
                raise
            with self._lock:
                self._containers[request.instance] = container
        return launched(request, where_of(container), time.time())

    def stop(self, instance: str, grace_s: float) -> None:
        """The image's stop signal, and SIGKILL after `grace_s`; see Launcher."""
        self._end(instance, lambda api, container: api.stop(container, timeout=max(0, round(grace_s))))

    def kill(self, instance: str) -> None:
        """SIGKILL; see Launcher."""
        self._end(instance, lambda api, container: api.kill(container))

    def adopt(self) -> list[Running]:
        """Running containers with this stack's label; the others that have it are removed. See Launcher."""
        found: list[Running] = []
        with self._engine("adopting containers") as api:
            for listed in self._listed(api):
                running = running_of(listed)
                if running is None or not self._is_usable(listed):
                    log.info("removing a container that an earlier run left", container=listed["Id"][:12])
                    _remove(api, listed["Id"])
                    continue
                with self._lock:
                    self._containers[running.instance] = listed["Id"]
                found.append(running)
        return found

    def exits(self, timeout_s: float) -> list[Exit]:
        """Ask the engine every POLL_S; see Launcher."""
        until = time.monotonic() + timeout_s
        while True:
            ended = self._collect()
            if ended or self._closing.is_set() or time.monotonic() >= until:
                return ended
            self._closing.wait(min(POLL_S, max(0.0, until - time.monotonic())))

    def log_tail(self, instance: str, lines: int = TAIL_LINES) -> list[str]:
        """What the engine keeps of its output; see Launcher."""
        with self._lock:
            container = self._containers.get(instance)
        if container is None:
            return []
        with self._engine(f"log of {instance}") as api:
            return _tail(api, container, lines)

    def abandon(self) -> None:
        """Make no more containers; see Launcher."""
        self._abandoned.set()

    def close(self) -> None:
        """Give up pulls and waits; see Launcher."""
        self._abandoned.set()
        self._closing.set()
        with self._connecting:
            if self._client is not None:
                self._client.close()

    # The engine

    @contextmanager
    def _engine(self, doing: str) -> Iterator[docker.APIClient]:
        """The engine's client; whatever goes wrong with it becomes ModelUnavailable, beginning with `doing`."""
        try:
            yield self._connected().api
        except errors.ImageNotFound as exc:
            raise ModelUnavailable(f"{doing}: {exc.explanation}") from exc
        except errors.APIError as exc:
            raise ModelUnavailable(f"{doing}: the Docker engine refused: {exc.explanation or exc}") from exc
        except (errors.DockerException, requests.RequestException, OSError) as exc:
            where = self._address or "its usual address"
            raise ModelUnavailable(f"{doing}: the Docker engine at {where} does not answer: {exc}") from exc

    def _connected(self) -> docker.DockerClient:
        with self._connecting:
            if self._client is None:
                if self._address.startswith("unix://"):
                    with socket.socket(socket.AF_UNIX) as probe:  # a plainer error than the package's, and no leak
                        probe.connect(self._address.removeprefix("unix://"))
                if self._docker.base_url:
                    client = docker.DockerClient(self._docker.base_url, timeout=ENGINE_TIMEOUT_S, max_pool_size=32)
                else:
                    client = docker.from_env(timeout=ENGINE_TIMEOUT_S, max_pool_size=32)
                own = own_container_id(Path("/proc/self/mountinfo").read_text())
                self._mounts = client.api.inspect_container(own)["Mounts"] if own else None
                # The folder as the host knows it: two stacks in containers may both call theirs /data.
                data_dir = on_host(self._settings.data_dir, self._mounts)
                self.stack = hashlib.sha256(data_dir.encode()).hexdigest()[:16]
                self._client = client
            return self._client

    def _listed(self, api: docker.APIClient) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = api.containers(all=True, filters={"label": f"{LABEL}stack={self.stack}"})
        return listed

    # Images

    def _provide(self, api: docker.APIClient, image: str, model: str) -> None:
        """Have the image on the engine, as the pull policy says."""
        policy = self._docker.pull
        if policy != "always" and _has_image(api, image):
            return
        hint = RUNTIME_HINT if image == self._docker.runtime_image else ""
        if policy == "never":
            raise ModelUnavailable(
                f"model {model!r}: image {image} is not on the engine, and docker.pull is never{hint}"
            )
        try:
            registry, _ = auth.resolve_repository_name(image)
        except errors.InvalidRepository as exc:
            raise ModelUnavailable(f"model {model!r}: image {image}: {exc}") from exc
        log.info("pulling an image", image=image, model=model)
        # The password is for its own registry alone; for others the engine's user may have logged in.
        is_private = self._docker.login and registry == _host_of(self._docker.registry)
        login = {"username": self._docker.login, "password": self._docker.password} if is_private else None
        absent = f"model {model!r}: image {image} is not on the engine, and registry {registry} does not deliver it"
        try:
            for line in api.pull(image, stream=True, decode=True, auth_config=login):
                if self._abandoned.is_set():
                    break
                if "error" in line:
                    raise ModelUnavailable(f"{absent}: {line['error']}{hint}")
        except errors.APIError as exc:
            raise ModelUnavailable(f"{absent}: {exc.explanation or exc}{hint}") from exc

    # Containers

    def _inside(self, request: LaunchRequest) -> tuple[InstanceConfig, list[types.Mount]]:
        """What the instance is told, with paths as it sees them, and what must be mounted for that."""
        changes: dict[str, str] = {}
        mounts: list[types.Mount] = []
        backend = request.config.backend
        if backend.startswith("ipc://"):
            path = Path(backend.removeprefix("ipc://"))
            # The folder: a socket file that was mounted itself would stay the old one when the batch manager restarts.
            mounts.append(self._mount(path.parent, BACKEND_FOLDER))
            changes["backend"] = f"ipc://{BACKEND_FOLDER}/{path.name}"
        elif self._docker.network == "none":
            raise ModelUnavailable(
                f"model {request.spec.name!r}: its container could not reach the backend {backend}: expected a network "
                "in the setting docker.network, found none"
            )
        if request.spec.address:
            changes["artifact"] = FOLDER_ARTIFACT
        else:
            artifact = Path(request.config.artifact)
            is_folder = artifact.is_dir()
            target = FOLDER_ARTIFACT if is_folder else FILE_ARTIFACT
            mounts.append(self._mount(artifact if is_folder else artifact.parent, target))
            changes["artifact"] = target if is_folder else f"{target}/{artifact.name}"
        changes["arena"] = self._share_arena(request, mounts)
        return msgspec.structs.replace(request.config, **changes), mounts

    def _share_arena(self, request: LaunchRequest, mounts: list[types.Mount]) -> str:
        """Mount the model's own part of the arena, and no other's; where the container sees it, or "" if it cannot."""
        if not request.config.arena:
            return ""
        folder = model_folder(Path(request.config.arena), request.spec.name)
        try:
            source = on_host(folder, self._mounts)
        except ModelUnavailable:
            return ""  # the bridges' shared memory is not this container's: tensors travel in frames
        folder.mkdir(parents=True, exist_ok=True)
        mounts.append(types.Mount(f"{ARENA_FOLDER}/{folder.name}", source, type="bind"))
        return ARENA_FOLDER

    def _mount(self, source: Path, target: str) -> types.Mount:
        return types.Mount(target, on_host(source, self._mounts), type="bind", read_only=True)

    def _is_usable(self, listed: Mapping[str, Any]) -> bool:
        """It runs, and what it has mounted is still what it was: the arena may have been swept away meanwhile."""
        shared = listed["Labels"].get(f"{LABEL}arena", "")
        arena = self._settings.arena_root
        is_cut_off = bool(shared) and shared != arena_identity(arena, listed["Labels"][f"{LABEL}model"])
        return listed["State"] in ("running", "paused") and not is_cut_off

    def _host_config(self, api: docker.APIClient, request: LaunchRequest, mounts: list[types.Mount]) -> dict[str, Any]:
        memory_bytes = request.spec.memory_mib << 20
        gpus = [types.DeviceRequest(driver="nvidia", device_ids=[request.gpu], capabilities=[["gpu"]])]
        made: dict[str, Any] = api.create_host_config(
            network_mode=self._docker.network,
            read_only=True,
            tmpfs={"/tmp": TMPFS},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            mem_limit=memory_bytes,
            memswap_limit=memory_bytes,
            nano_cpus=round(request.spec.cpus * 1e9) or None,
            pids_limit=self._docker.pids_limit,
            mounts=mounts,
            device_requests=gpus if request.gpu else None,
            log_config=types.LogConfig(type=types.LogConfig.types.JSON, config=LOG_OPTIONS),
        )
        return made

    def _end(self, instance: str, how: Any) -> None:
        with self._lock:
            container = self._containers.get(instance)
        if container is None:
            return
        with self._engine(f"ending {instance}") as api:
            try:
                how(api, container)
            except errors.APIError as exc:
                if exc.status_code not in (404, 409):  # gone, or not running: `exits` tells
                    raise

    def _collect(self) -> list[Exit]:
        # Taken before the engine is asked: a container started meanwhile must not look as if it were missing.
        with self._lock:
            expected = dict(self._containers)
        if not expected:
            return []
        with self._engine("watching containers") as api:
            states = {listed["Id"]: listed["State"] for listed in self._listed(api)}
            ended = [(i, c) for i, c in expected.items() if states.get(c, "missing") in ("exited", "dead", "missing")]
            return [self._bury(api, instance, container) for instance, container in ended]

    def _bury(self, api: docker.APIClient, instance: str, container: str) -> Exit:
        try:
            inspected = api.inspect_container(container)
            tail = _tail(api, container, TAIL_LINES)
            _remove(api, container)
            code, reason = end_of(inspected)
        except errors.NotFound:
            code, reason, tail = None, "its container was removed", []
        with self._lock:
            self._containers.pop(instance, None)
        return Exit(instance, code, reason, tail)


def _has_image(api: docker.APIClient, image: str) -> bool:
    try:
        api.inspect_image(image)  # type: ignore[no-untyped-call]
    except errors.ImageNotFound:
        return False
    return True


def _host_of(registry: str) -> str:
    """HOST[:PORT] of a registry, however it was written."""
    return registry.rpartition("://")[2].partition("/")[0]


def _tail(api: docker.APIClient, container: str, lines: int) -> list[str]:
    try:
        written = api.logs(container, tail=lines)
    except errors.APIError:
        return []
    return readable_tail(written.decode(errors="replace"), lines)


def _remove(api: docker.APIClient, container: str) -> None:
    try:
        api.remove_container(container, force=True, v=True)
    except errors.APIError as exc:
        if exc.status_code not in (404, 409):  # gone, or being removed already
            raise
