"""Client operations as ZeroMQ messages. Pure: see calls.py; what waits for what is zmq_session.py's.

Pictures travel as they are: encoded bytes, or the array's own memory.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np

from inferoxy import messages as m
from inferoxy import sockets, tensors, wire
from inferoxy.client.calls import Call, ClientProtocol, Steps
from inferoxy.client.pictures import EncodedPicture, LoadedPicture
from inferoxy.client.results import (
    Detections,
    InferResult,
    ModelInfo,
    Prediction,
    Served,
    Size,
    answer_from,
)
from inferoxy.client.zmq_session import Ask, AskModels, Part
from inferoxy.errors import InvalidRequest
from inferoxy.tensors import Array

PICTURE = "picture"  # the output tensor that holds the drawn picture


class ZmqProtocol(ClientProtocol):
    """One per client; keeps nothing between calls."""

    def predict_all(self, call: Call, picture: LoadedPicture, draw: str) -> Steps[list[Detections | Prediction]]:
        """One picture's answers."""
        if isinstance(picture, EncodedPicture):
            size = Size(*picture.seen_size)
            tensor = m.Tensor("", "UINT8", (picture.height, picture.width, 3), encoding=picture.encoding)
            frame: Any = picture.data
        else:
            size = Size(picture.shape[1], picture.shape[0])
            tensor, frame = m.Tensor("", "UINT8", picture.shape), tensors.to_bytes(picture)
        payload = m.Payload(
            [tensor],
            dict(call.parameters),
            form="prediction",
            picture=cast(Literal["", "jpeg", "png"], draw),
        )
        parts: list[Part] = yield _ask(call, payload, [frame])
        return [_prediction(call, part, size) for part in parts]

    def infer_all(self, call: Call, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Steps[list[InferResult]]:
        """Output tensors for input tensors."""
        described = [m.Tensor(name, tensors.datatype_of(array), array.shape) for name, array in inputs.items()]
        payload = m.Payload(described, dict(call.parameters), list(outputs))
        parts: list[Part] = yield _ask(call, payload, [tensors.to_bytes(array) for array in inputs.values()])
        return [_tensors(call, part) for part in parts]

    def end(self, call: Call) -> Steps[None]:
        """End the call's sequence."""
        yield _ask(call, m.Payload([]), [])

    def models(self) -> Steps[list[ModelInfo]]:
        """What is registered."""
        message: m.Models = yield AskModels()
        return [_info(view) for view in message.models]

    def is_ready(self, model: str, version: str) -> Steps[bool]:
        """Whether the server, or a model of it, takes requests."""
        message: m.Models = yield AskModels()
        if not model:
            return True
        views = [view for view in message.models if view.spec.name == model]
        return any(_info(v).ready for v in views if (v.spec.version == version if version else v.spec.default))


def _ask(call: Call, payload: m.Payload, frames: list[Any]) -> Ask:
    try:
        encoded = wire.encode_payload(payload)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidRequest(f"parameters: expected what JSON can hold ({exc})") from exc
    request = m.Request(
        model=call.model,
        payload=encoded,
        model_version=call.version,
        timeout_us=int(call.timeout_s * 1e6),
        priority=call.priority,
        request_id=call.request_id,
        sequence=call.sequence,
    )
    return Ask(request, frames, call.wait_s, call.request_id)


def _prediction(call: Call, part: Part, size: Size) -> Detections | Prediction:
    result = wire.decode_result(part.response.payload)
    drawn = [
        bytes(sockets.buffer(frame))
        for tensor, frame in zip(result.tensors, part.frames, strict=True)
        if tensor.name == PICTURE and tensor.encoding
    ]
    return answer_from(
        result.prediction,
        picture=drawn[0] if drawn else None,
        image_size=size,
        model=call.model,
        version=_version(call, part),
        request_id=call.request_id,
        served=Served.of(part.response.served),
    )


def _tensors(call: Call, part: Part) -> InferResult:
    result = wire.decode_result(part.response.payload)
    arrays: dict[str, Array] = {}
    for tensor, frame in zip(result.tensors, part.frames, strict=True):
        data = sockets.buffer(frame)
        if tensor.encoding:
            arrays[tensor.name] = np.frombuffer(data, np.uint8).copy()
        else:
            arrays[tensor.name] = tensors.from_bytes(tensor.name, tensor.datatype, tensor.shape, data).copy()
    return InferResult(
        arrays,
        model=call.model,
        version=_version(call, part),
        request_id=call.request_id,
        served=Served.of(part.response.served),
        parameters=result.parameters,
    )


def _version(call: Call, part: Part) -> str:
    return part.response.served.version if part.response.served else call.version


def _info(view: m.ModelView) -> ModelInfo:
    spec = view.spec
    return ModelInfo(
        name=spec.name,
        version=spec.version,
        state=view.state,
        ready=view.instances > 0 or (spec.instances.min == 0 and view.state in ("idle", "ready")),
        error=view.error,
        default=spec.default,
        stateless=spec.stateless,
        batch_size=spec.batch_size,
        platform=view.platform,
        inputs=tuple(view.inputs),
        outputs=tuple(view.outputs),
    )
