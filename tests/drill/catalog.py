"""All drills by name, in the order in which they run."""

from tests.drill import clients, containers, ending, failing_models, full, garbage, instances, managers, overload
from tests.drill.drill import Drill

DRILLS: dict[str, Drill] = {
    "instance-killed": instances.killed,
    "instance-hangs": instances.hangs,
    "model-loops": instances.loops,
    "poison": instances.poisoned,
    "batch-manager": managers.batch_manager,
    "task-manager": managers.task_manager,
    "model-manager": managers.model_manager,
    "bridges": managers.bridges,
    "containers": containers.killed,
    "dockerd": containers.dockerd,
    "bad-models": failing_models.processes,
    "memory-limit": failing_models.containers,
    "bad-clients": clients.misbehave,
    "disk-full": full.disk,
    "disk-full-launch": full.disk_and_instance,
    "shm-full": full.shared_memory,
    "overload": overload.overload,
    "sigterm": ending.sigterm,
    "garbage": garbage.garbage,
}
