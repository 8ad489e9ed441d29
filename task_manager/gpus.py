"""Which GPUs there are: those the settings declare, or those that the driver's own tool lists.

Invariant: never raises; a machine without GPUs has none.
"""

import shutil
import subprocess

from inferoxy.config import Settings
from inferoxy.logs import get
from task_manager.placement import Gpu

QUERY_LIMIT_S = 10.0
_QUERY = ["--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]

log = get()


def gpus_of(settings: Settings) -> list[Gpu]:
    """The GPUs that models may be placed on."""
    if settings.gpus:
        return [Gpu(gpu, settings.gpu_memory_mib) for gpu in settings.gpus]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        asked = subprocess.run([tool, *_QUERY], capture_output=True, text=True, timeout=QUERY_LIMIT_S, check=True)
        return parse(asked.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        log.warning("cannot list the GPUs; declare them in the setting gpus", error=str(exc))
        return []


def parse(listed: str) -> list[Gpu]:
    """GPUs from lines of `index, MiB`; memory that is not a number is unknown.

    Raises:
        ValueError: A line has another form.
    """
    found = []
    for line in filter(None, map(str.strip, listed.splitlines())):
        index, memory = (part.strip() for part in line.split(","))
        found.append(Gpu(index, int(memory) if memory.isdecimal() else 0))
    return found
