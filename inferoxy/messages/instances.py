"""What the batch manager and an instance say to each other, and what a launched instance is told.

Pure data.
"""

from enum import StrEnum
from typing import Any

from msgspec import Raw, Struct

from inferoxy.messages.headers import NO_PAYLOAD, Header, Kind
from inferoxy.messages.requests import Sequence


class TensorSpec(Struct, array_like=True):
    """A declared input or output: Open Inference Protocol datatype; -1 is a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Hello(Header, array_like=True, kw_only=True):
    """An instance is loaded and can take batches.

    `stacked`: requests are joined along axis 0, so only equal keys share a batch and rows count as items.
    `token` proves which model the launcher meant this instance to run. `compute_us` is what a batch took when it
    warmed up; 0: it did not.
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
    compute_us: int = 0


class Welcome(Header, array_like=True, kw_only=True):
    """The batch manager took the instance in; `error` is set, and the instance must end, when it did not."""

    kind: int = Kind.WELCOME
    epoch: int = 0
    heartbeat_s: float = 1.0
    error: str = ""


class BatchItem(Struct, array_like=True):
    """One request inside a batch. `frames` of the batch's tensor frames belong to it, in order.

    `data` and `places` are the request's.
    """

    ticket: int
    frames: int
    payload: Raw
    timeout_us: int = 0
    sequence: Sequence | None = None
    trace: str = ""
    again: bool = False  # another instance may still be at work on it: leave its reply slot alone
    request_id: str = ""
    data: bytes = b""
    places: Raw = NO_PAYLOAD


class Batch(Header, array_like=True, kw_only=True):
    """Requests of one model for one instance."""

    kind: int = Kind.BATCH
    id: int = 0
    items: list[BatchItem] = []


class ResultItem(Struct, array_like=True):
    """The answer to one ticket. Not final: more follow for this ticket.

    `data` holds the bytes of inline tensors; `places` is a Places or nil.
    """

    ticket: int
    frames: int = 0
    payload: Raw = NO_PAYLOAD
    code: str = ""
    error: str = ""
    final: bool = True
    data: bytes = b""
    places: Raw = NO_PAYLOAD


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
