"""What every message begins with.

Pure data. A header is an array whose first three elements are the protocol version, the kind and the number of tensor
frames that follow it.
"""

from enum import IntEnum

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
    REQUESTS = 8
    RESPONSES = 9
    GONE = 10
    ASK_STATISTICS = 11
    STATISTICS = 12
    COMMANDED = 13
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


class Header(Struct, array_like=True, kw_only=True):
    """The first three elements of every message."""

    version: int = PROTOCOL_VERSION
    kind: int = 0
    frames: int = 0
