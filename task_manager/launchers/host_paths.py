"""Paths of a task manager that itself runs in a container, as the Docker engine on the host knows them.

Pure. The engine resolves bind mounts on the host, so a path inside the task manager's own container must be expressed
by what is mounted there. Outside a container paths stay as they are.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from inferoxy.errors import ModelUnavailable

# Docker bind-mounts each container's own hosts, hostname and resolv.conf from a folder named after it.
_OWN_FOLDER = re.compile(r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf) ")


def own_container_id(mountinfo: str) -> str:
    """The container whose /proc/self/mountinfo this is; empty outside of Docker."""
    found = _OWN_FOLDER.search(mountinfo)
    return found.group(1) if found else ""


def on_host(path: Path, mounts: Sequence[Mapping[str, Any]] | None) -> str:
    """Where the engine finds a path.

    Args:
        path: Absolute, as this process sees it.
        mounts: `Mounts` of this container's inspection; None outside of a container.

    Raises:
        ModelUnavailable: The path is inside the container's own file system.
    """
    if mounts is None:
        return str(path)
    best: tuple[int, str] | None = None
    for mount in mounts:
        target = PurePosixPath(mount["Destination"])
        if path.is_relative_to(target) and (best is None or len(target.parts) > best[0]):
            best = (len(target.parts), str(PurePosixPath(mount["Source"]) / path.relative_to(target)))
    if best is None:
        targets = ", ".join(mount["Destination"] for mount in mounts) or "nothing"
        raise ModelUnavailable(
            f"{path} lies inside the task manager's own container, where model containers cannot get at it: "
            f"expected it in a volume or mounted folder, found these mounted: {targets}"
        )
    return best[1]
