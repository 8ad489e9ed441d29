"""Large tensors of requests lie in shared memory, and instances find them there."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridges.requests import Options, Prepared
from bridges.slots import Placer
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.arena import SEGMENT_BYTES, SLOT_MIN_BYTES, Arena, ArenaView
from inferoxy.errors import InferoxyError, InternalError
from inferoxy.sockets import buffer

SIZES = [0, 3, wire.INLINE_BYTES + 1, SLOT_MIN_BYTES - 1, SLOT_MIN_BYTES, 2 * SLOT_MIN_BYTES + 3]


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    made = Arena(tmp_path / "arena", 4 * SEGMENT_BYTES)
    yield made
    assert made.usage()["used_slots"] == 0
    made.close()


def request_of(parts: Sequence[Any]) -> tuple[m.Request, Sequence[Any]]:
    tensors = [m.Tensor(f"t{at}", "UINT8", (len(part),)) for at, part in enumerate(parts)]
    prepared = Prepared(tensors, list(map(len, parts)), parameters={}, outputs=[], form="tensors")
    return prepared.request("m", parts, Options(), "r")


def seen(arena: Arena, request: m.Request, frames: Sequence[Any]) -> list[bytes]:
    """The bytes of each tensor, as an instance reads them."""
    view, rest = ArenaView(arena.root), iter(frames)
    if request.places != m.NO_PAYLOAD:
        slots = wire.decode_places(request.places).slots
        frames = [next(rest) if slot is None else bytes(view.open(slot)) for slot in slots] + list(rest)
    found = wire.spread(wire.decode_payload(request.payload).tensors, request.data, frames)
    return [bytes(buffer(frame)) for frame in found]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.sampled_from(SIZES), max_size=5), is_full=st.booleans(), learned=st.sampled_from([0, 100_000]))
def test_an_instance_reads_what_a_bridge_placed(arena: Arena, sizes: list[int], is_full: bool, learned: int) -> None:
    arena.limit_bytes = 0 if is_full else 4 * SEGMENT_BYTES
    placer = Placer(arena)
    placer.learn("m", [bytes(learned)])
    parts = [bytes([at + 1]) * size for at, size in enumerate(sizes)]
    request, frames = request_of(parts)
    left, slots = placer.place(request, frames, None)
    assert seen(arena, request, left) == parts
    assert (slots is not None) == (request.places != m.NO_PAYLOAD) == bool(request.flags & m.RequestFlag.SLOTTED)
    if slots is not None:
        if not is_full:
            assert (slots.reply is not None) == bool(learned)
        assert wire.decode_places(request.places).reply == (slots.reply.slot if slots.reply else None)
        placer.settle(slots, m.SlotFate.FREE)


@pytest.mark.parametrize("sizes", [[SLOT_MIN_BYTES], [3, SLOT_MIN_BYTES, 5_000, 3 * SLOT_MIN_BYTES], [3], [5_000, 3]])
def test_tensors_in_a_received_body_stay_where_they_are(arena: Arena, sizes: list[int]) -> None:
    placer = Placer(arena)
    taken = placer.take_body("m", 10 * SLOT_MIN_BYTES, 7)
    assert taken is not None
    body, memory = taken
    parts, at = [], 7
    for number, size in enumerate(sizes):
        part = memory[at : at + size]
        part[:] = bytes([number + 1]) * size
        parts.append(part)
        at += size
    request, frames = request_of(parts)
    left, slots = placer.place(request, frames, body)
    assert slots is not None
    assert slots.owned == [body]
    assert seen(arena, request, left) == [bytes(part) for part in parts]
    placer.settle(slots, m.SlotFate.FREE)


def test_answers_are_fetched_from_the_reply_slot_and_nowhere_else(arena: Arena) -> None:
    placer = Placer(arena)
    placer.learn("m", [bytes(SLOT_MIN_BYTES)])
    request, frames = request_of([b"small"])
    _, slots = placer.place(request, frames, None)
    assert slots is not None
    assert slots.reply is not None
    place, other = slots.reply.slot, arena.take("m", 100)
    assert other is not None
    slots.reply.view[:5] = b"hello"

    def fetch(*places: m.Slot | None, frames: Sequence[bytes] = ()) -> Sequence[Any]:
        return placer.fetch(slots, m.Response(places=wire.encode_payload(m.Places(list(places)))), frames)

    inside = m.Slot(place.segment, place.offset, 5)
    assert [bytes(part) for part in fetch(inside, None, frames=[b"frame"])] == [b"hello", b"frame"]
    for outside in (
        other.slot,
        m.Slot(place.segment, place.offset - 1, 5),
        m.Slot(place.segment, place.offset, place.size + 1),
        m.Slot(place.segment, place.offset, -1),
        m.Slot("elsewhere", place.offset, 5),
    ):
        with pytest.raises(InternalError, match="is not its reply slot"):
            fetch(outside)
    with pytest.raises(InferoxyError):
        placer.fetch(slots, m.Response(places=wire.encode_payload(m.Payload([]))), ())
    arena.release(other)
    placer.settle(slots, m.SlotFate.FREE)
