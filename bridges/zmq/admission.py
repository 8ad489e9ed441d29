"""Check what a ZeroMQ client sent and make of it what the batch manager may get.

Pure. A client's frames are never trusted: what bridges fill in is filled in anew, what only our own parts may say
(inline tensors) is refused.
Invariant: whatever the client sent, only InferoxyError is raised.
"""

from collections.abc import Sequence
from typing import Any

from bridges import picture_gate
from bridges.requests import TEXT_LIMIT, Frames, Options, Prepared, check_options, is_bare_end, request_id
from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.config import LimitSettings
from inferoxy.errors import InvalidRequest, PayloadTooLarge
from inferoxy.kept import Kept
from inferoxy.tensors import check_size

MAX_ID = 2**63 - 1
MAX_KEPT = 1_024  # descriptions
MAX_KEPT_BYTES = 2_048  # of one


class Admission:
    """The way in. Descriptions that were understood once are known by their bytes."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._limit_bytes = int(limits.body_mib * 2**20)
        self._kept: Kept[tuple[bytes, tuple[int, ...]], Prepared] = Kept(MAX_KEPT)

    def admit(
        self, request: m.Request, frames: Sequence[Any], client: str = "", view: m.ModelView | None = None
    ) -> tuple[m.Request, Frames]:
        """The request as it goes on, and the frames that travel with it.

        Args:
            request: As the client sent it.
            frames: Those of its tensors.
            client: Who it is; needed for steps of sequences.
            view: What is known of the model, if anything.

        Raises:
            InvalidRequest: A field is out of range, or a tensor's frame does not fit its description.
            PayloadTooLarge: The tensors or a picture are over the limits.
        """
        step = request.sequence
        if step is not None:
            step.client = client
        options = Options(request.model_version, request.timeout_us, request.priority, step, request.trace)
        check_options(options)
        payload = bytes(request.payload)
        sizes = tuple(map(len, frames))
        prepared = self._kept.get((payload, sizes)) or self._prepare(payload, sizes, request, frames)
        is_bare_end(len(sizes), options, view)
        return prepared.request(request.model, frames, options, request_id(request.request_id))

    def _prepare(self, key: bytes, sizes: tuple[int, ...], request: m.Request, frames: Sequence[Any]) -> Prepared:
        payload = wire.decode_payload(request.payload)
        found, limit = sum(sizes), self._limit_bytes
        if found > limit:
            raise PayloadTooLarge(f"tensors: expected at most {limit} bytes, found {found}")
        if len(payload.tensors) != len(frames):
            raise InvalidRequest(f"tensors: expected {len(payload.tensors)} frames, one for each, found {len(frames)}")
        tensors = [_checked(t, frame, self._limits) for t, frame in zip(payload.tensors, frames, strict=True)]
        prepared = Prepared(
            tensors, sizes,
            parameters=payload.parameters, outputs=payload.outputs, form=payload.form, picture=payload.picture,
        )  # fmt: skip
        # Of an encoded picture the bytes must be looked at each time.
        is_kept = len(key) <= MAX_KEPT_BYTES and not any(tensor.encoding for tensor in tensors)
        return self._kept.keep((key, sizes), prepared) if is_kept else prepared


def _checked(tensor: m.Tensor, frame: Any, limits: LimitSettings) -> m.Tensor:
    if len(tensor.name) > TEXT_LIMIT:
        raise InvalidRequest(f"tensor name: expected at most {TEXT_LIMIT} characters, found {len(tensor.name)}")
    what = f"tensor {tensor.name!r}"
    if tensor.inline is not None:
        raise InvalidRequest(f"{what}: expected nil as its fourth element, found {tensor.inline}")
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
