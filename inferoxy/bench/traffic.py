"""The questions of a plan: the bytes that each protocol sends for them, and what the answers mean.

The client's own protocol modules encode and decode, so that what is measured is what users send; the bytes are made
once, before the load.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np

from inferoxy.bench.plan import Plan, parse_tensor, synthesize
from inferoxy.client import address as addresses
from inferoxy.client.calls import Call, Steps
from inferoxy.client.http_protocol import HttpExchange, HttpReply
from inferoxy.client.pictures import EncodedPicture, load
from inferoxy.client.protocols import protocol_for
from inferoxy.client.results import Detections, InferResult, Prediction, Served
from inferoxy.client.v2 import PREDICTION, served_from
from inferoxy.errors import InternalError, InvalidRequest, error_from

TOLERANCE = 1e-3  # relative; a model may compute a little differently in a larger batch

Answer = InferResult | Detections | Prediction


class Question(NamedTuple):
    """One request that can be sent any number of times. `name` is for people."""

    name: str
    steps: Callable[[], Steps[Any]]

    def exchange(self) -> Any:
        """What is sent, in the terms of the protocol: HttpExchange, GrpcExchange or Ask."""
        steps = self.steps()
        try:
            return next(steps)
        finally:
            steps.close()

    def read(self, reply: Any) -> Answer:
        """What a reply in the terms of the protocol means.

        Raises:
            InferoxyError: It is an error, or none of this protocol.
        """
        steps = self.steps()
        next(steps)
        try:
            steps.send(reply)
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        finally:
            steps.close()
        raise InternalError("the answer asks for another request")


def questions(plan: Plan) -> list[Question]:
    """The plan's requests, which are sent in turn.

    Raises:
        InvalidRequest: The plan asks for nothing, or for what its protocol cannot carry.
        OSError: A file cannot be read.
    """
    address = addresses.parse(plan.url)
    if plan.form == "v2" and address.protocol == "zmq":
        raise InvalidRequest(f"protocol: v2 is spoken over http:// and grpc://, found {plan.url}")
    if plan.body:
        if address.protocol != "http":
            raise InvalidRequest(f"body: a V2 JSON body is sent over http://, found {plan.url}")
        return [_from_body(plan)]
    protocol = protocol_for(address)
    call = Call(plan.model, plan.version)
    if plan.tensors:
        tensors = [parse_tensor(text) for text in plan.tensors]
        inputs = {tensor.name: synthesize(tensor, plan.seed) for tensor in tensors}
        return [Question(", ".join(plan.tensors), lambda: protocol.infer(call, inputs, ()))]
    asked: list[Question] = []
    for file in plan.pictures:
        picture = load(file)
        if plan.form == "v2" and isinstance(picture, EncodedPicture):
            boxed = {"": np.array([bytes(picture.data)], object)}
            asked.append(Question(file, lambda boxed=boxed: protocol.infer(call, boxed, (PREDICTION,))))  # type: ignore[misc]
        else:
            asked.append(Question(file, lambda picture=picture: protocol.predict(call, picture, "")))  # type: ignore[misc]
    if not asked:
        raise InvalidRequest("nothing to send: expected pictures, tensors or a body")
    return asked


def served_of(answer: Answer) -> Served:
    """How a request was served."""
    return answer.served


def content_of(answer: Answer) -> Any:
    """What was answered, for `alike`."""
    return dict(answer) if isinstance(answer, InferResult) else answer.value


def alike(one: Any, other: Any) -> bool:
    """Whether two contents say the same, apart from rounding."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if one.dtype.kind != "f":
            return bool((one == other).all())
        return np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    if isinstance(one, float) and isinstance(other, float | int):
        return bool(np.isclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool(one == other)


def unexpected(answer: Answer, expected: Mapping[str, list[float]]) -> str:
    """What an answer's tensors should have held and did not; empty when they did."""
    content = content_of(answer)
    for name, values in expected.items():
        found = content.get(name)
        if not isinstance(found, np.ndarray) or found.size != len(values):
            return f"output {name!r}: expected {len(values)} values, found {getattr(found, 'size', 'none')}"
        if not np.allclose(found.ravel().astype(np.float64), values, rtol=TOLERANCE, atol=TOLERANCE):
            return f"output {name!r}: expected {values[:4]} …, found {found.ravel()[:4].tolist()} …"
    return ""


def _from_body(plan: Plan) -> Question:
    body = Path(plan.body).read_bytes()
    try:
        msgspec.json.decode(body)
    except msgspec.DecodeError as exc:
        raise InvalidRequest(f"body: expected JSON in {plan.body}, {exc}") from exc
    version = f"/versions/{quote(plan.version, safe='')}" if plan.version else ""
    path = f"/v2/models/{quote(plan.model, safe='')}{version}/infer"

    def steps() -> Steps[Prediction]:
        headers = {"content-type": "application/json"}
        reply: HttpReply = yield HttpExchange("POST", path, plan.duration_s, headers, body)
        content = msgspec.json.decode(reply.body)
        if reply.status != 200:
            raise error_from(str(content.get("code", "INTERNAL")), str(content.get("error", "")))
        return Prediction(value={"outputs": content.get("outputs")}, served=served_from(reply.headers))

    return Question(plan.body, steps)
