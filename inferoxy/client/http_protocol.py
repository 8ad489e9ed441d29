"""Client operations as HTTP requests to the REST bridge. Pure: see calls.py.

A picture is the body of one POST: a file as it is, an array as a PNG whose pixels are stored. Tensors, and pictures of
which a drawing is wanted too, travel as the Open Inference Protocol's binary extension, never as JSON numbers.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from inferoxy import tensors
from inferoxy.client import v2
from inferoxy.client.calls import METADATA_S, Call, ClientProtocol, Steps
from inferoxy.client.pictures import EncodedPicture, LoadedPicture
from inferoxy.client.png import stored_png
from inferoxy.client.results import (
    Detections,
    InferResult,
    ModelInfo,
    Prediction,
    Served,
    Size,
    answer_from,
)
from inferoxy.errors import InferoxyError, InternalError, InvalidRequest, ModelNotFound, ModelUnavailable, error_from
from inferoxy.messages import TensorSpec
from inferoxy.tensors import Array

JSON = "application/json"
HEADER_LENGTH = "inference-header-content-length"
_REQUEST_ID = "x-request-id"
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
# Fields of the query that say how to serve the request; a model's parameter of such a name travels in a JSON body.
_RESERVED = frozenset({"timeout_ms", "priority", "version", "sequence_id", "sequence_start", "sequence_end"})
_LOOKS_TYPED = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?|true|false", re.IGNORECASE)
_INTEGER_LIMIT = 10**18


class HttpExchange(NamedTuple):
    """One request; `path` begins behind the server's base URL."""

    method: str
    path: str
    wait_s: float
    headers: Mapping[str, str] = {}
    body: bytes = b""


