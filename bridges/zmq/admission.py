"""Check what a ZeroMQ client sent and make of it what the batch manager may get.

Pure. A client's frames are never trusted: what bridges fill in is filled in anew, what only this host may say (slots)
is refused.
Invariant: whatever the client sent, only InferoxyError is raised.
"""

from collections.abc import Sequence
from typing import Any

from bridges import picture_gate
from bridges.requests import TEXT_LIMIT, Options, build, check_options, request_id
from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.config import LimitSettings
from inferoxy.errors import InvalidRequest, PayloadTooLarge
from inferoxy.tensors import check_size

MAX_ID = 2**63 - 1


def admit(request: m.Request, frames: Sequence[Any], limits: LimitSettings) -> m.Request:
    """The request as it goes on, for the same frames.

    Raises:
        InvalidRequest: A field is out of range, or a tensor's frame does not fit its description.
        PayloadTooLarge: The tensors or a picture are over the limits.
    """
    payload = wire.decode_payload(request.payload)
    found, limit = sum(map(len, frames)), int(limits.body_mib * 2**20)
    if found > limit:
        raise PayloadTooLarge(f"tensors: expected at most {limit} bytes, found {found}")
    if len(payload.tensors) != len(frames):
        raise InvalidRequest(f"tensors: expected {len(payload.tensors)} frames, one for each, found {len(frames)}")
    options = check_options(
        Options(request.model_version, request.timeout_us, request.priority, request.sequence, request.trace)
    )
    tensors = [_checked(tensor, frame, limits) for tensor, frame in zip(payload.tensors, frames, strict=True)]
    return build(
        request.model, tensors, frames, options,
        parameters=payload.parameters, outputs=payload.outputs, form=payload.form, picture=payload.picture,
        request_id=request_id(payload.request_id),
    )  # fmt: skip


def _checked(tensor: m.Tensor, frame: Any, limits: LimitSettings) -> m.Tensor:
    if len(tensor.name) > TEXT_LIMIT:
        raise InvalidRequest(f"tensor name: expected at most {TEXT_LIMIT} characters, found {len(tensor.name)}")
    what = f"tensor {tensor.name!r}"
    if tensor.slot is not None:
        raise InvalidRequest(f"{what}: expected its bytes in a frame, found a slot")
    if not tensor.encoding:
        check_size(tensor.name, tensor.datatype, tensor.shape, len(frame))
        return tensor
    if tensor.encoding not in picture_gate.ENCODINGS:
        known = ", ".join(picture_gate.ENCODINGS)
        raise InvalidRequest(f"{what}: expected an encoding of {known} or none, found {tensor.encoding[:20]!r}")
    picture = picture_gate.examine(sockets.buffer(frame), limits, what)
    if picture.encoding != tensor.encoding:
        raise InvalidRequest(f"{what}: expected {tensor.encoding} as declared, found {picture.encoding}")
    real = picture.tensor(tensor.name)
    height, width, _ = real.shape
    if tensor.shape and tensor.shape not in (real.shape, (width, height, 3)):
        raise InvalidRequest(f"{what}: expected {list(tensor.shape)} as declared, found {list(real.shape)}")
    return real
