"""What load consists of, and what became of it: plain data that driver and load processes exchange.

Instants are seconds of the machine's monotonic clock, which is the same in every process.
"""

from typing import Any, Literal

import msgspec

RIGHT = ""
WRONG = "WRONG"  # an answer came, and it is not the one to this request
LOST = "LOST"  # no answer came within the request's time and GRACE_S
CONNECTION = "CONNECTION"  # the connection broke, or there was none
GRACE_S = 3.0


class Flow(msgspec.Struct, frozen=True):
    """Requests of one kind over one protocol.

    Attributes:
        name: What allowances and verdicts call it.
        protocol: How it is sent.
        model: Its name.
        rate: Requests a second, sent at equal distances whatever becomes of them; 0: `users` ask, each when it has
            its answer.
        users: Of a closed loop, with `pause_s` between an answer and the next request.
        elements: INT32 elements of a request.
        timeout_s: Told to the server as the request's time.
        mark: First element of every request, that the model takes as an order to fail; 0: the request's own number.
        steps: Requests of a sequence; 0: the model is stateless. Each user runs one sequence after the other.
        window: Steps of a sequence that are under way at once.
        priority: Told to the server.
        limit: Requests of this flow at the most; 0: until the load is stopped.
    """

    name: str
    protocol: Literal["http", "grpc", "zmq"]
    model: str = "double"
    rate: float = 0.0
    users: int = 0
    pause_s: float = 0.0
    elements: int = 16
    timeout_s: float = 15.0
    mark: int = 0
    steps: int = 0
    window: int = 1
    priority: int = 0
    limit: int = 0


class Outcome(msgspec.Struct, array_like=True):
    """What became of one request. `code` is RIGHT, WRONG, LOST, CONNECTION or the error code that the server gave."""

    flow: str
    sent_at: float
    ended_at: float
    code: str
    why: str = ""
    retry_after: bool = False


class Plan(msgspec.Struct):
    """What a load process is told: where the stack is, and its flows. `first` is its first request's number."""

    addresses: dict[str, str]
    flows: list[Flow]
    first: int


class Progress(msgspec.Struct, tag=True):
    """What a load process says while it runs."""

    right: int
    other: dict[str, int]
    open: int


class Done(msgspec.Struct, tag=True):
    """The last thing it says."""

    outcomes: list[Outcome]


def encode_line(message: Any) -> bytes:
    """One message as a line."""
    return msgspec.json.encode(message) + b"\n"