class HttpReply(NamedTuple):
    """Its answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpProtocol(ClientProtocol):
    """One per client; keeps nothing between calls.

    Args:
        url: The server's, for messages to people.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def predict_all(self, call: Call, picture: LoadedPicture, draw: str) -> Steps[list[Detections | Prediction]]:
        """One picture's answers. With a drawing there is one: the Open Inference Protocol has no room for more."""
        if draw:
            sent, size = v2.picture_input(picture)
            answered = yield from self._infer(call, [sent], v2.prediction_outputs(draw), {"draw": draw})
            return [v2.prediction_from(call, answered, size)]
        if isinstance(picture, EncodedPicture):
            size, body, kind = Size(*picture.seen_size), bytes(picture.data), f"image/{picture.encoding}"
        else:
            size, body, kind = Size(picture.shape[1], picture.shape[0]), stored_png(picture), "image/png"
        query = _options(call)
        if all(_fits_query(name, value) for name, value in call.parameters.items()):
            query |= {name: _as_text(value) for name, value in call.parameters.items()}
        else:
            body, kind = _json({"image": base64.b64encode(body).decode(), "parameters": dict(call.parameters)}), JSON
        path = f"/v1/models/{quote(call.model, safe='')}/predict"
        headers = {"content-type": kind, "accept": JSON, _REQUEST_ID: call.request_id}
        reply: HttpReply = yield HttpExchange("POST", _with_query(path, query), call.wait_s, headers, body)
        return self._predictions(self._content(reply), size)

    def infer_all(self, call: Call, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Steps[list[InferResult]]:
        """Output tensors for input tensors; there is one answer."""
        answered = yield from self._infer(call, v2.tensor_inputs(inputs), outputs, {})
        return [v2.result_from(call, answered)]

    def end(self, call: Call) -> Steps[None]:
        """End the call's sequence."""
        yield from self._infer(call, [], (), {})

    def models(self) -> Steps[list[ModelInfo]]:
        """What is registered."""
        reply: HttpReply = yield HttpExchange("GET", "/v1/models", METADATA_S)
        content = self._content(reply)
        try:
            return [_info(item) for item in content["models"]]
        except (KeyError, TypeError) as exc:
            raise self._unexpected(reply) from exc

    def is_ready(self, model: str, version: str) -> Steps[bool]:
        """Whether the server, or a model of it, takes requests."""
        path = "/readyz"
        if model:
            path = f"{_v2_path(model, version)}/ready"
        reply: HttpReply = yield HttpExchange("GET", path, METADATA_S)
        try:
            self._content(reply)
        except (ModelUnavailable, ModelNotFound):
            return False
        return True

    def _infer(
        self, call: Call, inputs: list[v2.Input], outputs: Sequence[str], more: dict[str, Any]
    ) -> Steps[v2.Answered]:
        content: dict[str, Any] = {
            "id": call.request_id,
            "parameters": {**v2.request_parameters(call), **more, "binary_data_output": True},
            "inputs": [
                {
                    "name": sent.tensor.name,
                    "datatype": sent.tensor.datatype,
                    "shape": sent.tensor.shape,
                    "parameters": {"binary_data_size": len(sent.data)},
                }
                for sent in inputs
            ],
        }
        if outputs:
            content["outputs"] = [{"name": name} for name in outputs]
        head = _json(content)
        headers = {
            "content-type": "application/octet-stream",
            HEADER_LENGTH: str(len(head)),
            _REQUEST_ID: call.request_id,
        }
        body = b"".join((head, *(sent.data for sent in inputs)))
        path = f"{_v2_path(call.model, call.version)}/infer"
        reply: HttpReply = yield HttpExchange("POST", path, call.wait_s, headers, body)
        return self._answered(reply)

    def _answered(self, reply: HttpReply) -> v2.Answered:
        length = reply.headers.get(HEADER_LENGTH, "")
        end = int(length) if length.isdecimal() and reply.status == 200 else len(reply.body)
        content = self._content(reply._replace(body=reply.body[:end]))
        found: dict[str, Array] = {}
        blobs = memoryview(reply.body)
        at = end
        try:
            for item in content["outputs"]:
                stop = at + item["parameters"]["binary_data_size"]
                array = tensors.from_bytes(item["name"], item["datatype"], item["shape"], blobs[at:stop])
                found[item["name"]] = array.copy()
                at = stop
            return v2.Answered(
                found,
                content.get("model_version", ""),
                content.get("id", ""),
                v2.served_from(reply.headers),
                content.get("parameters", {}),
            )
        except (KeyError, TypeError, InvalidRequest) as exc:
            raise self._unexpected(reply) from exc

    def _predictions(self, content: dict[str, Any], size: Size) -> list[Detections | Prediction]:
        served = content.get("served", {})
        about: dict[str, Any] = {
            "image_size": size,
            "model": content.get("model", ""),
            "version": content.get("version", ""),
            "request_id": content.get("request_id", ""),
            "served": Served(**{key: value for key, value in served.items() if key in Served.__dataclass_fields__}),
        }
        several = content["predictions"] if "predictions" in content else [content.get("prediction")]
        return [answer_from(prediction, **about) for prediction in several]

    def _content(self, reply: HttpReply) -> dict[str, Any]:
        """The JSON object of an answer.

        Raises:
            InferoxyError: The answer is an error, or none of the REST bridge.
        """
        try:
            content = _DECODER.decode(reply.body)
        except msgspec.DecodeError as exc:
            raise self._unexpected(reply) from exc
        if not isinstance(content, dict):
            raise self._unexpected(reply)
        if reply.status == 200:
            return content
        if "error" not in content:
            raise self._unexpected(reply)
        if "code" not in content:
            raise InternalError(f"{self._url} answered HTTP {reply.status}: {content['error']}")
        raise error_from(str(content["code"]), str(content["error"]), str(content.get("request_id", "")))

    def _unexpected(self, reply: HttpReply) -> InferoxyError:
        kind = reply.headers.get("content-type", "nothing")
        return InternalError(
            f"{self._url} answered HTTP {reply.status} with {kind}, expected Inferoxy's JSON: is that its REST address?"
        )


def _options(call: Call) -> dict[str, str]:
    options: dict[str, str] = {}
    if call.version:
        options["version"] = call.version
    if call.timeout_s:
        options["timeout_ms"] = f"{call.timeout_s * 1e3:.3f}"
    if call.priority:
        options["priority"] = str(call.priority)
    step = call.sequence
    if step is not None:
        options["sequence_id"] = str(step.id)
        options |= {"sequence_start": "true"} if step.start else {}
        options |= {"sequence_end": "true"} if step.end else {}
    return options


def _fits_query(name: str, value: Any) -> bool:
    """Whether the server reads the value's text as the value itself."""
    if name in _RESERVED:
        return False
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -_INTEGER_LIMIT < value < _INTEGER_LIMIT
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) and not _LOOKS_TYPED.fullmatch(value)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(float(value) if isinstance(value, float) else int(value))


def _v2_path(model: str, version: str) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _with_query(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _json(content: Any) -> bytes:
    try:
        return _ENCODER.encode(content)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidRequest(f"parameters: expected what JSON can hold ({exc})") from exc


def _info(item: dict[str, Any]) -> ModelInfo:
    return ModelInfo(
        name=item["name"],
        version=item["version"],
        state=item["state"],
        ready=item["ready"],
        error=item.get("error", ""),
        default=item.get("default"),
        stateless=item.get("stateless"),
        batch_size=item.get("batch_size"),
        platform=item.get("platform", ""),
        inputs=tuple(_spec(spec) for spec in item.get("inputs", ())),
        outputs=tuple(_spec(spec) for spec in item.get("outputs", ())),
    )


def _spec(item: dict[str, Any]) -> TensorSpec:
    return TensorSpec(item["name"], item["datatype"], tuple(item["shape"]))
