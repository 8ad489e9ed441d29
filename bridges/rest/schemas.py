"""What the OpenAPI document says of bodies and answers.

Nothing is validated by these: handlers.py reads bodies itself.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bridges.rest.predict import RAW_TYPES
from inferoxy.errors import STATUS


class _Shown(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Error(_Shown):
    """Any failure."""

    error: str
    """What was expected and what was found."""
    code: str
    """One of the error codes."""
    request_id: str
    """The request's X-Request-Id."""


class Size(_Shown):
    """A picture's sides in pixels."""

    width: int
    height: int


class Served(_Shown):
    """How a request was served."""

    queue_ms: float
    """Time in the queue."""
    compute_ms: float
    """Time the model took for the batch."""
    decode_ms: float
    """Time until the batch's pictures were decoded."""
    batch_size: int
    """Requests in the batch."""
    closed: str
    """Why the batch was sent: full, idle, delay, deadline or alone."""
    instance: str
    """The instance that ran it."""


class PictureResult(_Shown):
    """The answer for one picture, or its error."""

    image: Size | None = None
    prediction: Any = None
    """What the model found, such as boxes (xyxy, pixels of the picture), confidence, class_id and class_name."""
    predictions: list[Any] | None = None
    """In place of prediction, of a model that answers any number of times."""
    served: Served | None = None
    error: str | None = None
    code: str | None = None


class Prediction(_Shown):
    """The answer for one picture, or for several (`results`, in order)."""

    model: str
    version: str
    request_id: str
    image: Size | None = None
    prediction: Any = None
    predictions: list[Any] | None = None
    served: Served | None = None
    results: list[PictureResult] | None = None
    """One entry per picture, of multipart and `images` requests; some may be errors."""


class SequenceEnded(_Shown):
    """A sequence has ended."""

    model: str
    sequence_id: int | str
    """As the server understood it: a number where it looks like one."""
    ended: Literal[True]


class TensorMetadata(_Shown):
    """A declared input or output; -1 is a free dimension."""

    name: str
    datatype: str
    shape: list[int]


class Model(_Shown):
    """A registered model version."""

    name: str
    version: str
    default: bool
    state: str
    """starting, ready, idle or failing."""
    ready: bool
    """Whether a request would be run."""
    error: str
    platform: str
    stateless: bool
    batch_size: int
    priority: int
    timeout_ms: float
    instances: int
    inputs: list[TensorMetadata]
    """Empty until an instance has declared them."""
    outputs: list[TensorMetadata]
    metadata: dict[str, str]
    versions: list[str] | None = None


class ModelList(_Shown):
    """All registered models."""

    models: list[Model]


class Live(_Shown):
    """The process answers."""

    live: Literal[True]


class Ready(_Shown):
    """Requests can be taken."""

    ready: Literal[True]
    name: str | None = None


class ServerMetadata(_Shown):
    """The server and what it can do beyond the protocol's core."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(_Shown):
    """A model as the Open Inference Protocol shows it."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class PredictBody(_Shown):
    """Pictures in JSON: one of `image` and `images`."""

    image: str | list[list[list[int]]] | None = Field(
        default=None, description="Base64 of a JPEG, PNG or WebP file, or rows of [red, green, blue], 0..255."
    )
    images: list[str | list[list[list[int]]]] | None = None
    parameters: dict[str, Any] = {}
    """For the model, such as confidence."""


class InferTensor(_Shown):
    """A tensor: its elements in `data`, or `parameters.binary_data_size` bytes behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class RequestedOutput(_Shown):
    """An output that is wanted."""

    name: str
    parameters: dict[str, Any] = {}
    """binary_data: whether it is wanted as bytes."""


class InferBody(_Shown):
    """An inference request of the Open Inference Protocol."""

    id: str = ""
    parameters: dict[str, Any] = {}
    """binary_data_output, sequence_id, _start, _end, priority, timeout in microseconds; others go to the model."""
    inputs: list[InferTensor] = []
    """May be left out with sequence_end: then nothing is run, the sequence ends, and the answer has no outputs."""
    outputs: list[RequestedOutput] = []


class InferAnswer(_Shown):
    """An inference answer of the Open Inference Protocol."""

    id: str = ""
    model_name: str
    model_version: str
    parameters: dict[str, Any] = {}
    outputs: list[InferTensor]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its `responses`."""
    codes: dict[int, list[str]] = {}
    for code, status in STATUS.items():
        codes.setdefault(status.http, []).append(code.value)
    return {s: {"model": Error, "description": ", ".join(codes[s])} for s in statuses}


def _inline(model: type[BaseModel]) -> dict[str, Any]:
    """A schema that needs no components: FastAPI only collects those of declared bodies."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolve(definitions[node["$ref"].rsplit("/", 1)[1]])
            return {key: resolve(value) for key, value in node.items()}
        return [resolve(item) for item in node] if isinstance(node, list) else node

    return {"schema": resolve(schema)}


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "additionalProperties": {"type": "string", "format": "binary"},
        "description": "Any number of files, each a picture; other fields are parameters for the model.",
    }
}

PREDICT_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        **dict.fromkeys(sorted(RAW_TYPES - {""}), _BINARY),
        "multipart/form-data": _FORM,
        "application/json": _inline(PredictBody),
    },
}
INFER_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": _inline(InferBody), "application/octet-stream": _BINARY},
}
PICTURE_CONTENT: dict[str, Any] = {"image/jpeg": _BINARY, "image/png": _BINARY}
BINARY_CONTENT: dict[str, Any] = {"application/octet-stream": _BINARY}


def query(name: str, kind: str, description: str) -> dict[str, Any]:
    """A query parameter."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": {"type": kind}}


END_QUERY = [
    query("version", "string", "The model's version; without it the default one."),
    query("timeout_ms", "number", "How long the request may take; 0: the model's own timeout."),
    query("priority", "integer", "Higher goes first; 0: the model's own priority."),
]
PREDICT_QUERY = [
    *END_QUERY,
    query("sequence_id", "string", "The sequence this request is a step of, of a stateful model."),
    query("sequence_start", "boolean", "Whether it is the first step; of several pictures the first one."),
    query("sequence_end", "boolean", "Whether it is the last step; of several pictures the last one."),
    {
        "name": "parameters",
        "in": "query",
        "required": False,
        "description": "Every other query parameter goes to the model, such as confidence=0.5.",
        "style": "form",
        "explode": True,
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    },
]
INFER_HEADERS = [
    {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "Bytes of the JSON at the front of a body that ends in binary tensors.",
        "schema": {"type": "integer", "minimum": 1},
    }
]
