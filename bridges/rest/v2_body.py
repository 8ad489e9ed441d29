"""The body of an Open Inference Protocol request and answer over HTTP: JSON, binary tensors, or both.

Pure. What parameters and tensors mean is bridges/v2.py's. Big tensors are slices of the body, never copies.
Invariant: whatever the body is, only InvalidRequest is raised.

Source: Open Inference Protocol, "HTTP/REST"; Triton's extension "binary tensor data".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridges import v2
from bridges.rest import json_tensors
from bridges.rest.answers import JSON, HttpAnswer, content_lines, inference_answer, model_lines
from bridges.results import Output
from inferoxy.errors import InvalidRequest
from inferoxy.messages import Served, Tensor

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
    `data` has for each input its bytes, where they stand in the JSON, or how many bytes it has in the binary part.
    `binary` tells by name which outputs are wanted as bytes; others are as `binary_default`.
    """

    id: str
    parameters: dict[str, Any]
    inputs: list[Tensor]
    data: list[memoryview | int]
    outputs: list[str]
    binary: dict[str, bool]
    binary_default: bool

    def cut(self, blob: memoryview) -> list[memoryview]:
        """The bytes of each input, given the binary part of the body; slices of it, not copies.

        Raises:
            InvalidRequest: The binary part is longer or shorter than the inputs say.
        """
        frames: list[memoryview] = []
        at = 0
        for item, data in zip(self.inputs, self.data, strict=True):
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
    data: list[memoryview | int] = []
    for item in request.inputs:
        size = _binary_size(item)
        if size is None:
            decoded = json_tensors.decode(item.name, item.datatype, item.shape, item.data)  # type: ignore[arg-type]
            data.append(memoryview(decoded))
        else:
            data.append(size)
        inputs.append(Tensor(item.name, item.datatype, item.shape))
    outputs: list[str] = []
    binary: dict[str, bool] = {}
    for wanted in request.outputs or ():
        outputs.append(wanted.name)
        if wanted.parameters:
            v2.check_output(wanted.name, wanted.parameters)
            if "binary_data" in wanted.parameters:
                binary[wanted.name] = _flag(wanted.parameters, "binary_data")
    binary_default = _flag(parameters, "binary_data_output")
    return InferBody(request.id or "", parameters, inputs, data, outputs, binary, binary_default)


def format_answer(
    body: InferBody,
    model: str,
    version: str,
    outputs: Sequence[Output],
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
    for tensor, data in outputs:
        if body.is_binary(tensor.name):
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
    """The JSON and the binary part of a body.

    Raises:
        InvalidRequest: The header that says where the one ends is not a possible number.
    """
    given = headers.get(HEADER_LENGTH)
    if given is None:
        return body, body[len(body) :]
    if not _DIGITS.fullmatch(given):
        raise InvalidRequest(f"Inference-Header-Content-Length: expected a number, found {given[:40]!r}")
    length = int(given)
    if length > len(body):
        raise InvalidRequest(f"Inference-Header-Content-Length: expected at most {len(body)}, found {length}")
    if length == 0:
        raise InvalidRequest("Inference-Header-Content-Length: expected a JSON part, found length 0")
    return body[:length], body[length:]


def _binary_size(item: _Input) -> int | None:
    """The bytes that follow for this input; None when its data is in the JSON."""
    parameters = item.parameters or {}
    v2.check_input(item.name, parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        if item.data is UNSET:
            raise InvalidRequest(f"input {item.name!r}: expected data or parameters.binary_data_size, found neither")
        return None
    if item.data is not UNSET:
        raise InvalidRequest(f"input {item.name!r}: expected data or parameters.binary_data_size, found both")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidRequest(f"input {item.name!r}: expected a binary_data_size of at least 0, found {repr(size)[:40]}")
    return size


def _flag(parameters: dict[str, Any], name: str) -> bool:
    found = parameters.get(name, False)
    if not isinstance(found, bool):
        raise InvalidRequest(f"parameter {name!r}: expected true or false, found {repr(found)[:40]}")
    return found
