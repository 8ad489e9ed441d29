"""Slots: who owns them, what happens to those that are retired, and what a reader may see."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferoxy.arena import (
    SEGMENT_BYTES,
    SIZE_CLASSES,
    SLOT_MIN_BYTES,
    Arena,
    ArenaView,
    OwnedSlot,
    model_folder,
    reclaim,
    size_class,
)
from inferoxy.errors import InvalidRequest
from inferoxy.messages import Slot


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    made = Arena(tmp_path / "arena", 256 << 20)
    yield made
    made.close()
    assert not [p for p in (tmp_path / "arena").rglob("*") if p.is_file()]


def take(arena: Arena, size: int = 100_000, model: str = "m") -> OwnedSlot:
    slot = arena.take(model, size)
    assert slot is not None
    return slot


@given(st.integers(1, 1 << 32))
def test_a_slot_wastes_at_most_a_fifth_beyond_the_smallest_class(size: int) -> None:
    found = size_class(size)
    assert found >= size
    assert found % 64 == 0
    if size > SLOT_MIN_BYTES:
        assert found <= size * 1.25 + 4096


def test_a_reader_sees_what_the_owner_wrote_and_the_owner_what_it_wrote(arena: Arena) -> None:
    slot = take(arena)
    slot.view[:5] = b"hello"
    view = ArenaView(arena.root).open(slot.slot)
    assert bytes(view[:5]) == b"hello"
    view[:5] = b"world"
    assert bytes(slot.view[:5]) == b"world"
    assert len(view) == 100_000
    view.release()
    arena.release(slot)


def test_models_have_folders_of_their_own(arena: Arena) -> None:
    first, second = take(arena, model="a"), take(arena, model="b")
    assert first.slot.segment.split("/")[0] == model_folder(arena.root, "a").name
    assert first.slot.segment.split("/")[0] != second.slot.segment.split("/")[0]
    arena.release(first)
    arena.release(second)


def test_a_released_slot_is_the_next_to_be_handed_out(arena: Arena) -> None:
    slot = take(arena)
    place = slot.slot
    arena.release(slot)
    again = take(arena)
    assert again.slot == place
    arena.release(again)


def test_a_retired_slot_is_never_handed_out_and_its_file_goes_with_the_last_slot(arena: Arena) -> None:
    kept, suspect = take(arena), take(arena)
    late_writer = ArenaView(arena.root).open(suspect.slot)
    arena.retire(suspect)
    path = arena.root / kept.slot.segment
    fresh = take(arena)
    assert fresh.slot.segment != kept.slot.segment
    assert path.exists()
    arena.release(kept)
    assert not path.exists()
    late_writer[:4] = b"late"
    assert bytes(fresh.view[:4]) != b"late"
    late_writer.release()
    arena.release(fresh)


def test_a_full_arena_gives_nothing_and_recovers(tmp_path: Path) -> None:
    arena = Arena(tmp_path, SEGMENT_BYTES)
    slots = []
    while (slot := arena.take("m", 8 << 20)) is not None:
        slots.append(slot)
    assert len(slots) == 4
    assert arena.usage()["refused"] == 1
    assert arena.take("m", 100_000) is None
    for slot in slots:
        arena.release(slot)
    small = arena.take("other", 100_000)
    assert small is not None
    arena.release(small)
    arena.close()


def test_spare_segments_are_given_back(arena: Arena) -> None:
    slots = [take(arena, 16 << 20) for _ in range(8)]
    assert arena.bytes == 8 * (16 << 20)
    for slot in slots:
        arena.release(slot)
    assert arena.bytes <= SEGMENT_BYTES


@pytest.mark.parametrize(
    "slot",
    [
        Slot("../../etc/passwd", 0, 1),
        Slot("0123456789abcdef/../x.1", 0, 1),
        Slot("0123456789abcdef/1-2.3", 0, 1),
        Slot("", 0, 1),
    ],
)
def test_a_reader_maps_nothing_but_segments(arena: Arena, slot: Slot) -> None:
    with pytest.raises(InvalidRequest):
        ArenaView(arena.root).open(slot)


@pytest.mark.parametrize(("offset", "size"), [(-1, 10), (0, SEGMENT_BYTES + 1), (SEGMENT_BYTES, 1), (0, -1)])
def test_a_slot_outside_its_segment_is_refused(arena: Arena, offset: int, size: int) -> None:
    slot = take(arena)
    with pytest.raises(InvalidRequest):
        ArenaView(arena.root).open(Slot(slot.slot.segment, offset, size))
    arena.release(slot)


def test_segments_of_the_dead_are_reclaimed_and_those_of_the_living_are_not(arena: Arena) -> None:
    mine = take(arena)
    child = os.fork()
    if not child:
        other = Arena(arena.root, 64 << 20)
        other.take("m", 100_000)
        os._exit(0)
    os.waitpid(child, 0)
    folder = model_folder(arena.root, "m")
    assert len(list(folder.iterdir())) == 2
    assert reclaim(arena.root) == 1
    assert [p.name for p in folder.iterdir()] == [mine.slot.segment.split("/")[1]]
    arena.release(mine)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "take", "release", "retire"]), st.integers(0, 30), st.sampled_from("ab")),
        max_size=60,
    )
)
def test_no_two_owners_ever_share_a_byte(arena: Arena, steps: list[tuple[str, int, str]]) -> None:
    held: list[tuple[OwnedSlot, bytes]] = []
    stamp = 0
    for what, number, model in steps:
        if what == "take":
            slot = arena.take(model, SLOT_MIN_BYTES + 40_000 * number)
            if slot is not None:
                stamp += 1
                mark = stamp.to_bytes(8, "little")
                slot.view[:8] = slot.view[-8:] = mark
                held.append((slot, mark))
        elif held:
            slot, mark = held.pop(number % len(held))
            assert bytes(slot.view[:8]) == bytes(slot.view[-8:]) == mark
            (arena.release if what == "release" else arena.retire)(slot)
    for slot, mark in held:
        assert bytes(slot.view[:8]) == bytes(slot.view[-8:]) == mark
        arena.release(slot)
    assert arena.usage()["used_slots"] == 0
    assert SIZE_CLASSES[0] == SLOT_MIN_BYTES
