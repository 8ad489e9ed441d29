"""What the first Inferoxy's clients send, as a request of ours.

Pure. An input is an array with a target shape and a datatype by its short name. A picture model gets its numbers as
pixels whatever the datatype says; any other model gets them in that datatype.
Invariant: whatever was sent, only InferoxyError is raised.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bridges import picture_gate
from bridges.models import takes_picture
from bridges.requests import Prepared
from inferoxy import tensors
from inferoxy.config import LimitSettings
from inferoxy.errors import InvalidRequest
from inferoxy.messages import ModelView, Tensor
from inferoxy.tensors import BYTES, DTYPES, Array

DATATYPES = {"fp16": "FP16", "fp32": "FP32", "uint8": "UINT8", "int8": "INT8", "bool": "BOOL"}
STATELESS = "stateless"  # the parameter that is for us; missing it means false
MAX_DIMENSIONS = 32

_YOLO = "yolo"  # gives its picture only encoded


class Sent(NamedTuple):
    """One input. `shape` and `datatype` are None where the client named none."""

    data: Array
    shape: Sequence[int] | None
    datatype: str | None
    parameters: dict[str, Any]

    @property
    def is_stateful(self) -> bool:
        """Whether it continues the sequence of its source, as it does unless it says otherwise."""
        return not self.parameters.get(STATELESS, False)


def prepare(sent: Sent, view: ModelView | None, limits: LimitSettings) -> tuple[Prepared, list[Any]]:
    """What is to be sent for an input, and its bytes.

    Args:
        sent: The input.
        view: What is known of the model, or None.
        limits: What pictures are accepted.

    Raises:
        InvalidRequest: Data and shape do not fit, or the data is not what the model takes.
        PayloadTooLarge: The picture is over the limits.
    """
    array = _shaped(sent.data, sent.shape)
    wants_picture = takes_picture(view)
    if wants_picture is None:
        wants_picture = array.ndim == 3 and array.shape[2] == 3
    if wants_picture:
        array, datatype = _pixels(array, limits), "UINT8"
    else:
        array, datatype = _typed(array, sent.datatype, view)
    frame = tensors.to_bytes(array)
    draws_by_itself = view is not None and (view.spec.runtime == _YOLO or view.platform.endswith(_YOLO))
    prepared = Prepared(
        [Tensor("", datatype, array.shape)],
        [len(frame)],
        parameters={key: value for key, value in sent.parameters.items() if key != STATELESS},
        outputs=[],
        form="prediction" if draws_by_itself else "tensors",
        picture="jpeg" if draws_by_itself else "",
    )
    return prepared, [frame]


def _shaped(array: Array, shape: Sequence[int] | None) -> Array:
    if array.dtype.kind not in "biuf":
        raise InvalidRequest(f"data: expected numbers, found {array.dtype.name[:20]}")
    if shape is None:
        return array
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidRequest(f"shape: expected at most {MAX_DIMENSIONS} dimensions, found {len(shape)}")
    try:
        return array.reshape(tuple(shape))
    except (ValueError, OverflowError, TypeError) as exc:
        raise InvalidRequest(f"shape: expected one of {array.size} elements, found {list(shape)}") from exc


def _pixels(array: Array, limits: LimitSettings) -> Array:
    if array.ndim != 3 or array.shape[2] != 3:
        raise InvalidRequest(f"shape: expected a picture [height, width, 3], found {list(array.shape)}")
    height, width, _ = array.shape
    picture_gate.check_size(width, height, limits)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "b":
        low, high = array.min(), array.max()
        if not (low >= 0 and high < 256):  # NaN is neither
            raise InvalidRequest(f"data: expected pixels of 0..255, found {low}..{high}")
    return array.astype(np.uint8)


def _typed(array: Array, name: str | None, view: ModelView | None) -> tuple[Array, str]:
    declared = view.inputs[0].datatype if view is not None and len(view.inputs) == 1 else BYTES
    datatype = DATATYPES[name] if name is not None else declared
    if datatype in (BYTES, "BF16"):  # not to be made of numbers as they are
        return array, tensors.datatype_of(array)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is cut, as numpy does
        return array.astype(DTYPES[datatype]), datatype
