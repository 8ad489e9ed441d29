"""Messages of inferoxy.v1 as requests and results of ours, and back.

Pure. Invariant: whatever a client's message holds, only InferoxyError is raised; whatever a model predicts becomes an
answer, or a ModelError.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from bridges import picture_gate, v2
from bridges.models import describe_inputs, is_ready, takes_picture
from bridges.requests import TIMEOUT_LIMIT_US, Options, Prepared, check_options
from bridges.results import Result, drawn_picture, served_fields
from inferoxy import messages as m
from inferoxy.config import LimitSettings
from inferoxy.errors import STATUS, InferoxyError, InvalidRequest, ModelError
from inferoxy.tensors import check_size
from protos import inferoxy_v1_pb2 as pb

EXACT = 2**53  # integers up to here are exact in a Struct

_DRAW: dict[int, Literal["", "jpeg", "png"]] = {pb.DRAW_NONE: "", pb.DRAW_JPEG: "jpeg", pb.DRAW_PNG: "png"}
_LISTS = ("boxes", "confidence", "class_id")


class About(NamedTuple):
    """What answers say of their request. `version` is for results that do not say; `tensor` None: no picture."""

    request_id: str
    model: str
    version: str
    tensor: m.Tensor | None


def picture_of(picture: Any, limits: LimitSettings) -> tuple[m.Tensor, memoryview]:
    """A Picture that may be accepted, as a tensor [height, width, 3] UINT8 and its bytes.

    Raises:
        InvalidRequest: There is none, or it is not what it says it is.
        PayloadTooLarge: It is over the limits.
    """
    match picture.WhichOneof("form"):
        case "encoded":
            data = memoryview(picture.encoded)
            return picture_gate.examine(data, limits, "picture.encoded").tensor(), data
        case "raw":
            raw = picture.raw
            picture_gate.check_size(raw.width, raw.height, limits, "picture.raw")
            data = memoryview(raw.rgb)
            shape = (raw.height, raw.width, 3)
            check_size("picture.raw.rgb", "UINT8", shape, len(data))
            return m.Tensor("", "UINT8", shape), data
    raise InvalidRequest("picture: expected encoded or raw, found neither")


def prepare(
    tensor: m.Tensor, frame: memoryview, *, parameters: dict[str, Any], picture: Literal["", "jpeg", "png"]
) -> Prepared:
    """What is to be sent for a picture.

    Raises:
        InvalidRequest: A parameter cannot travel.
    """
    return Prepared([tensor], [len(frame)], parameters=parameters, outputs=[], form="prediction", picture=picture)


def check_takes_pictures(model: str, view: m.ModelView | None) -> None:
    """Refuse pictures for a model that has declared other inputs.

    Raises:
        InvalidRequest: It has.
    """
    if view is not None and takes_picture(view) is False:
        raise InvalidRequest(
            f"model {model!r} takes tensors ({describe_inputs(view)}), not pictures: "
            "send them to inference.GRPCInferenceService"
        )


def draw_of(draw: int) -> Literal["", "jpeg", "png"]:
    """The wanted encoding of the drawn picture; empty: none.

    Raises:
        InvalidRequest: It is none of them.
    """
    found = _DRAW.get(draw)
    if found is None:
        raise InvalidRequest(f"draw: expected {', '.join(pb.Draw.keys())}, found {draw}")
    return found


def parameters_of(struct: Any, text: str) -> dict[str, Any]:
    """Parameters for the model: those of a Struct, and over them the fields of a JSON object.

    Raises:
        InvalidRequest: A value is unset, or the text is no JSON object.
    """
    found = {name: _plain(name, value) for name, value in struct.fields.items()} if struct.fields else {}
    if not text:
        return found
    try:
        more = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidRequest(f"parameters_json: expected a JSON object ({exc})") from exc
    return {**found, **more}


def options_of(asked: Any, sequence: m.Sequence | None) -> Options:
    """How to serve a PredictRequest or the frames of a StreamStart.

    Raises:
        InvalidRequest: `timeout` or `priority` is out of its range.
    """
    timeout_us = 0
    if asked.HasField("timeout"):
        timeout_us = asked.timeout.seconds * 1_000_000 + asked.timeout.nanos // 1_000
        if not 0 < timeout_us <= TIMEOUT_LIMIT_US:
            hours = TIMEOUT_LIMIT_US // 3_600_000_000
            raise InvalidRequest(f"timeout: expected above 0 and at most {hours} hours, found {timeout_us / 1e6:g} s")
    return check_options(Options(asked.version, timeout_us, asked.priority, sequence))


def sequence_of(asked: Any) -> m.Sequence | None:
    """The sequence that a PredictRequest is a step of.

    Raises:
        InvalidRequest: It has no id.
    """
    if not asked.HasField("sequence"):
        return None
    found = asked.sequence
    kind = found.WhichOneof("id")
    sequence_id = getattr(found, kind) if kind else 0
    if not sequence_id:
        raise InvalidRequest("sequence: expected a number of at least 1 or a name, found neither")
    return m.Sequence(sequence_id, found.start, found.end)


def fill_answer(answer: Any, result: Result, about: About) -> None:
    """Say in an empty Answer what one result is.

    Raises:
        ModelError: The prediction is not what JSON can hold.
    """
    answer.request_id = about.request_id
    answer.model = about.model
    answer.version = result.served.version or about.version
    if about.tensor is not None:
        answer.image.height, answer.image.width = about.tensor.shape[0], about.tensor.shape[1]
    _fill(answer, result)


def answer_of(results: Sequence[Result], about: About) -> Any:
    """The Answer for all results of one request, at least one: the last, with those before it. See `fill_answer`."""
    answer = pb.Answer()
    fill_answer(answer, results[-1], about)
    for result in results[:-1]:
        _fill(answer.earlier.add(), result)
    return answer


def error_of(exc: InferoxyError, text: str, request_id: str) -> Any:
    """The Error for what a frame has instead of an answer; `text` is its message as clients may be sent it."""
    return pb.Error(code=exc.code.value, message=text, status=STATUS[exc.code].grpc, request_id=request_id)


def model_of(view: m.ModelView, versions: Sequence[str]) -> Any:
    """A model as clients see it: nothing of its environment or where it comes from."""
    spec = view.spec
    return pb.Model(
        name=spec.name,
        version=spec.version,
        versions=versions,
        default=spec.default,
        state=view.state,
        ready=is_ready(view),
        error=view.error,
        platform=v2.platform(view),
        stateless=spec.stateless,
        decoupled=view.decoupled,
        batch_size=spec.batch_size,
        priority=spec.priority,
        timeout_ms=spec.timeout_ms,
        instances=view.instances,
        inputs=[_tensor(s) for s in view.inputs],
        outputs=[_tensor(s) for s in view.outputs],
        metadata=view.metadata,
    )


def _fill(answer: Any, result: Result) -> None:
    prediction = result.prediction
    if prediction is not None:
        try:
            answer.prediction_json = msgspec.json.encode(prediction).decode()
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise ModelError(f"the model's prediction cannot be JSON: {exc}") from exc
        answer.detections.extend(_detections(prediction))
    drawn = drawn_picture(result)
    if drawn is not None:
        answer.drawn = bytes(drawn.data)
    for name, value in served_fields(result.served).items():
        setattr(answer.served, name, value)


def _detections(prediction: Any) -> list[Any]:
    """The objects that a prediction holds; none where it holds no boxes, or they do not hold together."""
    if not isinstance(prediction, dict) or not all(isinstance(prediction.get(key), list) for key in _LISTS):
        return []
    columns: list[Any] = [prediction[key] for key in _LISTS]
    count = len(columns[0])
    for key in ("class_name", "track_id"):
        found = prediction.get(key)
        columns.append(found if isinstance(found, list) else [None] * count)
    make = pb.Detection
    try:
        return [
            make(x1=x1, y1=y1, x2=x2, y2=y2, confidence=confidence, class_id=class_id, class_name=name, track_id=track)
            for (x1, y1, x2, y2), confidence, class_id, name, track in zip(*columns, strict=True)
        ]
    except (TypeError, ValueError):
        return []


def _plain(name: str, value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            is_whole = math.isfinite(number) and number == int(number) and abs(number) <= EXACT
            return int(number) if is_whole else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {key: _plain(f"{name}.{key}", inner) for key, inner in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(name, inner) for inner in value.list_value.values]
        case "null_value":
            return None
    raise InvalidRequest(f"parameter {name[:80]!r}: expected a value, found none")


def _tensor(spec: m.TensorSpec) -> Any:
    return pb.Tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape)
