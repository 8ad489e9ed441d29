"""Picture models in the Open Inference Protocol, which knows tensors only.

Pure. In: an encoded picture comes as BYTES with one element, a raw one as UINT8 [height, width, 3] or with a leading
axis of length 1. Out: besides its tensors such a model has the outputs "prediction", BYTES [1] of JSON, and "picture",
BYTES [1] of a JPEG or PNG file, drawn as the request parameter `draw` says.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from bridges import picture_gate
from bridges.models import is_picture, takes_picture
from bridges.requests import TEXT_LIMIT
from bridges.results import PICTURE, Output
from inferoxy.config import LimitSettings
from inferoxy.errors import InvalidRequest, ModelError
from inferoxy.messages import ModelView, Tensor, TensorSpec
from inferoxy.tensors import BYTES, count_elements

PREDICTION = "prediction"
DRAW = "draw"


class Wishes(NamedTuple):
    """What a request asks of the model, in our terms."""

    outputs: list[str]
    form: Literal["tensors", "prediction"]
    picture: Literal["", "jpeg", "png"]
    parameters: dict[str, Any]


def as_picture(tensor: Tensor, frame: Any, view: ModelView | None, limits: LimitSettings) -> tuple[Tensor, Any]:
    """The only tensor of a request, and its bytes, as a picture model takes it; as it is for other models.

    While no instance has declared the model's inputs, an element that looks like a picture is taken for one.

    Raises:
        InvalidRequest: A picture model was sent something else than a picture.
        PayloadTooLarge: The picture is over the limits.
    """
    wants = takes_picture(view)
    if wants is False:
        return tensor, frame
    if tensor.datatype == BYTES and count_elements(tensor.name, tensor.shape) == 1:
        data = frame[4:]
        if int.from_bytes(frame[:4], "little") != len(data):
            raise InvalidRequest(f"tensor {tensor.name!r}: BYTES length does not match the {len(frame)} bytes of [1]")
        if wants or picture_gate.sniff(data):
            return picture_gate.examine(data, limits, f"tensor {tensor.name!r}").tensor(tensor.name), data
    elif wants and len(tensor.shape) == 4 and tensor.shape[0] == 1:
        inner = tensor.shape[1:]
        if is_picture(TensorSpec(tensor.name, tensor.datatype, inner)):
            return Tensor(tensor.name, tensor.datatype, inner), frame
    return tensor, frame


def read_wishes(
    outputs: list[str], parameters: dict[str, Any], view: ModelView | None, inputs: Sequence[Tensor]
) -> Wishes:
    """What the wanted outputs mean.

    Raises:
        InvalidRequest: One is not the model's, or prediction and picture are mixed with tensors.
    """
    if not outputs:
        return Wishes(outputs, "tensors", "", parameters)
    wants = takes_picture(view)
    if wants is None and len(inputs) == 1:
        wants = bool(inputs[0].encoding) or not inputs[0].name
    asked = [name for name in outputs if name in (PREDICTION, PICTURE)]
    if wants and asked:
        if len(asked) != len(outputs):
            raise InvalidRequest(f"output {asked[0]!r}: expected no tensors beside it, found {len(outputs)} outputs")
        draw = parameters.get(DRAW, "jpeg")
        if draw not in ("jpeg", "png"):
            raise InvalidRequest(f"parameter {DRAW!r}: expected jpeg or png, found {repr(draw)[:TEXT_LIMIT]}")
        others = {key: value for key, value in parameters.items() if key != DRAW}
        return Wishes([], "prediction", draw if PICTURE in asked else "", others)
    known = [spec.name for spec in view.outputs] if view is not None else []
    for name in outputs:
        if known and name not in known:
            raise InvalidRequest(f"output {name[:TEXT_LIMIT]!r}: expected one of {', '.join(known)}")
    return Wishes(outputs, "tensors", "", parameters)


def as_file(output: Output) -> Output:
    """An encoded picture as the protocol has it: one BYTES element."""
    return _element(output.tensor.name, output.data)


def as_json(prediction: Any) -> Output:
    """A prediction as the protocol has it.

    Raises:
        ModelError: It is not what JSON can hold.
    """
    try:
        return _element(PREDICTION, msgspec.json.encode(prediction))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ModelError(f"the model's prediction cannot be JSON: {exc}") from exc


def _element(name: str, data: bytes | memoryview) -> Output:
    element = b"".join((len(data).to_bytes(4, "little"), data))
    return Output(Tensor(name, BYTES, (1,)), memoryview(element))
