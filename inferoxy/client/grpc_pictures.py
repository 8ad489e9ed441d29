"""Pictures and their answers as messages of inferoxy.v1. Pure.

Parameters travel as JSON text, which holds what a Struct cannot: integers of any size. The prediction comes so too.
"""

from typing import Any

import msgspec
from google.protobuf.duration_pb2 import Duration

from inferoxy.client.calls import Call
from inferoxy.client.pictures import EncodedPicture, LoadedPicture
from inferoxy.client.results import Detections, Prediction, Served, Size, answer_from
from inferoxy.errors import InternalError, InvalidRequest
from protos import inferoxy_v1_pb2 as pb

_DRAW = {"": pb.DRAW_NONE, "jpeg": pb.DRAW_JPEG, "png": pb.DRAW_PNG}
_JSON: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def predict_request(call: Call, picture: LoadedPicture, draw: str) -> pb.PredictRequest:
    """The request for a picture.

    Raises:
        InvalidRequest: A parameter cannot be JSON.
    """
    request = pb.PredictRequest(
        model=call.model,
        version=call.version,
        draw=_DRAW[draw],
        parameters_json=_json(call) if call.parameters else "",
        priority=call.priority,
        request_id=call.request_id,
    )
    if call.timeout_s:
        request.timeout.CopyFrom(_duration(call.timeout_s))
    step = call.sequence
    if step is not None:
        request.sequence.start, request.sequence.end = step.start, step.end
        if isinstance(step.id, int):
            request.sequence.number = step.id
        else:
            request.sequence.name = step.id
    if isinstance(picture, EncodedPicture):
        request.picture.encoded = bytes(picture.data)
    else:
        raw = request.picture.raw
        raw.height, raw.width, raw.rgb = picture.shape[0], picture.shape[1], picture.tobytes()
    return request


def size_of(picture: LoadedPicture) -> Size:
    """A picture's size as it is seen."""
    if isinstance(picture, EncodedPicture):
        return Size(*picture.seen_size)
    return Size(picture.shape[1], picture.shape[0])


def answers_from(call: Call, answer: Any, size: Size) -> list[Detections | Prediction]:
    """All answers to one request, in order; none if the model gave none.

    Raises:
        InternalError: A prediction is no JSON.
    """
    parts = [*answer.earlier, answer] if answer.earlier or answer.prediction_json else []
    return [_answer_from(call, part, answer.version, size) for part in parts]


def _answer_from(call: Call, part: Any, version: str, size: Size) -> Detections | Prediction:
    try:
        prediction = _JSON.decode(part.prediction_json)
    except msgspec.DecodeError as exc:
        raise InternalError(f"model {call.model!r}: expected a prediction of JSON, found none ({exc})") from exc
    served = part.served
    return answer_from(
        prediction,
        picture=part.drawn or None,
        image_size=size,
        model=call.model,
        version=version,
        request_id=call.request_id,
        served=Served(
            served.queue_ms,
            served.compute_ms,
            served.decode_ms,
            served.batch_size,
            served.closed,
            served.instance,
        ),
    )


def _json(call: Call) -> str:
    try:
        return msgspec.json.encode(call.parameters).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidRequest(f"parameters: expected what JSON can hold ({exc})") from exc


def _duration(seconds: float) -> Duration:
    microseconds = max(1, round(seconds * 1e6))
    return Duration(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1_000)
