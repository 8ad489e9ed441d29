"""Answers' tensors leave inline, in frames or in shared memory, and bridges find them there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridges.pending import Answer
from bridges.results import read
from bridges.slots import Placer, RequestSlots
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.arena import SLOT_MIN_BYTES, Arena, ArenaView, OwnedSlot, SlotWriter
from inferoxy.errors import ModelError
from inferoxy.runtime.forms import Form

SMALL, MIDDLE, LARGE = 3, wire.INLINE_BYTES + 1, SLOT_MIN_BYTES + 5


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    made = Arena(tmp_path / "arena", 256 << 20)
    yield made
    assert made.usage()["used_slots"] == 0
    made.close()


def taken(arena: Arena, size: int) -> OwnedSlot:
    slot = arena.take("m", size)
    assert slot is not None
    return slot


def writer_of(arena: Arena, slot: OwnedSlot) -> SlotWriter:
    return SlotWriter(slot.slot, ArenaView(arena.root).open(slot.slot))


def form_of(*sizes: int, **more: Any) -> Form:
    return Form([m.Tensor(f"t{at}", "UINT8", (size,)) for at, size in enumerate(sizes)], sizes, **more)


def parts_of(*sizes: int, seed: int = 0) -> list[bytes]:
    return [np.random.default_rng([seed, at]).bytes(size) for at, size in enumerate(sizes)]


def test_small_tensors_leave_inline_and_others_in_frames_as_they_are() -> None:
    parts = parts_of(SMALL, MIDDLE, SMALL, LARGE)
    frames: list[Any] = [b"another's"]
    item = form_of(SMALL, MIDDLE, SMALL, LARGE).item(5, parts, frames, None)
    assert (item.ticket, item.final, item.frames, item.code) == (5, True, 2, "")
    assert item.data == parts[0] + parts[2]
    assert [frame is part for frame, part in zip(frames[1:], (parts[1], parts[3]), strict=True)] == [True, True]
    assert item.places == m.NO_PAYLOAD
    assert [t.inline for t in wire.decode_result(item.payload).tensors] == [SMALL, None, SMALL, None]


def test_large_tensors_go_into_the_slot_and_those_between_into_frames(arena: Arena) -> None:
    slot = taken(arena, 4 * LARGE)
    parts = parts_of(LARGE, SMALL, MIDDLE, LARGE)
    frames: list[Any] = []
    item = form_of(LARGE, SMALL, MIDDLE, LARGE).item(0, parts, frames, writer_of(arena, slot))
    assert (item.frames, frames, item.data) == (1, [parts[2]], parts[1])
    first, between, last = wire.decode_places(item.places).slots
    assert between is None
    for place, part in ((first, parts[0]), (last, parts[3])):
        assert place is not None
        at = place.offset - slot.slot.offset
        assert bytes(slot.view[at : at + place.size]) == part
    arena.release(slot)


def test_what_has_no_room_in_the_slot_is_copied_into_a_frame(arena: Arena) -> None:
    slot = taken(arena, LARGE)
    memory = bytearray(LARGE)
    frames: list[Any] = []
    item = form_of(LARGE, LARGE).item(0, [memory, memoryview(memory)], frames, writer_of(arena, slot))
    memory[:5] = b"again"  # the model uses its memory for its next answer
    assert wire.decode_places(item.places).slots == [m.Slot(slot.slot.segment, slot.slot.offset, LARGE), None]
    assert (item.frames, frames) == (1, [bytes(LARGE)])
    arena.release(slot)


def test_when_nothing_fits_into_the_slot_there_are_no_places(arena: Arena) -> None:
    slot = taken(arena, SLOT_MIN_BYTES)
    frames: list[Any] = []
    (part,) = parts_of(LARGE)
    item = form_of(LARGE).item(0, [part], frames, writer_of(arena, slot))
    assert (item.places, item.frames, frames) == (m.NO_PAYLOAD, 1, [part])
    arena.release(slot)


def test_answers_of_one_form_differ_in_their_bytes_alone() -> None:
    form = form_of(SMALL, MIDDLE, prediction={"n": 1}, parameters={"p": 2})
    frames: list[Any] = []
    first, second = (form.item(seed, parts_of(SMALL, MIDDLE, seed=seed), frames, None, final=False) for seed in (0, 1))
    assert first.payload == second.payload
    result = wire.decode_result(first.payload)
    assert (result.prediction, result.parameters, first.final) == ({"n": 1}, {"p": 2}, False)
    assert [first.data, second.data] == [parts_of(SMALL, seed=seed)[0] for seed in (0, 1)]
    assert frames == [parts_of(SMALL, MIDDLE, seed=seed)[1] for seed in (0, 1)]


def test_an_answer_without_tensors_is_its_prediction() -> None:
    item = form_of(prediction=[1]).item(0, [], [], None)
    assert (item.frames, item.data, item.places) == (0, b"", m.NO_PAYLOAD)
    assert wire.decode_result(item.payload) == m.ResultPayload([], [1])


@pytest.mark.parametrize("prediction", [object(), 2**64, {"deep": [2**70]}, "\udc80"])
def test_a_prediction_that_cannot_travel_is_the_models_fault(prediction: Any) -> None:
    with pytest.raises(ModelError, match="prediction: expected what JSON can hold"):
        form_of(prediction=prediction)


def test_a_model_that_gives_its_own_memory_inline_may_use_it_once_the_answer_is_encoded() -> None:
    memory = bytearray(b"abc")
    item = form_of(3).item(0, [memoryview(memory)], [], None)
    (head,) = wire.encode(m.Result(items=[item]))
    memory[:] = b"xyz"
    assert wire.decode_header(head).items[0].data == b"abc"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(
        st.sampled_from([0, 1, SMALL, 4_096, MIDDLE, SLOT_MIN_BYTES - 1, SLOT_MIN_BYTES, LARGE]), max_size=6
    ),
    room=st.sampled_from([0, SLOT_MIN_BYTES, 3 * SLOT_MIN_BYTES, 10 * LARGE]),
    as_views=st.booleans(),
)
def test_a_bridge_reads_what_an_instance_answered(arena: Arena, sizes: list[int], room: int, as_views: bool) -> None:
    slot = taken(arena, room) if room else None
    form = form_of(*sizes)
    for seed in (0, 1):
        whole = parts_of(*sizes, seed=seed)
        frames: list[Any] = []
        writer = writer_of(arena, slot) if slot else None
        item = form.item(0, [memoryview(part) for part in whole] if as_views else whole, frames, writer)
        ((result, arrived),) = wire.decode(wire.encode(m.Result(items=[item]), frames))
        (item,) = result.items
        response = m.Response(payload=item.payload, data=item.data, places=item.places)
        if slot is not None and item.places != m.NO_PAYLOAD:
            arrived = Placer(arena).fetch(RequestSlots([slot], slot), response, arrived)
        outputs = read(Answer(response, arrived)).outputs
        assert [bytes(output.data) for output in outputs] == whole
    if slot is not None:
        arena.release(slot)
