"""Large tensors of requests in shared memory: put there before a request is sent, fetched from there with its answer.

Everything above the link sees frames. What is small, what an instance cannot see and what the arena has no room for
stays in frames: slower, never wrong.
Invariants: every slot handed to `settle` is released or retired exactly once; an answer's bytes are copied out before
its slots are given back.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.arena import ALIGNMENT, SLOT_MIN_BYTES, Arena, OwnedSlot
from inferoxy.errors import InternalError, InvalidRequest
from inferoxy.sockets import buffer

_ROOM = 5 / 4  # of a reply slot beyond the largest answer seen
_MODELS_REMEMBERED = 4_096


class RequestSlots:
    """The slots of one request; `reply` is the one that its instance may write into."""

    __slots__ = ("owned", "reply")

    def __init__(self, owned: list[OwnedSlot], reply: OwnedSlot | None = None) -> None:
        self.owned = owned
        self.reply = reply


class Placer:
    """Moves tensors between frames and an arena."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._answer_bytes: dict[str, int] = {}

    def usage(self) -> dict[str, int]:
        """For `inferoxy status`."""
        return self._arena.usage()

    def take_body(self, model: str, size: int, shift: int) -> tuple[OwnedSlot, memoryview] | None:
        """A slot to receive a body into, and the place in it; None: receive it elsewhere.

        Args:
            model: Whose instances will read it.
            size: Bytes of the body.
            shift: Where in the body the first tensor begins; it will be aligned.
        """
        if size < SLOT_MIN_BYTES:
            return None
        start = -shift % ALIGNMENT
        slot = self._arena.take(model, start + size)
        return None if slot is None else (slot, slot.view[start:])

    def place(
        self, request: m.Request, frames: Sequence[Any], body: OwnedSlot | None
    ) -> tuple[Sequence[Any], RequestSlots | None]:
        """Put a request's large tensors into slots.

        Args:
            request: Its places and flags are changed accordingly.
            frames: The bytes of its tensors that are not inline.
            body: The slot that some of them lie in already; it belongs to the request from now on.

        Returns:
            The frames that are left, and the slots, if there are any.
        """
        answer_bytes = self._answer_bytes.get(request.model, 0) if self._answer_bytes else 0
        if request.size < SLOT_MIN_BYTES and not answer_bytes and body is None:
            return frames, None
        slots = RequestSlots([] if body is None else [body])
        places: list[m.Slot | None] = []
        left: list[Any] = []
        for frame in frames:
            place = None if len(frame) < SLOT_MIN_BYTES else self._find_place(request.model, frame, body, slots)
            places.append(place)
            if place is None:
                left.append(frame)
        reply = None
        if answer_bytes:
            slots.reply = self._arena.take(request.model, int(answer_bytes * _ROOM))
            if slots.reply is not None:
                slots.owned.append(slots.reply)
                reply = slots.reply.slot
        if not slots.owned:
            return frames, None
        request.places = wire.encode_payload(m.Places(places, reply))
        request.flags |= m.RequestFlag.SLOTTED
        return left, slots

    def fetch(self, slots: RequestSlots, response: m.Response, frames: Sequence[Any]) -> Sequence[Any]:
        """The frames of an answer with those that lie in the reply slot.

        Raises:
            InternalError: The instance named a place that it was not given.
        """
        try:
            places = wire.decode_places(response.places).slots
        except InvalidRequest as exc:
            raise InternalError(f"the model's answer is malformed: {exc.message}") from exc
        if places.count(None) != len(frames):
            expected = places.count(None)
            raise InternalError(f"the model's answer is malformed: expected {expected} frames, found {len(frames)}")
        rest = iter(frames)
        return [next(rest) if place is None else _read(slots.reply, place) for place in places]

    def learn(self, model: str, frames: Sequence[Any]) -> None:
        """Large answers came in frames: next time there will be a slot for them."""
        size = sum(len(frame) + ALIGNMENT for frame in frames if len(frame) >= SLOT_MIN_BYTES)
        if size > self._answer_bytes.get(model, 0) and len(self._answer_bytes) < _MODELS_REMEMBERED:
            self._answer_bytes[model] = size

    def settle(self, slots: RequestSlots, fate: int) -> None:
        """Give the slots of a request back: for good, or never to be used again."""
        for slot in slots.owned:
            if fate == m.SlotFate.FREE:
                self._arena.release(slot)
            else:
                self._arena.retire(slot)

    def give_back(self, slot: OwnedSlot) -> None:
        """A body's slot that never became part of a request."""
        self._arena.release(slot)

    def close(self) -> None:
        """Remove the arena."""
        self._arena.close()

    def _find_place(self, model: str, frame: Any, body: OwnedSlot | None, slots: RequestSlots) -> m.Slot | None:
        data = buffer(frame)
        if body is not None and not data.readonly:
            offset = _address(data) - body.address
            if offset >= 0 and offset + len(data) <= len(body.view):
                return m.Slot(body.slot.segment, body.slot.offset + offset, len(data))
        slot = self._arena.take(model, len(data))
        if slot is None:
            return None
        slot.view[:] = data
        slots.owned.append(slot)
        return slot.slot


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def _read(reply: OwnedSlot | None, place: m.Slot) -> bytes:
    if reply is not None and place.segment == reply.slot.segment:
        start = place.offset - reply.slot.offset
        if start >= 0 and place.size >= 0 and start + place.size <= reply.slot.size:
            return bytes(reply.view[start : start + place.size])
    raise InternalError(f"the model's answer is malformed: {place.segment}+{place.offset} is not its reply slot")
