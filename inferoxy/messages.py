"""What components say to each other, as msgspec Structs.

Pure data. Every message that travels is a header: an array whose first three elements are the protocol version, the
kind and the number of tensor frames that follow it. How headers become frames is wire.py; protos/wire.md describes
the part that clients see.
Invariants: fields are only ever appended; a missing trailing field has its default; an unknown trailing one is ignored.
"""

from enum import IntEnum, IntFlag, StrEnum
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

PROTOCOL_VERSION = 1
NO_PAYLOAD = Raw(b"\xc0")  # msgpack nil


class Kind(IntEnum):
    """The second element of every header. All are below 128, so that it is always one byte."""

    # client or bridge <-> batch_manager
    REQUEST = 1
    RESPONSE = 2
    CANCEL = 3
    PING = 4
    PONG = 5
    MODELS = 6
    RELEASED = 7
    # batch_manager <-> instance
    HELLO = 16
    WELCOME = 17
    BATCH = 18
    RESULT = 19
    HEARTBEAT = 20
    WHO = 21
    END_SEQUENCE = 22
    STOP = 23
    # batch_manager <-> task_manager
    ATTACH = 32
    LOADS = 33
    DRAIN = 34
    CONDITION = 35
    # model_manager <-> batch_manager, task_manager
    SUBSCRIBE = 48
    CATALOG = 49
    REPORT = 50
    COMMAND = 51


class Slot(Struct, array_like=True, frozen=True):
    """Where a tensor lies in a shared-memory arena segment, in place of a frame."""

    segment: str
    offset: int
    size: int


class Tensor(Struct, array_like=True):
    """One named array. Bytes are little-endian, C order; in the next frame unless `slot` says where.

    `encoding` is empty for raw bytes; "jpeg", "png" or "webp" when the bytes are an encoded picture, whose shape
    [height, width, 3] and datatype UINT8 are those of the decoded picture. A BYTES tensor holds a 4-byte little-endian
    length before each element. An empty name stands for the model's only (picture) input.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    slot: Slot | None = None
    encoding: str = ""


class Payload(Struct, array_like=True):
    """What the model gets: travels from the bridge to the instance unread by the batch manager.

    `form` says which answer is wanted: "tensors" or "prediction" (a JSON-able dict). `picture` asks for the drawn
    picture as well, in that encoding ("jpeg", "png" or "" for none). `outputs` names the wanted tensors; empty: all.
    `reply` is a slot that the instance may write large outputs into.
    """

    tensors: list[Tensor]
    parameters: dict[str, Any] = {}
    outputs: list[str] = []
    form: Literal["tensors", "prediction"] = "tensors"
    picture: Literal["", "jpeg", "png"] = ""
    request_id: str = ""
    reply: Slot | None = None


class ResultPayload(Struct, array_like=True):
    """What the model gave for one request; the drawn picture, if any, is the tensor named "picture"."""

    tensors: list[Tensor]
    prediction: Any = None
    parameters: dict[str, Any] = {}


class Sequence(Struct, array_like=True):
    """Marks a request as a step of an ordered sequence that shares state."""

    id: int | str
    start: bool = False
    end: bool = False


class CloseReason(StrEnum):
    """Why a batch was closed and sent."""

    FULL = "full"
    IDLE = "idle"
    DELAY = "delay"
    DEADLINE = "deadline"
    ALONE = "alone"  # a request that outlived a lost instance is sent by itself


class Served(Struct, array_like=True):
    """How a request was served. Durations in microseconds."""

    queue_us: int = 0
    compute_us: int = 0
    batch_size: int = 0
    closed: str = ""
    instance: str = ""
    version: str = ""
    decode_us: int = 0


class Header(Struct, array_like=True, kw_only=True):
    """The first three elements of every message."""

    version: int = PROTOCOL_VERSION
    kind: int = 0
    frames: int = 0


class RequestFlag(IntFlag):
    """What the batch manager must know of a request's slots."""

    SLOTTED = 1  # it has some
    AGAIN = 2  # an instance of an earlier batch manager may still be at work on them


