"""A response as ZeroMQ clients get it: each tensor in a frame of its own, and nothing that only our own parts need.

Pure. How a result is described to clients is worked out once for each description.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import InvalidRequest
from inferoxy.kept import Kept

MAX_KEPT = 1_024  # descriptions
MAX_KEPT_BYTES = 2_048  # of one


class AnswerEncoder:
    """Encodes responses for clients."""

    def __init__(self) -> None:
        self._kept: Kept[bytes, tuple[Raw, tuple[int | None, ...]]] = Kept(MAX_KEPT)

    def encode(self, client_id: int, response: m.Response, frames: Sequence[Any]) -> list[Any]:
        """The envelope of a response, under the client's own id of the request."""
        response.id = client_id
        response.fate = m.SlotFate.FREE
        if response.data:
            data, response.data = response.data, b""
            key = bytes(response.payload)
            response.payload, sizes = self._kept.get(key) or self._describe(key)
            frames = _cut(data, sizes, frames)
        response.places = m.NO_PAYLOAD
        return wire.encode(response, frames)

    def _describe(self, key: bytes) -> tuple[Raw, tuple[int | None, ...]]:
        payload = wire.decode_result(Raw(key))
        sizes = tuple(tensor.inline for tensor in payload.tensors)
        for tensor in payload.tensors:
            tensor.inline = None
        known = (wire.encode_payload(payload), sizes)
        return self._kept.keep(key, known) if len(key) <= MAX_KEPT_BYTES else known


def _cut(data: bytes, sizes: Sequence[int | None], frames: Sequence[Any]) -> list[Any]:
    """The bytes of each tensor."""
    if len(sizes) == 1 and not frames:
        return [data]
    whole: list[Any] = []
    at = 0
    rest = iter(frames)
    for size in sizes:
        if size is None:
            whole.append(next(rest, b""))
        else:
            whole.append(data[at : at + size])
            at += size
    if at != len(data):
        raise InvalidRequest(f"the model's answer is malformed: expected {at} inline bytes, found {len(data)}")
    return whole
