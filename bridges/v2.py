"""The Open Inference Protocol v2 apart from its encodings: what its parameters, tensors and answers mean to us.

Pure; shared by REST and gRPC. How tensors stand in a JSON body or a protobuf message is theirs; how picture models
fit into a protocol of tensors is v2_pictures.py's.

Source: Open Inference Protocol, "Inference"; Triton's extensions "sequence", "schedule policy", "binary data".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bridges.pending import Answer
from bridges.requests import TEXT_LIMIT, Options, Prepared, check_options
from bridges.results import PICTURE, Output, Result, read
from bridges.v2_pictures import PREDICTION, as_file, as_json, as_picture, read_wishes
from bridges.v2_regions import Place, place_of
from inferoxy import __version__
from inferoxy import messages as m
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, InvalidRequest
from inferoxy.tensors import check_size

SERVER_NAME = "inferoxy"
SERVER_VERSION = __version__
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "statistics",
    "system_shared_memory",
)

# Request parameters that are for us or for the encoding, not for the model.
_OURS = frozenset(
    {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output", "headers"}
)
_HIGHEST_PRIORITY = 1_000  # of ours; the protocol's 1 is just below it, its 2 below that


def read_parameters(parameters: dict[str, Any], version: str) -> tuple[Options, dict[str, Any]]:
    """A request's parameters as (how to serve it, what is for the model).

    `timeout` is in microseconds. `priority` 1 is the most urgent, 0 the model's own.

    Raises:
        InvalidRequest: A reserved parameter has the wrong type or is out of range.
    """
    if not parameters:
        return Options(version), parameters
    sequence = None
    sequence_id = parameters.get("sequence_id", 0)
    if isinstance(sequence_id, bool) or not isinstance(sequence_id, int | str):
        raise _wrong("sequence_id", "an unsigned integer or a string", sequence_id)
    start, end = _flag(parameters, "sequence_start"), _flag(parameters, "sequence_end")
    if sequence_id:
        sequence = m.Sequence(sequence_id, start, end)
    elif start or end:
        raise InvalidRequest("sequence_id: expected with sequence_start or sequence_end, found none")
    priority = _number(parameters, "priority")
    urgency = max(1, _HIGHEST_PRIORITY - priority) if priority else 0
    options = check_options(Options(version, _number(parameters, "timeout"), urgency, sequence))
    return options, {key: value for key, value in parameters.items() if key not in _OURS}


def place_of_input(name: str, parameters: Mapping[str, Any]) -> Place | None:
    """Where an input lies in shared memory; None: it is in the request.

    Raises:
        InvalidRequest: Its name is too long, or what is said of the place is no place.
    """
    if len(name) > TEXT_LIMIT:
        raise InvalidRequest(f"input name: expected at most {TEXT_LIMIT} characters, found {len(name)}")
    return place_of(f"input {name!r}", parameters) if parameters else None


def prepare(
    view: m.ModelView | None,
    inputs: list[m.Tensor],
    frames: list[Any],
    *,
    parameters: dict[str, Any],
    outputs: list[str],
    limits: LimitSettings,
) -> tuple[Prepared, list[Any]]:
    """What is to be sent for a request for tensors, and the bytes of its tensors.

    Args:
        view: What is known of the model, or None.
        inputs: The tensors as the client named them; none in a bare end, of which no outputs are wanted either.
        frames: Their bytes as memoryviews, in order.
        parameters: For the model.
        outputs: The wanted outputs; empty: all.
        limits: What pictures are accepted.

    Raises:
        InvalidRequest: A tensor's bytes do not fit its shape, or a wanted output is not the model's.
        PayloadTooLarge: A picture is over the limits.
    """
    for tensor, frame in zip(inputs, frames, strict=True):
        check_size(tensor.name, tensor.datatype, tensor.shape, len(frame))
    if len(inputs) == 1:
        tensor, frame = as_picture(inputs[0], frames[0], view, limits)
        inputs, frames = [tensor], [frame]
    wishes = read_wishes(outputs if inputs else [], parameters, view, inputs)
    prepared = Prepared(
        inputs, list(map(len, frames)),
        parameters=wishes.parameters, outputs=wishes.outputs, form=wishes.form, picture=wishes.picture,
    )  # fmt: skip
    return prepared, frames


def only_answer(answers: Sequence[Answer], model: str) -> Result:
    """The one answer that a unary call can give.

    Raises:
        InferoxyError: UNSUPPORTED when the model gave none.
    """
    if len(answers) != 1:
        why = f"model {model!r} gave {len(answers)} answers, expected 1: use a protocol that gives any number"
        raise InferoxyError(why, Code.UNSUPPORTED)
    return read(answers[0])


def nothing(answers: Sequence[Answer]) -> Result:
    """The answer to a bare end: how it was served, if that is told, and nothing else."""
    served = next((a.response.served for a in answers if a.response.served is not None), None)
    return Result([], None, {}, served or m.Served())


def select_outputs(result: Result, wanted: Sequence[str]) -> list[Output]:
    """The outputs that were asked for, in the order asked for; all of them where none was named.

    A prediction that is no tensor becomes the output "prediction", BYTES [1] of JSON; a drawn picture BYTES [1] of its
    file. A picture that the model did not draw is left out beside a prediction.

    Raises:
        InvalidRequest: A wanted output is not there.
    """
    outputs = [as_file(o) if o.tensor.encoding else o for o in result.outputs]
    if result.prediction is not None and (PREDICTION in wanted or not outputs):
        outputs.append(as_json(result.prediction))
    if not wanted:
        return outputs
    by_name = {o.tensor.name: o for o in outputs}
    for name in wanted:
        if name not in by_name and not (name == PICTURE and PREDICTION in by_name and PREDICTION in wanted):
            raise InvalidRequest(f"output {name!r}: expected one of {', '.join(by_name)}, found {name!r}")
    return [by_name[name] for name in wanted if name in by_name]


def platform(view: m.ModelView) -> str:
    """What runs the model, for metadata."""
    return view.platform or view.spec.runtime or "container"


def _flag(parameters: dict[str, Any], name: str) -> bool:
    found = parameters.get(name, False)
    if not isinstance(found, bool):
        raise _wrong(name, "true or false", found)
    return found


def _number(parameters: dict[str, Any], name: str) -> int:
    found = parameters.get(name, 0)
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise _wrong(name, "an integer of at least 0", found)
    return found


def _wrong(name: str, expected: str, found: Any) -> InvalidRequest:
    return InvalidRequest(f"parameter {name!r}: expected {expected}, found {repr(found)[:TEXT_LIMIT]}")
