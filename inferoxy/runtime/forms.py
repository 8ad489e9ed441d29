"""How an answer's tensors travel: inline, in frames or in shared memory.

Pure. A form is what answers of equal description have in common; making one costs more than using it.
"""

from collections.abc import Sequence
from typing import Any

from inferoxy import wire
from inferoxy.arena import SLOT_MIN_BYTES, SlotWriter
from inferoxy.errors import ModelError
from inferoxy.messages import NO_PAYLOAD, Places, ResultItem, ResultPayload, Slot, Tensor

Part = Any  # one tensor's bytes: bytes or a memoryview


class Form:
    """The description of an answer.

    Args:
        tensors: Its tensors.
        sizes: Their bytes, in order.
        prediction: What JSON can hold, or None.
        parameters: What the model adds.

    Raises:
        ModelError: The prediction cannot be encoded.
    """

    __slots__ = ("_frames", "_inline", "_payload")

    def __init__(
        self,
        tensors: Sequence[Tensor],
        sizes: Sequence[int],
        prediction: Any = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        inline = wire.inline_sizes(sizes)
        for tensor, size in zip(tensors, inline, strict=True):
            tensor.inline = size
        self._inline = [at for at, size in enumerate(inline) if size is not None]
        self._frames = [at for at, size in enumerate(inline) if size is None]
        try:
            self._payload = wire.encode_payload(ResultPayload(list(tensors), prediction, parameters or {}))
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise ModelError(f"prediction: expected what JSON can hold, found: {exc}") from exc

    def item(
        self, ticket: int, parts: Sequence[Part], frames: list[Part], writer: SlotWriter | None, *, final: bool = True
    ) -> ResultItem:
        """An answer of this form.

        Args:
            ticket: Of the request.
            parts: The bytes of its tensors.
            frames: Those that travel in frames are added to it.
            writer: Where large ones may be put instead, if anywhere.
            final: No more answers to the request follow.
        """
        inline = self._inline
        data = parts[inline[0]] if len(inline) == 1 else b"".join([parts[at] for at in inline])
        if not self._frames:
            return ResultItem(ticket, 0, self._payload, "", "", final, data)
        slots: list[Slot | None] = []
        before = len(frames)
        for at in self._frames:
            part, slot = parts[at], None
            if writer is not None and len(part) >= SLOT_MIN_BYTES:
                slot = writer.put(part)
                part = part if slot else bytes(part)  # no room, and the model may use its memory again
            slots.append(slot)
            if slot is None:
                frames.append(part)
        count = len(frames) - before
        places = NO_PAYLOAD if count == len(slots) else wire.encode_payload(Places(slots))
        return ResultItem(ticket, count, self._payload, "", "", final, data, places)
