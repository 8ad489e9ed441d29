"""What the batch manager and the task manager say to each other.

Pure data.
"""

from typing import Literal

from msgspec import Struct

from inferoxy.messages.headers import Header, Kind


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
    sequences_waiting: int = 0  # sequences that no instance has a place for


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
