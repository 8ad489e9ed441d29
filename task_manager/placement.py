"""Which device a new instance runs on, or why there is none.

Pure. A model with run_on_gpu gets one GPU, any other the CPU.
Invariants: a GPU never holds two copies of one model version; different models share a GPU only while all of them have
declared gpu_memory_mib and the sum fits. A GPU of unknown memory is shared without that check.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from inferoxy.messages import ModelSpec

CPU = "cpu"
GPU_PREFIX = "gpu:"


class Gpu(NamedTuple):
    """A GPU by index or UUID. `memory_mib` 0: unknown, not checked."""

    id: str
    memory_mib: int = 0


class Tenant(NamedTuple):
    """What holds (part of) a device: one instance of a model version. `memory_mib` 0: not declared."""

    device: str
    model: str
    version: str
    memory_mib: int = 0


class Placement(NamedTuple):
    """A device, or an empty one and the reason."""

    device: str
    reason: str = ""


def place(spec: ModelSpec, gpus: Sequence[Gpu], tenants: Iterable[Tenant]) -> Placement:
    """Choose the device for one more instance of a model: the emptiest GPU that may take it.

    Args:
        spec: The model to be launched.
        gpus: The GPUs there are, in the order of preference among equals.
        tenants: Every instance that holds a device now, those that are leaving included.
    """
    if not spec.run_on_gpu:
        return Placement(CPU)
    if not gpus:
        return Placement("", "it has run_on_gpu: true, and no GPU was found or declared (setting gpus)")
    by_device: dict[str, list[Tenant]] = {GPU_PREFIX + gpu.id: [] for gpu in gpus}
    for tenant in tenants:
        if tenant.device in by_device:
            by_device[tenant.device].append(tenant)
    best: tuple[tuple[int, float], str] | None = None
    obstacles: list[str] = []
    for gpu in gpus:
        device = GPU_PREFIX + gpu.id
        held = by_device[device]
        obstacle = _obstacle(spec, gpu, held)
        if obstacle:
            obstacles.append(f"GPU {gpu.id} {obstacle}")
            continue
        used = sum(tenant.memory_mib for tenant in held)
        rank = (len(held), used - gpu.memory_mib)
        if best is None or rank < best[0]:
            best = (rank, device)
    if best is not None:
        return Placement(best[1])
    return Placement("", "no GPU can take it: " + "; ".join(obstacles))


def gpu_of(device: str) -> str:
    """The index or UUID of a GPU device; empty for the CPU."""
    return device[len(GPU_PREFIX) :] if device.startswith(GPU_PREFIX) else ""


def _obstacle(spec: ModelSpec, gpu: Gpu, held: Sequence[Tenant]) -> str:
    """Why this GPU cannot take the model; empty when it can."""
    if any((tenant.model, tenant.version) == spec.key for tenant in held):
        return "runs a copy of it already"
    if not gpu.memory_mib:
        return ""
    if spec.gpu_memory_mib > gpu.memory_mib:
        return f"has {gpu.memory_mib} MiB, the model needs {spec.gpu_memory_mib} MiB"
    if not held:
        return ""
    names = ", ".join(sorted({tenant.model for tenant in held}))
    if not spec.gpu_memory_mib:
        return f"is shared only by models that declare gpu_memory_mib, and it runs {names}"
    if any(not tenant.memory_mib for tenant in held):
        return f"runs {names}, not all of which declare gpu_memory_mib"
    left = gpu.memory_mib - sum(tenant.memory_mib for tenant in held)
    if spec.gpu_memory_mib > left:
        return f"has {left} of {gpu.memory_mib} MiB left beside {names}, the model needs {spec.gpu_memory_mib} MiB"
    return ""
