"""How many cores this process may use: what its affinity and, in a container, its CPU quota allow."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = QUOTA) -> int:
    """At least 1. A quota of part of a core counts as a whole one."""
    affinity = len(os.sched_getaffinity(0))
    try:
        most, period = quota.read_text().split()
        return max(1, min(affinity, -(-int(most) // int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no quota file, or "max": no limit
        return affinity
