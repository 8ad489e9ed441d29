"""A response as ZeroMQ clients get it: each tensor in a frame of its own, and nothing that only our own parts need.

Pure. How a result is described to clients is worked out once for each description.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import InternalError, InvalidRequest
from inferoxy.kept import Kept

MAX_KEPT = 1_024  # descriptions
MAX_KEPT_BYTES = 2_048  # of one


class AnswerEncoder:
    """Encodes responses for clients."""

    def __init__(self) -> None:
        self._kept: Kept[bytes, tuple[Raw, list[m.Tensor]]] = Kept(MAX_KEPT)

    def encode(self, client_id: int, response: m.Response, frames: Sequence[Any]) -> list[Any]:
        """The envelope of a response, under the client's own id of the request.

        Raises:
            InternalError: It is malformed: the instance broke the protocol.
        """
        response.id = client_id
        response.fate = m.SlotFate.FREE
        if response.data:
            try:
                key = bytes(response.payload)
                payload, tensors = self._kept.get(key) or self._describe(key)
                frames = wire.spread(tensors, response.data, frames)
            except InvalidRequest as exc:
                raise InternalError(f"the model's answer is malformed: {exc.message}") from exc
            response.payload, response.data = payload, b""
        response.places = m.NO_PAYLOAD
        return wire.encode(response, frames)

    def _describe(self, key: bytes) -> tuple[Raw, list[m.Tensor]]:
        """What clients are told, and the tensors as they came."""
        payload = wire.decode_result(Raw(key))
        shown = [m.Tensor(t.name, t.datatype, t.shape, None, t.encoding) for t in payload.tensors]
        known = (wire.encode_payload(m.ResultPayload(shown, payload.prediction, payload.parameters)), payload.tensors)
        return self._kept.keep(key, known) if len(key) <= MAX_KEPT_BYTES else known
