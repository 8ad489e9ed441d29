"""What the OpenAPI document says of bodies and answers; of those of the Open Inference Protocol, v2_schemas.py.

Nothing is validated by these: handlers.py reads bodies itself.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bridges.rest.predict import RAW_TYPES
from inferoxy.errors import STATUS


class Shown(BaseModel):
    """What is shown to people: the docstrings of fields are their descriptions."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Error(Shown):
    """Any failure."""

    error: str
    """What was expected and what was found."""
    code: str
    """One of the error codes."""
    request_id: str
    """The request's X-Request-Id."""


class Size(Shown):
    """A picture's sides in pixels."""

    width: int
    height: int


class Served(Shown):
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


class PictureResult(Shown):
    """The answer for one picture, or its error."""

    image: Size | None = None
    prediction: Any = None
    """What the model found, such as boxes (xyxy, pixels of the picture), confidence, class_id and class_name."""
    predictions: list[Any] | None = None
    """In place of prediction, of a model that answers any number of times."""
    served: Served | None = None
    error: str | None = None
    code: str | None = None


class Prediction(Shown):
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


class SequenceEnded(Shown):
    """A sequence has ended."""

    model: str
    sequence_id: int | str
    """As the server understood it: a number where it looks like one."""
    ended: Literal[True]


class TensorMetadata(Shown):
    """A declared input or output; -1 is a free dimension."""

    name: str
    datatype: str
    shape: list[int]


class Model(Shown):
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


class ModelList(Shown):
    """All registered models."""

    models: list[Model]


class Live(Shown):
    """The process answers."""

    live: Literal[True]


class Ready(Shown):
    """Requests can be taken."""

    ready: Literal[True]
    name: str | None = None


class PredictBody(Shown):
    """Pictures in JSON: one of `image` and `images`."""

    image: str | list[list[list[int]]] | None = Field(
        default=None, description="Base64 of a JPEG, PNG or WebP file, or rows of [red, green, blue], 0..255."
    )
    images: list[str | list[list[list[int]]]] | None = None
    parameters: dict[str, Any] = {}
    """For the model, such as confidence."""


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its `responses`."""
    codes: dict[int, list[str]] = {}
    for code, status in STATUS.items():
        codes.setdefault(status.http, []).append(code.value)
    return {s: {"model": Error, "description": ", ".join(codes[s])} for s in statuses}


def inline(model: type[BaseModel]) -> dict[str, Any]:
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


BINARY = {"schema": {"type": "string", "format": "binary"}}
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
        **dict.fromkeys(sorted(RAW_TYPES - {""}), BINARY),
        "multipart/form-data": _FORM,
        "application/json": inline(PredictBody),
    },
}
PICTURE_CONTENT: dict[str, Any] = {"image/jpeg": BINARY, "image/png": BINARY}


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
