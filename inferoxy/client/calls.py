"""What the client asks of a protocol, and what each protocol module offers.

A protocol module is pure: its operations are generators that yield one exchange (a round trip in the terms of that
protocol) after another, are sent the reply or thrown the error, and return the typed answer. `drive` and `drive_async`
run them over a transport, the part that has the connection; so both clients share all but the waiting.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from inferoxy.client.pictures import LoadedPicture
from inferoxy.client.results import Detections, InferResult, ModelInfo, Prediction
from inferoxy.errors import Code, InferoxyError
from inferoxy.tensors import Array

CONNECT_S = 2.0  # a server that was killed is back sooner; what could not be sent waits so long for it
WAIT_LIMIT_S = 600.0  # for calls without a timeout: the model's own holds, and is enforced by the server
GRACE_S = 2.0  # beyond its timeout a call waits for the server's own word about it
METADATA_S = 10.0  # for questions about models

T = TypeVar("T")
Steps = Generator[Any, Any, T]


class ConnectionFailed(InferoxyError, ConnectionError):
    """The server cannot be reached, or the connection broke while an answer was awaited."""

    code = Code.MODEL_UNAVAILABLE


class Call(NamedTuple):
    """What every request carries. `timeout_s` 0: the model's own; `priority` 0: the model's own."""

    model: str
    version: str = ""
    timeout_s: float = 0.0
    priority: int = 0
    parameters: Mapping[str, Any] = {}
    request_id: str = ""

    @property
    def wait_s(self) -> float:
        """How long to wait for the server's answer."""
        return self.timeout_s + GRACE_S if self.timeout_s else WAIT_LIMIT_S


class ClientProtocol(Protocol):
    """What a protocol module offers; it may cache what it has learned about models."""

    def predict(self, call: Call, picture: LoadedPicture, draw: str) -> Steps[Detections | Prediction]:
        """One picture's answer; `draw` is jpeg, png or empty."""

    def infer(self, call: Call, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Steps[InferResult]:
        """Output tensors for input tensors."""

    def models(self) -> Steps[list[ModelInfo]]:
        """What is registered."""

    def is_ready(self, model: str, version: str) -> Steps[bool]:
        """Whether the server, or a model of it, takes requests."""


def drive(steps: Steps[T], exchange: Callable[[Any], Any]) -> T:
    """Run an operation over a transport that blocks."""
    try:
        asked = next(steps)
        while True:
            try:
                reply = exchange(asked)
            except InferoxyError as exc:
                asked = steps.throw(exc)
            else:
                asked = steps.send(reply)
    except StopIteration as done:
        answer: T = done.value
        return answer
    finally:
        steps.close()


async def drive_async(steps: Steps[T], exchange: Callable[[Any], Awaitable[Any]]) -> T:
    """Run an operation over a transport that is awaited."""
    try:
        asked = next(steps)
        while True:
            try:
                reply = await exchange(asked)
            except InferoxyError as exc:
                asked = steps.throw(exc)
            else:
                asked = steps.send(reply)
    except StopIteration as done:
        answer: T = done.value
        return answer
    finally:
        steps.close()


def unreachable(url: str, why: str = "") -> ConnectionFailed:
    """The error for a server that is not there."""
    reason = f" ({why})" if why else ""
    return ConnectionFailed(
        f"cannot connect to {url}{reason}: is the server running there (`inferoxy up`), and is the address right?"
    )


def broken(url: str, why: str = "") -> ConnectionFailed:
    """The error for a connection that ended before the answer; whether the request was run is not known."""
    reason = f" ({why})" if why else ""
    return ConnectionFailed(
        f"the connection to {url} broke before the answer came{reason}: the server may be restarting; try again"
    )
