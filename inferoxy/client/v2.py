"""What the Open Inference Protocol v2 means to the client, over HTTP and gRPC alike.

Pure. Pictures travel as the model's only input, without a name: an encoded one as BYTES [1], an array as UINT8
[height, width, 3]. The prediction comes back as the output "prediction", BYTES [1] of JSON; the drawn picture as the
output "picture", BYTES [1].
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from inferoxy import tensors
from inferoxy.client.calls import Call
from inferoxy.client.pictures import EncodedPicture, LoadedPicture
from inferoxy.client.results import Detections, InferResult, Prediction, Served, Size, answer_from
from inferoxy.errors import InternalError, InvalidRequest
from inferoxy.messages import Tensor
from inferoxy.tensors import Array

PREDICTION = "prediction"
PICTURE = "picture"
_RESERVED = frozenset({"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output"})
_URGENCY = 1_000  # the protocol's priority 1 is the most urgent, ours the larger number
_JSON: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class Input(NamedTuple):
    """An input tensor and its bytes."""

    tensor: Tensor
    data: bytes | memoryview


class Answered(NamedTuple):
    """What came back: arrays by name, how it was served, and the rest."""

    tensors: dict[str, Array]
    version: str
    request_id: str
    served: Served
    parameters: dict[str, Any]


def request_parameters(call: Call) -> dict[str, Any]:
    """The request's parameters: the model's, and the protocol's own for timeout, priority and sequence.

    Raises:
        InvalidRequest: A parameter of the model has a name that is the protocol's own.
    """
    for name in call.parameters:
        if name in _RESERVED:
            raise InvalidRequest(f"parameter {name!r}: the name is the protocol's own, a model cannot be given it")
    parameters = dict(call.parameters)
    if call.timeout_s:
        parameters["timeout"] = max(1, int(call.timeout_s * 1e6))
    if call.priority:
        parameters["priority"] = _URGENCY - call.priority
    step = call.sequence
    if step is not None:
        parameters["sequence_id"] = step.id
        if step.start:
            parameters["sequence_start"] = True
        if step.end:
            parameters["sequence_end"] = True
    return parameters


def picture_input(picture: LoadedPicture) -> tuple[Input, Size]:
    """A picture as an input, and its size as it is seen."""
    if isinstance(picture, EncodedPicture):
        data = b"".join((len(picture.data).to_bytes(4, "little"), picture.data))
        return Input(Tensor("", tensors.BYTES, (1,)), data), Size(*picture.seen_size)
    height, width, _ = picture.shape
    return Input(Tensor("", "UINT8", picture.shape), tensors.to_bytes(picture)), Size(width, height)


def tensor_inputs(inputs: Mapping[str, Array]) -> list[Input]:
    """Arrays as inputs.

    Raises:
        InvalidRequest: A dtype has no name in the protocol.
    """
    return [
        Input(Tensor(name, tensors.datatype_of(array), array.shape), tensors.to_bytes(array))
        for name, array in inputs.items()
    ]


def prediction_outputs(draw: str) -> list[str]:
    """The outputs to ask for."""
    return [PREDICTION, PICTURE] if draw else [PREDICTION]


def prediction_from(call: Call, answered: Answered, size: Size) -> Detections | Prediction:
    """The typed answer.

    Raises:
        InternalError: The prediction is not there or no JSON.
    """
    try:
        prediction = _JSON.decode(answered.tensors[PREDICTION].item())
    except (KeyError, ValueError, TypeError, msgspec.DecodeError) as exc:
        raise InternalError(f"model {call.model!r}: expected an output {PREDICTION!r} of JSON, found none") from exc
    drawn = answered.tensors.get(PICTURE)
    return answer_from(
        prediction,
        picture=None if drawn is None else drawn.item(),
        image_size=size,
        model=call.model,
        version=answered.version,
        request_id=answered.request_id,
        served=answered.served,
    )


def result_from(call: Call, answered: Answered) -> InferResult:
    """The answer as tensors."""
    return InferResult(
        answered.tensors,
        model=call.model,
        version=answered.version,
        request_id=answered.request_id,
        served=answered.served,
        parameters=answered.parameters,
    )


def served_from(headers: Mapping[str, str]) -> Served:
    """How a request was served, from the headers beside its answer."""
    return Served(
        _number(headers, "queue-ms"),
        _number(headers, "compute-ms"),
        _number(headers, "decode-ms"),
        int(_number(headers, "batch-size")),
        headers.get("x-inferoxy-closed", ""),
        headers.get("x-inferoxy-instance", ""),
    )


def _number(headers: Mapping[str, str], name: str) -> float:
    try:
        return float(headers.get(f"x-inferoxy-{name}", 0))
    except ValueError:
        return 0.0
