"""What a test of the Docker launcher needs: a stack of its own, its containers, and their sure end."""

import time
from pathlib import Path
from typing import Any

import docker

from inferoxy.messages import ModelSpec
from task_manager.launchers.base import Exit, LaunchRequest
from task_manager.launchers.containers import LABEL
from task_manager.launchers.docker_launcher import DockerLauncher
from task_manager.planner import Launch
from task_manager.requests import launch_request
from tests.integration.surroundings import TIMEOUT_S, Surroundings


class Containers:
    """The Docker launcher of a Surroundings, and the engine seen past it."""

    def __init__(self, world: Surroundings, client: docker.DockerClient) -> None:
        self.world = world
        self.client = client
        self.launcher = DockerLauncher(world.settings)

    def request(self, name: str = "probe-1-one", **fields: Any) -> LaunchRequest:
        """An instance of a model with these fields."""
        spec = ModelSpec(**{"name": "probe", "memory_mib": 512} | fields)
        return launch_request(Launch(spec, "digest", "cpu"), name, self.world.settings, cores=2)

    def another_launcher(self) -> None:
        """As after the death of the task manager."""
        self.launcher.close()
        self.launcher = DockerLauncher(self.world.settings)

    def exit(self, timeout_s: float = TIMEOUT_S) -> Exit:
        """Serve until an instance has ended."""
        until = time.monotonic() + timeout_s
        while not (ended := self.launcher.exits(0.02)):
            assert time.monotonic() < until, "nothing has ended"
            self.world.turn()
        assert len(ended) == 1
        return ended[0]

    def of(self, instance: str) -> Any:
        """The container of an instance.

        Raises:
            LookupError: There is none.
        """
        found = self.client.containers.list(all=True, filters={"label": f"{LABEL}instance={instance}"})
        if not found:
            raise LookupError(f"no container of {instance}")
        return found[0]

    def names(self) -> list[str]:
        """The stack's instances that have a container, in whatever state."""
        label = f"{LABEL}stack={self.launcher.stack}"
        found = self.client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return sorted(container.labels[f"{LABEL}instance"] for container in found)

    def close(self) -> None:
        """Remove what is left of the stack."""
        label = f"{LABEL}stack={self.launcher.stack}"
        for container in self.client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
            container.remove(force=True)
        self.launcher.close()


def artifact_of(folder: Path) -> str:
    """A folder or file that every user may read, as a model's artifact must be for a container."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return str(folder)
