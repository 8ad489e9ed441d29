"""What is registered, and who is told of it.

Pure data; between the model manager, the batch manager, bridges and the task manager.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from inferoxy.messages.headers import Header, Kind
from inferoxy.messages.instances import TensorSpec


class Scale(Struct):
    """How many instances may run."""

    min: int = 0
    max: int = 1


class ModelSpec(Struct, kw_only=True, omit_defaults=True):
    """One registered model version. Exactly one of `address` (an image) and `artifact` (a file or folder) is set."""

    name: str
    version: str = "1"
    address: str = ""
    artifact: str = ""
    runtime: str = ""
    batch_size: int = 1
    run_on_gpu: bool = False
    stateless: bool = True
    default: bool = True
    weight: float = 1.0
    max_queue_delay_ms: float = 0.0
    priority: int = 100
    latency_budget_ms: float = 0.0
    protect: Literal["none", "budget", "strict"] = "budget"
    target_fps: float = 0.0
    slots: int = 1
    timeout_ms: float = 30_000.0
    queue_size: int = 256
    queue_mib: int = 512
    drop_policy: Literal["reject", "drop_oldest", "drop_newest"] = "reject"
    instances: Scale = msgspec.field(default_factory=Scale)
    keep_warm_s: float = 300.0
    load_timeout_s: float = 120.0
    max_sequences: int = 1
    sequence_idle_s: float = 30.0
    gpu_memory_mib: int = 0
    memory_mib: int = 4096
    cpus: float = 0.0
    environment: dict[str, str] = {}
    options: dict[str, Any] = {}
    source: str = "file"

    @property
    def key(self) -> tuple[str, str]:
        """Name and version, which identify it."""
        return (self.name, self.version)


class ModelView(Struct, array_like=True):
    """A model version as bridges show it: what is registered, and what its instances have declared."""

    spec: ModelSpec
    state: str = "idle"  # starting, ready, idle, failing
    error: str = ""
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    platform: str = ""
    stacked: bool = False
    decoupled: bool = False
    metadata: dict[str, str] = {}
    instances: int = 0
    arena: bool = False  # all of its instances see shared-memory segments


class Models(Header, array_like=True, kw_only=True):
    """Batch manager to bridges: all that is registered, on every change and when a PING holds an older revision."""

    kind: int = Kind.MODELS
    revision: int = 0
    models: list[ModelView] = []
    complete: bool = False  # the model manager has been heard: an unlisted model does not exist


class Subscribe(Header, array_like=True, kw_only=True):
    """To the model manager: send the catalog now (unless this revision is the newest) and on every change."""

    kind: int = Kind.SUBSCRIBE
    component: str = ""
    revision: str = ""


class Catalog(Header, array_like=True, kw_only=True):
    """Everything that is registered. `revision` is equal exactly when the content is."""

    kind: int = Kind.CATALOG
    revision: str = ""
    models: list[ModelSpec] = []


class Report(Header, array_like=True, kw_only=True):
    """A component tells the model manager how it is, for `inferoxy status`; JSON-able."""

    kind: int = Kind.REPORT
    component: str = ""
    report: dict[str, Any] = {}


class Command(Header, array_like=True, kw_only=True):
    """Model manager to task manager: load (start an instance now) or unload (drain all).

    Bridge to batch manager likewise, which passes it on and answers Commanded where `id` is not 0.
    """

    kind: int = Kind.COMMAND
    action: Literal["load", "unload"] = "load"
    model: str = ""
    model_version: str = ""
    id: int = 0


class Commanded(Header, array_like=True, kw_only=True):
    """The command was passed on, or refused with an error code."""

    kind: int = Kind.COMMANDED
    id: int = 0
    code: str = ""
    error: str = ""


class AskStatistics(Header, array_like=True, kw_only=True):
    """Bridge to batch manager: what has become of requests so far. An empty model means all."""

    kind: int = Kind.ASK_STATISTICS
    id: int = 0
    model: str = ""
    model_version: str = ""


class Spent(Struct, array_like=True):
    """How often something was done, and how long that took in all."""

    count: int = 0
    us: int = 0


class BatchStatistics(Struct, array_like=True):
    """The batches of one size, in rows."""

    batch_size: int
    decode: Spent
    compute: Spent


class ModelStatistics(Struct, array_like=True):
    """What has become of one model version's requests since the batch manager began.

    `success` and `fail` count requests with all the time they were here; the other durations are of those that
    succeeded. `inferences` counts rows, `executions` batches; `idle_us` is the time since the last answer, -1
    when there was none.
    """

    model: str
    model_version: str
    idle_us: int = 0
    inferences: int = 0
    executions: int = 0
    success: Spent = msgspec.field(default_factory=Spent)
    fail: Spent = msgspec.field(default_factory=Spent)
    queue: Spent = msgspec.field(default_factory=Spent)
    decode: Spent = msgspec.field(default_factory=Spent)
    compute: Spent = msgspec.field(default_factory=Spent)
    batches: list[BatchStatistics] = []


class Statistics(Header, array_like=True, kw_only=True):
    """The answer to AskStatistics."""

    kind: int = Kind.STATISTICS
    id: int = 0
    models: list[ModelStatistics] = []