class Request(Header, array_like=True, kw_only=True):
    """One client call. `id` is unique on its connection; the time left is counted from the moment of sending.

    The fields after `trace` are filled in by the bridge: `rows` is the length of the leading axis, `key` the datatypes
    and shapes behind it (equal keys may be stacked), `size` the bytes of all tensors, `flags` RequestFlags.
    """

    kind: int = Kind.REQUEST
    id: int = 0
    model: str = ""
    payload: Raw = NO_PAYLOAD
    model_version: str = ""
    timeout_us: int = 0
    priority: int = 0
    sequence: Sequence | None = None
    trace: str = ""
    rows: int = 1
    key: str = ""
    size: int = 0
    flags: int = 0


class SlotFate(IntEnum):
    """What becomes of a request's slots with its final answer."""

    FREE = 0  # nobody looks at them any more
    HELD = 1  # an instance still does; RELEASED follows
    SUSPECT = 2  # an instance that was lost may: never use them again


class Response(Header, array_like=True, kw_only=True):
    """One answer. `code` is empty for success; else one of errors.Code and `error` says what happened.

    `final` is false while more answers to the same request follow. `fate` is a SlotFate, for bridges.
    """

    kind: int = Kind.RESPONSE
    id: int = 0
    code: str = ""
    error: str = ""
    final: bool = True
    payload: Raw = NO_PAYLOAD
    served: Served | None = None
    fate: int = SlotFate.FREE


class Cancel(Header, array_like=True, kw_only=True):
    """The client no longer wants the answers to these requests."""

    kind: int = Kind.CANCEL
    ids: list[int] = []


class Ping(Header, array_like=True, kw_only=True):
    """Are you there? Answered by Pong at once."""

    kind: int = Kind.PING
    revision: int = 0  # the newest MODELS revision the sender holds
    report: dict[str, Any] = {}  # a bridge's own figures, for `inferoxy status`


class Pong(Header, array_like=True, kw_only=True):
    """`epoch` names this run of the answering process: a new one means that everything in flight was forgotten."""

    kind: int = Kind.PONG
    epoch: int = 0


class Released(Header, array_like=True, kw_only=True):
    """Batch manager to bridge: slots that were HELD, or whose request was cancelled, have this fate now."""

    kind: int = Kind.RELEASED
    ids: list[int] = []
    fate: int = SlotFate.FREE


class TensorSpec(Struct, array_like=True):
    """A declared input or output: Open Inference Protocol datatype; -1 is a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Hello(Header, array_like=True, kw_only=True):
    """An instance is loaded and can take batches.

    `stacked`: requests are joined along axis 0, so only equal keys share a batch and rows count as items.
    `token` proves which model the launcher meant this instance to run.
    """

    kind: int = Kind.HELLO
    instance: str = ""
    model: str = ""
    model_version: str = ""
    token: str = ""
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    batch_size: int = 1
    stacked: bool = False
    stateless: bool = True
    decoupled: bool = False
    device: str = ""
    platform: str = ""
    max_sequences: int = 1
    metadata: dict[str, str] = {}
    pid: int = 0
    arena: bool = False  # it sees its model's shared-memory segments


class Welcome(Header, array_like=True, kw_only=True):
    """The batch manager took the instance in; `error` is set, and the instance must end, when it did not."""

    kind: int = Kind.WELCOME
    epoch: int = 0
    heartbeat_s: float = 1.0
    error: str = ""


class BatchItem(Struct, array_like=True):
    """One request inside a batch. `frames` of the batch's tensor frames belong to it, in order."""

    ticket: int
    frames: int
    payload: Raw
    timeout_us: int = 0
    sequence: Sequence | None = None
    trace: str = ""
    client: str = ""
    again: bool = False  # another instance may still be at work on it: leave its reply slot alone


class Batch(Header, array_like=True, kw_only=True):
    """Requests of one model for one instance."""

    kind: int = Kind.BATCH
    id: int = 0
    items: list[BatchItem] = []


class ResultItem(Struct, array_like=True):
    """The answer to one ticket. Not final: more follow for this ticket."""

    ticket: int
    frames: int = 0
    payload: Raw = NO_PAYLOAD
    code: str = ""
    error: str = ""
    final: bool = True


