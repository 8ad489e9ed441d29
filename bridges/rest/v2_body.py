"""The body of an Open Inference Protocol request and answer over HTTP: JSON, binary tensors, or both.

Pure. What parameters and tensors mean is bridges/v2.py's. Big tensors are slices of the body, never copies.
Invariant: whatever the body is, only InvalidRequest is raised.

Source: Open Inference Protocol, "HTTP/REST"; Triton's extension "binary tensor data".
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridges import picture_gate, v2
from bridges.models import describe_inputs, takes_picture
from bridges.rest import json_tensors
from bridges.rest.answers import JSON, HttpAnswer, content_lines, inference_answer, model_lines
from bridges.v2_outputs import Delivered, Wanted, wanted_of
from bridges.v2_regions import Place, Regions
from inferoxy.errors import InvalidRequest
from inferoxy.messages import ModelView, Served, Tensor
from inferoxy.tensors import BYTES, element_bytes, encode_strings

HEADER_LENGTH = b"inference-header-content-length"
BINARY = b"application/octet-stream"
_DIGITS = re.compile(rb"\d{1,15}")


class _Input(Struct):
    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw | UnsetType = UNSET


class _Output(Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Infer(Struct):
    inputs: list[_Input] = []
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class _AnswerOutput(Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, int] = {}
    data: list[Any] | UnsetType = UNSET


class _Answer(Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_AnswerOutput]
    id: str = ""
    parameters: dict[str, Any] = {}


_DECODER = msgspec.json.Decoder(_Infer)
_ENCODER = msgspec.json.Encoder()


class InferBody(NamedTuple):
    """What the JSON part of a body says.

    There may be no inputs: requests.is_bare_end tells whether there should be.
    `data` has for each input its bytes, where they stand in the JSON, how many bytes it has in the binary part, or its
    place in shared memory. Outputs that do not say in which form they are wanted are as `binary_default`.
    """

    id: str
    parameters: dict[str, Any]
    inputs: list[Tensor]
    data: list[memoryview | int | Place]
    wanted: list[Wanted]
    binary: dict[str, bool]
    binary_default: bool

    @property
    def outputs(self) -> list[str]:
        """The names of the wanted outputs."""
        return [item.name for item in self.wanted]

    def cut(self, blob: memoryview, regions: Regions) -> list[memoryview]:
        """The bytes of each input: slices of the binary part of the body, or what lies in shared memory now.

        Raises:
            InvalidRequest: The binary part is longer or shorter than the inputs say, or a place is none.
            PayloadTooLarge: There is too much in shared memory.
        """
        frames: list[memoryview] = []
        at = shared = 0
        for item, data in zip(self.inputs, self.data, strict=True):
            if isinstance(data, Place):
                frames.append(regions.read(data, shared))
                shared += data.size
                continue
            if not isinstance(data, int):
                frames.append(data)
                continue
            if at + data > len(blob):
                raise InvalidRequest(
                    f"input {item.name!r}: expected {data} binary bytes, found {len(blob) - at} left in the body"
                )
            frames.append(blob[at : at + data])
            at += data
        if at != len(blob):
            raise InvalidRequest(f"body: expected {at} binary bytes by the inputs' binary_data_size, found {len(blob)}")
        return frames

    def is_binary(self, output: str) -> bool:
        """Whether this output is wanted as bytes."""
        return self.binary.get(output, self.binary_default)


def parse(head: memoryview) -> InferBody:
    """Read the JSON part of the body of an inference request.

    Raises:
        InvalidRequest: It is not what the protocol says; the message names the field, expected and found.
    """
    try:
        request = _DECODER.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"body: expected an inference request as JSON ({exc})") from exc
    parameters = request.parameters or {}
    inputs: list[Tensor] = []
    data: list[memoryview | int | Place] = []
    for item in request.inputs:
        where = _where(item)
        if where is None:
            decoded = json_tensors.decode(item.name, item.datatype, item.shape, item.data)  # type: ignore[arg-type]
            data.append(memoryview(decoded))
        else:
            data.append(where)
        inputs.append(Tensor(item.name, item.datatype, item.shape))
    wanted = [wanted_of(item.name, item.parameters) for item in request.outputs or ()]
    binary = {item.name: item.binary for item in wanted if item.binary is not None}
    binary_default = _flag(parameters, "binary_data_output")
    return InferBody(request.id or "", parameters, inputs, data, wanted, binary, binary_default)


def raw(view: ModelView | None, blob: memoryview) -> tuple[InferBody, memoryview]:
    """A body without a JSON part, as (what it means, its binary part): all of it is the model's only input.

    All outputs are wanted as bytes.

    Its shape is what the model declares, with a batch axis of 1 and one free dimension that the size decides; of a
    picture model the body is an encoded picture.

    Raises:
        InvalidRequest: The model has not one input, its inputs are not known yet, or the size fits no shape.
    """
    declared = view.inputs if view is not None else []
    is_picture = takes_picture(view)
    if is_picture or (is_picture is None and not declared and picture_gate.sniff(blob)):
        return _element(declared[0].name if declared else "", blob), blob[len(blob) :]
    if view is None or len(declared) != 1:
        found = "a model that has not declared its inputs yet" if not (view and declared) else describe_inputs(view)
        raise InvalidRequest(f"Inference-Header-Content-Length 0: expected a model with one input, found {found}")
    spec = declared[0]
    if spec.datatype == BYTES:
        return _element(spec.name, blob), blob[len(blob) :]
    shape = [1, *spec.shape[1:]] if view.stacked else list(spec.shape)
    one = element_bytes(spec.datatype) * math.prod(d for d in shape if d >= 0)
    free = [at for at, d in enumerate(shape) if d < 0]
    if len(free) == 1 and one and len(blob) % one == 0:
        shape[free[0]] = len(blob) // one
    elif free or one != len(blob):
        what = f"{spec.name} {spec.datatype} {list(spec.shape)}"
        raise InvalidRequest(f"body: expected the bytes of {what} with one free dimension, found {len(blob)} bytes")
    return InferBody("", {}, [Tensor(spec.name, spec.datatype, tuple(shape))], [len(blob)], [], {}, True), blob


def _element(name: str, blob: memoryview) -> InferBody:
    data = memoryview(encode_strings([bytes(blob)]))
    return InferBody("", {}, [Tensor(name, BYTES, (1,))], [data], [], {}, True)


def format_answer(
    body: InferBody,
    model: str,
    version: str,
    outputs: Sequence[Delivered],
    parameters: dict[str, Any],
    request_id: str,
    served: Served,
) -> HttpAnswer:
    """The answer to an inference request, each output in the form that was asked for.

    Raises:
        InvalidRequest: An output cannot be JSON.
    """
    described: list[_AnswerOutput] = []
    blobs: list[memoryview] = []
    for (tensor, data), is_placed in outputs:
        if is_placed:
            described.append(_AnswerOutput(tensor.name, tensor.datatype, tensor.shape))
        elif body.is_binary(tensor.name):
            blobs.append(data)
            size = {"binary_data_size": len(data)}
            described.append(_AnswerOutput(tensor.name, tensor.datatype, tensor.shape, size))
        else:
            items = json_tensors.encode(tensor, data)
            described.append(_AnswerOutput(tensor.name, tensor.datatype, tensor.shape, data=items))
    head = _ENCODER.encode(_Answer(model, version, described, body.id, parameters))
    length = sum(map(len, blobs))
    return inference_answer(
        answer_lines(model, version, head, length if blobs else None), request_id, served, [head, *blobs]
    )


def answer_lines(model: str, version: str, head: bytes, binary_bytes: int | None) -> bytes:
    """The header lines that all answers with this JSON part and so many binary bytes have; None: no binary part."""
    if binary_bytes is None:
        return content_lines(JSON, len(head)) + model_lines(model, version)
    length = b"%b: %d\r\n" % (HEADER_LENGTH, len(head))
    return content_lines(BINARY, len(head) + binary_bytes) + length + model_lines(model, version)


def split(headers: Mapping[bytes, bytes], body: memoryview) -> tuple[memoryview, memoryview]:
    """The JSON and the binary part of a body; the JSON part is empty where the header says so.

    Raises:
        InvalidRequest: The header that says where the one ends is not a possible number, or there is no body.
    """
    given = headers.get(HEADER_LENGTH)
    if given is None:
        if not len(body):
            raise InvalidRequest("body: expected an inference request as JSON, found nothing")
        return body, body[len(body) :]
    if not _DIGITS.fullmatch(given):
        raise InvalidRequest(f"Inference-Header-Content-Length: expected a number, found {given[:40]!r}")
    length = int(given)
    if length > len(body):
        raise InvalidRequest(f"Inference-Header-Content-Length: expected at most {len(body)}, found {length}")
    return body[:length], body[length:]


def _where(item: _Input) -> int | Place | None:
    """How many bytes follow for this input, or where it lies; None when its data is in the JSON."""
    parameters = item.parameters or {}
    place = v2.place_of_input(item.name, parameters)
    size = parameters.get("binary_data_size")
    given = {
        "data": item.data is not UNSET,
        "binary_data_size": size is not None,
        "shared_memory_region": place is not None,
    }
    found = [name for name, is_there in given.items() if is_there]
    if len(found) != 1:
        raise InvalidRequest(
            f"input {item.name!r}: expected one of {', '.join(given)}, found {' and '.join(found) or 'none of them'}"
        )
    if place is not None or size is None:
        return place
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidRequest(f"input {item.name!r}: expected a binary_data_size of at least 0, found {repr(size)[:40]}")
    return size


def _flag(parameters: dict[str, Any], name: str) -> bool:
    found = parameters.get(name, False)
    if not isinstance(found, bool):
        raise InvalidRequest(f"parameter {name!r}: expected true or false, found {repr(found)[:40]}")
    return found
