"""What a container's labels and inspection say of the instance in it; what labels a new one gets.

Knows the engine's answers as plain data, never the engine.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferoxy.arena import model_folder
from task_manager.launchers.base import LaunchRequest, Running

LABEL = "inferoxy."


def labels_of(request: LaunchRequest, stack: str, arena: Path | None) -> dict[str, str]:
    """All that a restarted task manager has to know of a container.

    Args:
        request: What is launched.
        stack: Tells this stack's containers from others on the engine.
        arena: The stack's shared memory, if the container has its model's part of it mounted.
    """
    return {
        f"{LABEL}stack": stack,
        f"{LABEL}instance": request.instance,
        f"{LABEL}model": request.spec.name,
        f"{LABEL}version": request.spec.version,
        f"{LABEL}spec": request.digest,
        f"{LABEL}device": request.device,
        f"{LABEL}gpu_memory_mib": str(request.spec.gpu_memory_mib),
        f"{LABEL}arena": arena_identity(arena, request.spec.name) if arena else "",
    }


def running_of(listed: Mapping[str, Any]) -> Running | None:
    """A listed container as launchers tell it; None where its labels are not ours."""
    labels = {name.removeprefix(LABEL): text for name, text in (listed.get("Labels") or {}).items()}
    try:
        return Running(
            instance=labels["instance"],
            model=labels["model"],
            version=labels["version"],
            digest=labels["spec"],
            device=labels["device"],
            gpu_memory_mib=int(labels["gpu_memory_mib"]),
            where=where_of(listed["Id"]),
            started_at=float(listed["Created"]),
        )
    except (KeyError, ValueError):
        return None


def where_of(container: str) -> str:
    """For people, who can give it to the docker command."""
    return f"container {container[:12]}"


def end_of(inspected: Mapping[str, Any]) -> tuple[int, str]:
    """The exit code of a container that has ended, and why it did."""
    state = inspected["State"]
    code = int(state["ExitCode"])
    if state.get("OOMKilled"):
        limit_mib = inspected["HostConfig"]["Memory"] >> 20
        return code, f"was killed because it used more than its {limit_mib} MiB of memory (memory_mib)"
    return code, f"ended with exit code {code}" + (f": {state['Error']}" if state.get("Error") else "")


def arena_identity(arena: Path, model: str) -> str:
    """Tells a model's folder of shared memory from another one that has its name later; empty where there is none."""
    try:
        found = model_folder(arena, model).stat()
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"
