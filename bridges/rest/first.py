"""`POST /infer` as the first Inferoxy had it: the body, what is wrong with it, and the answer.

Pure. What inputs and outputs mean is bridges/legacy's; a body that is not as it must be is told so in the form of
FastAPI's validation, which those clients know.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridges.legacy.inputs import Sent
from bridges.legacy.outputs import Given, failed
from bridges.rest import json_numbers, schemas
from bridges.rest.answers import HttpAnswer, json_answer
from inferoxy.errors import ModelError
from inferoxy.tensors import Array

UNPROCESSABLE = 422
MAX_FAULTS = 100  # of one body that are told
SHOWN_CHARACTERS = 200  # of a wrong value

Datatype = Literal["fp16", "fp32", "uint8", "int8", "bool"]

_ENCODE = msgspec.json.Encoder().encode


class Input(Struct):
    """One input; its numbers are read when it is its turn."""

    data: msgspec.Raw
    parameters: dict[str, Any]
    shape: list[int] | None = None
    datatype: Datatype | None = None

    def sent(self) -> Sent:
        """The input with its numbers.

        Raises:
            InvalidRequest: They are none.
        """
        return Sent(json_numbers.read(bytes(self.data)), self.shape, self.datatype, self.parameters)


class Body(Struct):
    """A request."""

    source_id: str
    model: str
    inputs: list[Input]


class InferInput(BaseModel):
    """One input of the first Inferoxy's request."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    data: Any
    """The numbers, as a flat or nested list."""
    shape: list[int] | None = None
    """What they are reshaped to; a picture is [height, width, 3]."""
    datatype: Datatype | None = None
    """For a model that takes no pictures: what the numbers become."""
    parameters: dict[str, Any]
    """For the model, and given back. `stateless` true: this input continues no sequence; `init`: its arguments."""


class InferBody(BaseModel):
    """A request of the first Inferoxy."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())

    source_id: str
    """Whose it is; with a stateful model the name of the sequence, which begins by itself."""
    model: str
    """The model's name."""
    inputs: list[InferInput]
    """Each is answered by one output or more."""


class InferOutput(BaseModel):
    """One output of the first Inferoxy's answer."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    shape: list[int] | None
    """Of the picture the model gave; null, as datatype and data, where it gave none."""
    datatype: Literal["uint8"] | None
    data: list[int] | None = Field(description="Its pixels, flat.")
    output: Any
    """The prediction."""
    parameters: dict[str, Any]
    """The input's, with what the model adds."""
    error: str | None
    """A code in brackets and what happened, or null."""


class InferAnswer(BaseModel):
    """An answer of the first Inferoxy; outputs in the order in which they came."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: str
    outputs: list[InferOutput]
    source_id: str


class Faults(BaseModel):
    """What is wrong with a body, in FastAPI's form."""

    detail: list[dict[str, Any]]


class Unprocessable(Exception):
    """A body is not as it must be; `detail` says where, in FastAPI's form."""

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(detail)} faults")
        self.detail = detail


_DECODER = msgspec.json.Decoder(Body)
_VALIDATOR = InferBody.model_validate


def read_body(body: memoryview) -> Body:
    """The request in a body.

    Raises:
        Unprocessable: It is not as it must be.
    """
    if not len(body):
        raise Unprocessable([{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}])
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Unprocessable(_faults(body, str(exc))) from exc


def unprocessable(exc: Unprocessable, request_id: str) -> HttpAnswer:
    """The answer to a body that is not as it must be."""
    return json_answer(UNPROCESSABLE, {"detail": exc.detail}, request_id)


def encode_output(given: Given) -> bytes:
    """One output, as it stands in the answer; what JSON cannot hold becomes its error."""
    try:
        return _encode(given)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        reason = ModelError(f"the model's prediction cannot be JSON: {exc}")
    return _encode(failed(reason, {}))


def answer_parts(body: Body, encoded: Sequence[bytes]) -> list[bytes]:
    """The body of an answer, in parts.

    Args:
        body: The request.
        encoded: Its outputs.
    """
    head = b'{"model":%b,"outputs":[' % _ENCODE(body.model)
    parts = [head]
    for output in encoded:
        parts += (output, b",")
    if encoded:
        parts.pop()
    parts.append(b'],"source_id":%b}' % _ENCODE(body.source_id))
    return parts


def _encode(given: Given) -> bytes:
    picture: Array | None = given.picture
    shape, datatype, data = (b"null", b"null", b"null")
    if picture is not None:
        shape, datatype, data = _ENCODE(picture.shape), b'"uint8"', json_numbers.write(picture)
    return b'{"shape":%b,"datatype":%b,"data":%b,"output":%b,"parameters":%b,"error":%b}' % (
        shape, datatype, data, _ENCODE(given.prediction), _ENCODE(given.parameters), _ENCODE(given.error),
    )  # fmt: skip


def _faults(body: memoryview, why: str) -> list[dict[str, Any]]:
    """All that is wrong: reading stops at the first fault, so what can be read at all is looked at again."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        about = {"type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error"}
        return [{**about, "input": {}, "ctx": {"error": why}}]
    try:
        _VALIDATOR(found, strict=True)
    except ValidationError as exc:
        faults = exc.errors(include_url=False, include_context=False)[:MAX_FAULTS]
        return [{**fault, "loc": ["body", *fault["loc"]], "input": _shown(fault["input"])} for fault in faults]
    return [{"type": "value_error", "loc": ["body"], "msg": why, "input": _shown(found)}]


def _shown(value: Any) -> Any:
    """A wrong value, if it is short."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value[:SHOWN_CHARACTERS]
    return {} if isinstance(value, dict) else []


INFER_BODY: dict[str, Any] = {"required": True, "content": {"application/json": schemas.inline(InferBody)}}
