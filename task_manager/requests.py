"""Make what a launcher is asked for of a model spec: names, the instance's config, and its form's digest.

Pure but for the random part of an instance's name.
"""

import hashlib
import math
import re
import secrets

import msgspec

from inferoxy.config import Settings
from inferoxy.messages import InstanceConfig, ModelSpec
from inferoxy.wire import instance_token
from task_manager.launchers.base import LaunchRequest
from task_manager.placement import gpu_of
from task_manager.planner import Launch

NAME_LENGTH = 40  # characters of model and version that an instance's name repeats

# A running instance holds to these: another value needs another instance. The rest concerns queues and scaling.
FORM = (
    "address",
    "artifact",
    "runtime",
    "batch_size",
    "run_on_gpu",
    "stateless",
    "max_sequences",
    "gpu_memory_mib",
    "memory_mib",
    "cpus",
    "environment",
    "options",
)


def digest_of(spec: ModelSpec) -> str:
    """Equal exactly when instances of the two specs can stand in for each other."""
    form = {name: getattr(spec, name) for name in FORM}
    return hashlib.sha256(msgspec.json.encode(form, order="deterministic")).hexdigest()[:16]


def new_instance_id(spec: ModelSpec) -> str:
    """A name that no other instance has or had; fit for file names, container names and ZeroMQ identities."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{spec.name}-{spec.version}")[:NAME_LENGTH]
    return f"{readable}-{secrets.token_hex(4)}"


def launch_request(launch: Launch, instance: str, settings: Settings, cores: int) -> LaunchRequest:
    """What a launcher needs to start this instance.

    Args:
        launch: The planner's decision.
        instance: The id that the instance will have.
        settings: Complete settings of the stack.
        cores: CPU cores that instances may use; a model's instances share them unless it declares `cpus`.
    """
    spec = launch.spec
    config = InstanceConfig(
        instance=instance,
        model=spec.name,
        model_version=spec.version,
        backend=settings.backend,
        token=instance_token(settings.secret, instance, spec.name, spec.version),
        # An artifact without a runtime is left to the instance, which can look into it; an image has its own code.
        runtime=spec.runtime or ("python" if spec.address else ""),
        artifact=spec.artifact,
        batch_size=spec.batch_size,
        stateless=spec.stateless,
        max_sequences=spec.max_sequences,
        device=launch.device,
        threads=math.ceil(spec.cpus) or max(1, cores // max(1, spec.instances.max)),
        log_level=settings.log_level,
        options=spec.options,
        arena=str(settings.arena_root) if settings.arena_mib and settings.backend.startswith("ipc://") else "",
    )
    return LaunchRequest(config, spec, launch.digest, launch.device, gpu_of(launch.device))