class Result(Header, array_like=True, kw_only=True):
    """Answers to a batch. `done` closes the batch: the instance has begun or awaits the next one."""

    kind: int = Kind.RESULT
    batch: int = 0
    items: list[ResultItem] = []
    done: bool = True
    compute_us: int = 0
    decode_us: int = 0


class Heartbeat(Header, array_like=True, kw_only=True):
    """Both sides of the backend send one a `heartbeat_s`, whatever else they send."""

    kind: int = Kind.HEARTBEAT
    epoch: int = 0


class Who(Header, array_like=True, kw_only=True):
    """The batch manager does not know this peer: say HELLO (again)."""

    kind: int = Kind.WHO
    epoch: int = 0


class EndSequence(Header, array_like=True, kw_only=True):
    """Drop the state of a sequence. `reason`: ended, idle, client_gone or failed."""

    kind: int = Kind.END_SEQUENCE
    sequence: int | str = 0
    client: str = ""
    reason: str = "ended"


class Stop(Header, array_like=True, kw_only=True):
    """To an instance: nothing more will come; finish, send what is left and exit 0."""

    kind: int = Kind.STOP


class InstanceState(StrEnum):
    """Where an instance is in its life. Allowed transitions: task_manager/states.py."""

    LAUNCHING = "launching"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    EXITED = "exited"
    FAILED = "failed"


class ConnectedInstance(Struct, array_like=True):
    """An instance as the batch manager sees it."""

    instance: str
    model: str
    model_version: str
    in_flight: int
    draining: bool
    idle_s: float
    batches: int
    requests: int
    sequences: int = 0


class ModelLoad(Struct, array_like=True):
    """What one model version's queue looks like, for the autoscaler and for `inferoxy status`."""

    model: str
    model_version: str
    queued: int
    oldest_s: float
    in_flight: int
    rate: float  # requests accepted per second, smoothed
    compute_s: float  # seconds of compute per item, smoothed; 0 while unknown
    idle_s: float  # since the last request arrived or ended
    executed: int = 0
    failed: int = 0
    dropped: int = 0
    mean_batch: float = 0.0
    queue_s: float = 0.0  # smoothed time in queue


class Attach(Header, array_like=True, kw_only=True):
    """The task manager introduces itself on the control socket (and again whenever the epoch changes)."""

    kind: int = Kind.ATTACH


class Loads(Header, array_like=True, kw_only=True):
    """Batch manager to task manager: once a second, and at once when a model without instances gets a request."""

    kind: int = Kind.LOADS
    epoch: int = 0
    loads: list[ModelLoad] = []
    instances: list[ConnectedInstance] = []


class Drain(Header, array_like=True, kw_only=True):
    """Task manager to batch manager: send this instance nothing more; send it STOP when it is free."""

    kind: int = Kind.DRAIN
    instance: str = ""


class Condition(Header, array_like=True, kw_only=True):
    """Task manager to batch manager: whether a model can be had.

    `state`: starting, ready, idle or failing. While failing, queued requests are answered MODEL_UNAVAILABLE with
    `error`, and new ones too until the state changes.
    """

    kind: int = Kind.CONDITION
    model: str = ""
    model_version: str = ""
    state: Literal["starting", "ready", "idle", "failing"] = "idle"
    error: str = ""
    retry_s: float = 0.0


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
    """Model manager to task manager: load (start an instance now) or unload (drain all)."""

    kind: int = Kind.COMMAND
    action: Literal["load", "unload"] = "load"
    model: str = ""
    model_version: str = ""


class InstanceConfig(Struct, kw_only=True):
    """All that a launched instance is told, as JSON in the environment variable INFEROXY_INSTANCE."""

    instance: str
    model: str
    model_version: str
    backend: str
    token: str = ""
    runtime: str = "python"
    artifact: str = "/app"
    batch_size: int = 1
    stateless: bool = True
    max_sequences: int = 1
    device: str = "cpu"
    threads: int = 0
    log_level: str = "info"
    options: dict[str, Any] = {}
    arena: str = ""  # folder of the shared-memory segments; empty: it sees none
