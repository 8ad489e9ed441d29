"""Requests, their answers, and where their tensors are.

Pure data; between clients, bridges and the batch manager.
"""

from enum import IntEnum, StrEnum
from typing import Any, Literal

from msgspec import Raw, Struct

from inferoxy.messages.headers import NO_PAYLOAD, Header, Kind


class Slot(Struct, array_like=True, frozen=True):
    """Where a tensor lies in a shared-memory arena segment, in place of a frame."""

    segment: str
    offset: int
    size: int


class Tensor(Struct, array_like=True):
    """One named array. Bytes are little-endian, C order, in the next frame.

    Between our own parts a small tensor has no frame: its bytes are the next `inline` bytes of its request's `data`. A
    large one may have none either: Places says so. `encoding` is empty for raw bytes; "jpeg", "png" or "webp" when the
    bytes are an encoded picture, whose shape [height, width, 3] and datatype UINT8 are those of the decoded picture. A
    BYTES tensor holds a 4-byte little-endian length before each element. An empty name stands for the model's only
    (picture) input.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    inline: int | None = None
    encoding: str = ""


class Payload(Struct, array_like=True):
    """What the model gets: travels from the bridge to the instance unread by the batch manager.

    `form` says which answer is wanted: "tensors" or "prediction" (a JSON-able dict). `picture` asks for the drawn
    picture as well, in that encoding ("jpeg", "png" or "" for none). `outputs` names the wanted tensors; empty: all.
    Nothing that differs from request to request of one client stands here, so that whoever has understood a payload
    knows an equal one by its bytes.
    """

    tensors: list[Tensor]
    parameters: dict[str, Any] = {}
    outputs: list[str] = []
    form: Literal["tensors", "prediction"] = "tensors"
    picture: Literal["", "jpeg", "png"] = ""


class Places(Struct, array_like=True):
    """Where the tensors of a request or result are that have neither frame nor inline bytes.

    `slots` has one entry for each tensor that is not inline, in order; None: it is in the next frame. `reply` is a slot
    that the instance may write large outputs into.
    """

    slots: list[Slot | None] = []
    reply: Slot | None = None


class ResultPayload(Struct, array_like=True):
    """What the model gave for one request; the drawn picture, if any, is the tensor named "picture"."""

    tensors: list[Tensor]
    prediction: Any = None
    parameters: dict[str, Any] = {}


class Sequence(Struct, array_like=True):
    """Marks a request as a step of an ordered sequence that shares state.

    A request that has `end` and no tensors is not run: it ends the sequence behind the steps before it, and is answered
    without tensors. `client` is filled in by bridges whose clients have connections of their own: ids are unique per
    client, and its sequences end when it is gone. Empty: the id is all there is.
    """

    id: int | str
    start: bool = False
    end: bool = False
    client: str = ""


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


class RequestFlag:
    """What the batch manager must know of a request's slots. Plain integers: an enumeration's arithmetic is slow."""

    SLOTTED = 1  # it has some
    AGAIN = 2  # an instance of an earlier batch manager may still be at work on them


class Request(Header, array_like=True, kw_only=True):
    """One client call. `id` is unique on its connection; the time left is counted from the moment of sending.

    `request_id` is what logs and answers call it; empty: the bridge makes one up.
    The fields behind it are filled in by the bridge: `rows` is the length of the leading axis, `key` the datatypes
    and shapes behind it (equal keys may be stacked), `size` the bytes of all tensors, `flags` RequestFlags,
    `data` the bytes of inline tensors, `places` a Places or nil.
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
    request_id: str = ""
    rows: int = 1
    key: str = ""
    size: int = 0
    flags: int = 0
    data: bytes = b""
    places: Raw = NO_PAYLOAD


class Requests(Header, array_like=True, kw_only=True):
    """Several requests of one bridge. The frames of all of them follow, in order."""

    kind: int = Kind.REQUESTS
    items: list[Request] = []


class SlotFate(IntEnum):
    """What becomes of a request's slots with its final answer."""

    FREE = 0  # nobody looks at them any more
    HELD = 1  # an instance still does; RELEASED follows
    SUSPECT = 2  # an instance that was lost may: never use them again


class Response(Header, array_like=True, kw_only=True):
    """One answer. `code` is empty for success; else one of errors.Code and `error` says what happened.

    `final` is false while more answers to the same request follow. For bridges: `fate` is a SlotFate, `data` the bytes
    of inline tensors, `places` a Places or nil.
    """

    kind: int = Kind.RESPONSE
    id: int = 0
    code: str = ""
    error: str = ""
    final: bool = True
    payload: Raw = NO_PAYLOAD
    served: Served | None = None
    fate: int = SlotFate.FREE
    data: bytes = b""
    places: Raw = NO_PAYLOAD


class Responses(Header, array_like=True, kw_only=True):
    """Several answers for one bridge. The frames of all of them follow, in order."""

    kind: int = Kind.RESPONSES
    items: list[Response] = []


class Cancel(Header, array_like=True, kw_only=True):
    """The client no longer wants the answers to these requests."""

    kind: int = Kind.CANCEL
    ids: list[int] = []


class Gone(Header, array_like=True, kw_only=True):
    """Bridge to batch manager: these clients (Sequence.client) have left; their sequences end, reason client_gone."""

    kind: int = Kind.GONE
    clients: list[str] = []


class Released(Header, array_like=True, kw_only=True):
    """Batch manager to bridge: slots that were HELD, or whose request was cancelled, have this fate now."""

    kind: int = Kind.RELEASED
    ids: list[int] = []
    fate: int = SlotFate.FREE


class Ping(Header, array_like=True, kw_only=True):
    """Are you there? Answered by Pong at once."""

    kind: int = Kind.PING
    revision: int = 0  # the newest MODELS revision the sender holds
    report: dict[str, Any] = {}  # a bridge's own figures, for `inferoxy status`


class Pong(Header, array_like=True, kw_only=True):
    """`epoch` names this run of the answering process: a new one means that everything in flight was forgotten."""

    kind: int = Kind.PONG
    epoch: int = 0
