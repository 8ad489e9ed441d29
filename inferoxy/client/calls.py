"""What the client asks of a protocol, and what each protocol module offers.

A protocol module is pure: its operations are generators that yield one exchange (a round trip in the terms of that
protocol) after another, are sent the reply or thrown the error, and return the typed answer. `drive` and `drive_async`
run them over a transport, the part that has the connection; so both clients share all but the waiting.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from inferoxy import messages as m
from inferoxy.client.pictures import LoadedPicture
from inferoxy.client.results import (
    Detections,
    InferResult,
    ModelInfo,
    Prediction,
    last_prediction,
    last_result,
)
from inferoxy.errors import Code, InferoxyError, InternalError
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
    """What every request carries. `timeout_s` 0: the model's own; `priority` 0: the model's own.

    `sequence` marks a step of a sequence.
    """

    model: str
    version: str = ""
    timeout_s: float = 0.0
    priority: int = 0
    parameters: Mapping[str, Any] = {}
    request_id: str = ""
    sequence: m.Sequence | None = None

    @property
    def wait_s(self) -> float:
        """How long to wait for the server's answer."""
        return self.timeout_s + GRACE_S if self.timeout_s else WAIT_LIMIT_S


class ClientProtocol(ABC):
    """What a protocol module offers; it may cache what it has learned about models."""

    @abstractmethod
    def predict_all(self, call: Call, picture: LoadedPicture, draw: str) -> Steps[list[Detections | Prediction]]:
        """One picture's answers, in one exchange; `draw` is jpeg, png or empty."""

    @abstractmethod
    def infer_all(self, call: Call, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Steps[list[InferResult]]:
        """Output tensors for input tensors, as often as the model gives any, in one exchange."""

    @abstractmethod
    def end(self, call: Call) -> Steps[None]:
        """End the call's sequence, behind its requests that were sent before."""

    @abstractmethod
    def models(self) -> Steps[list[ModelInfo]]:
        """What is registered."""

    @abstractmethod
    def is_ready(self, model: str, version: str) -> Steps[bool]:
        """Whether the server, or a model of it, takes requests."""

    def predict(self, call: Call, picture: LoadedPicture, draw: str) -> Steps[Detections | Prediction]:
        """One picture's answer, the last one if there are several."""
        return last_prediction((yield from self.predict_all(call, picture, draw)))

    def infer(self, call: Call, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Steps[InferResult]:
        """Output tensors for input tensors, the last ones if the model gives several."""
        return last_result((yield from self.infer_all(call, inputs, outputs)))


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


def conclude(steps: Steps[T], reply: Any, error: InferoxyError | None = None) -> T:
    """The outcome of an operation whose only exchange has been made: with this reply, or this error."""
    try:
        if error is None:
            steps.send(reply)
        else:
            steps.throw(error)
    except StopIteration as done:
        answer: T = done.value
        return answer
    finally:
        steps.close()
    raise InternalError("an operation of several exchanges cannot be begun and concluded apart")


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
