"""What a batch's bytes are turned into before the model sees them."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.arena import Arena, ArenaView
from inferoxy.errors import InvalidRequest
from inferoxy.runtime.backend import Backend
from inferoxy.runtime.executor import Executor
from inferoxy.runtime.intake import MAX_KEPT_BYTES, Intake, Item
from tests.requests_for_models import Call, make_batch
from tests.unit.runtime_rig import clean_import, load, write_model

__all__ = ["clean_import"]
MODEL = """
from inferoxy.runtime import Model
class Any(Model):
    inputs = {"x": ("UINT8", [-1, -1])}
    outputs = {"y": ("UINT8", [-1, -1])}
    def infer_each(self, requests): return [{"y": r["x"]} for r in requests]
"""
TWO = """
from inferoxy.runtime import Model
class Two(Model):
    inputs = {"x": ("UINT8", [-1]), "y": ("UINT8", [-1])}
    outputs = {"z": ("UINT8", [-1])}
    def infer_each(self, requests): return [{"z": r["x"]} for r in requests]
"""


@pytest.fixture
def backend(tmp_path: Path, clean_import: None) -> Backend:
    return load(write_model(tmp_path / "model", MODEL))


@pytest.fixture
def two(tmp_path: Path, clean_import: None) -> Backend:
    return load(write_model(tmp_path / "two", TWO))


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    made = Arena(tmp_path / "arena", 64 << 20)
    yield made
    made.close()


def read(
    backend: Backend, *items: m.BatchItem, frames: Sequence[Any] = (), arena: ArenaView | None = None
) -> list[Item]:
    """The items of one batch, as they come out of the intake."""
    with ThreadPoolExecutor(1) as pool:
        return Intake(backend, 8, pool, arena).prepare(m.Batch(id=1, items=list(items)), frames).items


def payload(*tensors: m.Tensor, **more: Any) -> msgspec.Raw:
    return wire.encode_payload(m.Payload(list(tensors), **more))


def in_slots(*slots: m.Slot | None, reply: m.Slot | None = None) -> msgspec.Raw:
    return wire.encode_payload(m.Places(list(slots), reply))


def test_bytes_in_a_frame_are_not_copied(backend: Backend) -> None:
    frame = zmq.Frame(b"12345678")
    (item,) = read(backend, m.BatchItem(0, 1, payload(m.Tensor("x", "UINT8", (2, 4)))), frames=[frame])
    assert np.shares_memory(np.frombuffer(item.chunks[0], np.uint8), np.frombuffer(frame.buffer, np.uint8))


def test_inline_bytes_and_frames_find_their_tensors_in_any_order(two: Backend) -> None:
    x, y = m.Tensor("x", "UINT8", (3,), 3), m.Tensor("y", "UINT8", (2,))
    for tensors in ((x, y), (y, x)):
        (item,) = read(two, m.BatchItem(0, 1, payload(*tensors), data=b"abc"), frames=[b"de"])
        assert [bytes(item.request[name]) for name in "xy"] == [b"abc", b"de"]
    tensors = (m.Tensor("y", "UINT8", (2,), 2), x)
    (item,) = read(two, m.BatchItem(0, 0, payload(*tensors), data=b"deabc"))
    assert [bytes(item.request[name]) for name in "xy"] == [b"abc", b"de"]


@pytest.mark.parametrize(
    ("tensor", "data", "frames"),
    [
        (m.Tensor("x", "UINT8", (1, 2), 2), b"", []),
        (m.Tensor("x", "UINT8", (1, 2), 2), b"a", []),
        (m.Tensor("x", "UINT8", (1, 2), 2), b"abc", []),
        (m.Tensor("x", "UINT8", (1, 2), 2), b"ab", [b"cd"]),
        (m.Tensor("x", "UINT8", (1, 2), 2), b"", [b"ab"]),
        (m.Tensor("x", "UINT8", (1, 2), 1), b"a", []),
        (m.Tensor("x", "UINT8", (1, 2), -1), b"ab", []),
        (m.Tensor("x", "UINT8", (1, 2)), b"ab", []),
        (m.Tensor("x", "UINT8", (1, 2)), b"", []),
        (m.Tensor("x", "UINT8", (1, 2)), b"c", [b"ab"]),
        (m.Tensor("x", "UINT8", (1, 2)), b"", [b"ab", b"cd"]),
    ],
)
def test_bytes_that_are_not_what_the_tensors_say_spoil_their_request_alone(
    backend: Backend, tensor: m.Tensor, data: bytes, frames: list[bytes]
) -> None:
    bad = m.BatchItem(0, len(frames), payload(tensor), data=data)
    good = m.BatchItem(1, 1, payload(m.Tensor("x", "UINT8", (1, 2))))
    first, second = read(backend, bad, good, frames=[*frames, b"xy"])
    assert isinstance(first.error, InvalidRequest)
    assert second.error is None
    assert bytes(second.request["x"]) == b"xy"


def test_a_slot_is_refused_by_an_instance_without_shared_memory(backend: Backend) -> None:
    source = m.BatchItem(0, 0, payload(m.Tensor("x", "UINT8", (2, 4))), places=in_slots(m.Slot("segment", 64, 8)))
    (item,) = read(backend, source)
    assert isinstance(item.error, InvalidRequest)
    assert "expected the tensors in frames, found slots" in item.error.message


def test_bytes_in_a_slot_are_read_in_place_and_not_to_be_changed(backend: Backend, arena: Arena) -> None:
    slot = arena.take("m", 100_000)
    assert slot is not None
    slot.view[:3] = b"abc"
    source = m.BatchItem(0, 0, payload(m.Tensor("x", "UINT8", (10, 10_000))), places=in_slots(slot.slot))
    (item,) = read(backend, source, arena=ArenaView(arena.root))
    found = item.chunks[0]
    assert isinstance(found, memoryview)
    assert found.readonly
    slot.view[:3] = b"xyz"
    assert bytes(found[:3]) == b"xyz"
    assert not item.request["x"].flags.writeable
    item.request.clear()
    found.release()
    arena.release(slot)


def test_tensors_may_lie_inline_in_a_slot_and_in_a_frame_at_once(tmp_path: Path, arena: Arena) -> None:
    three = load(write_model(tmp_path / "three", TWO.replace('"y":', '"a": ("UINT8", [-1]), "y":')))
    slot = arena.take("m", 70_000)
    assert slot is not None
    slot.view[:] = bytes(range(250)) * 280
    tensors = m.Tensor("x", "UINT8", (70_000,)), m.Tensor("a", "UINT8", (1,), 1), m.Tensor("y", "UINT8", (5_000,))
    source = m.BatchItem(0, 1, payload(*tensors), data=b"i", places=in_slots(slot.slot, None))
    (item,) = read(three, source, frames=[b"f" * 5_000], arena=ArenaView(arena.root))
    assert item.error is None
    assert bytes(item.request["x"]) == bytes(slot.view)
    assert (bytes(item.request["a"]), bytes(item.request["y"])) == (b"i", b"f" * 5_000)
    item.request.clear()
    item.chunks.clear()
    arena.release(slot)


def test_places_that_are_not_what_the_tensors_say_spoil_their_request_alone(backend: Backend, arena: Arena) -> None:
    slot = arena.take("m", 70_000)
    assert slot is not None
    described = payload(m.Tensor("x", "UINT8", (7, 10_000)))
    sound = in_slots(slot.slot)
    outside = m.Slot(slot.slot.segment, 1 << 40, 70_000)
    broken = (
        msgspec.Raw(b"\x05"),
        msgspec.Raw(b"\x91\x91\x05"),
        in_slots(),
        in_slots(None),
        in_slots(slot.slot, slot.slot),
        in_slots(slot.slot, None),
        in_slots(outside),
        in_slots(slot.slot, reply=outside),
        in_slots(m.Slot("../../etc/passwd", 0, 70_000)),
    )
    for places in broken:
        sources = [m.BatchItem(at, 0, described, places=own) for at, own in enumerate((places, sound))]
        bad, good = read(backend, *sources, arena=ArenaView(arena.root))
        assert isinstance(bad.error, InvalidRequest), places
        assert good.error is None
        good.request.clear()
        good.chunks.clear()
    arena.release(slot)


def test_large_outputs_go_into_the_reply_slot_unless_another_instance_may_be_writing_there(
    backend: Backend, arena: Arena
) -> None:
    slot = arena.take("m", 1 << 20)
    assert slot is not None
    array = np.arange(300 * 300, dtype=np.uint8).reshape(300, 300)
    described = payload(m.Tensor("x", "UINT8", (300, 300)))
    for again, expected_frames in ((False, 0), (True, 1)):
        places = in_slots(None, reply=slot.slot)
        batch = m.Batch(id=1, items=[m.BatchItem(0, 1, described, again=again, places=places)])
        sent: list[Any] = []
        with ThreadPoolExecutor(1) as pool:
            intake = Intake(backend, 8, pool, ArenaView(arena.root))
            Executor(backend, True, pool, sent.append).run(intake.prepare(batch, [array.tobytes()]))
        ((result, frames),) = wire.decode(sent[0])
        assert len(frames) == expected_frames
        (place,) = wire.decode_places(result.items[0].places).slots or [None]
        assert (place is None) is again
        if place is not None:
            at = place.offset - slot.slot.offset
            assert bytes(slot.view[at : at + place.size]) == array.tobytes()
    arena.release(slot)


def test_a_payload_is_read_once_and_bytes_each_time(backend: Backend) -> None:
    described = payload(m.Tensor("x", "UINT8", (1, 2), 2))
    first, second = read(backend, *[m.BatchItem(at, 0, described, data=data) for at, data in enumerate((b"ab", b"cd"))])
    assert first.payload is second.payload
    assert (bytes(first.request["x"]), bytes(second.request["x"])) == (b"ab", b"cd")


def test_a_large_payload_is_read_each_time(backend: Backend) -> None:
    described = payload(m.Tensor("x", "UINT8", (1, 2), 2), parameters={"k": "v" * MAX_KEPT_BYTES})
    first, second = read(backend, *[m.BatchItem(at, 0, described, data=b"ab") for at in range(2)])
    assert first.payload is not second.payload
    assert first.payload == second.payload


def test_what_is_refused_is_refused_again(backend: Backend) -> None:
    for described in (
        payload(m.Tensor("x", "FP32", (1, 2), 8)),
        payload(m.Tensor("x", "UINT8", (1, 8), 8), outputs=["none"]),
        payload(m.Tensor("x", "UINT8", (1, 8), 8), picture="jpeg"),
    ):
        items = read(backend, *[m.BatchItem(at, 0, described, data=b"12345678") for at in range(2)])
        assert len({str(item.error) for item in items}) == 1
        assert all(isinstance(item.error, InvalidRequest) for item in items)


@pytest.mark.parametrize("parameters", [{"k": 1}, {"deep": {"list": [1]}}])
def test_a_model_that_changes_a_requests_parameters_changes_no_other_requests(
    backend: Backend, parameters: dict[str, Any]
) -> None:
    described = payload(m.Tensor("x", "UINT8", (1, 2), 2), parameters=parameters)
    with ThreadPoolExecutor(1) as pool:
        intake = Intake(backend, 8, pool)
        for _ in range(2):
            batch = m.Batch(id=1, items=[m.BatchItem(0, 0, described, data=b"ab")])
            (item,) = intake.prepare(batch, []).items
            assert item.request.parameters == parameters
            item.request.parameters.pop("k", None)
            item.request.parameters.get("deep", {}).get("list", []).append(2)


def test_frames_that_are_missing_fail_only_the_requests_they_belong_to(backend: Backend) -> None:
    batch, frames = make_batch(1, [Call({"x": np.ones((100, 100), np.uint8)}) for _ in range(3)])
    with ThreadPoolExecutor(1) as pool:
        first, second, third = Intake(backend, 8, pool).prepare(batch, frames[:2]).items
        batch.items[1].frames = -1
        bad = Intake(backend, 8, pool).prepare(batch, frames).items[1]
    assert (first.error, second.error) == (None, None)
    assert str(third.error) == "batch 1: expected 1 frames, found 0"
    assert str(bad.error) == "batch 1: expected -1 frames, found 0"


def test_a_shape_that_no_array_can_have_is_the_requests_fault(backend: Backend) -> None:
    batch, frames = make_batch(1, [Call({"x": np.ones((0, 2), np.uint8)})])
    batch.items[0].payload = msgspec.Raw(
        bytes(batch.items[0].payload).replace(b"\x92\x00\x02", b"\x92\x00\xcf" + b"\xff" * 8)
    )
    with ThreadPoolExecutor(1) as pool:
        (item,) = Intake(backend, 8, pool).prepare(batch, frames).items
    assert isinstance(item.error, InvalidRequest)


def test_the_time_left_is_counted_from_arrival(backend: Backend) -> None:
    batch, frames = make_batch(1, [Call({"x": np.ones((1, 1), np.uint8)}, timeout_us=us) for us in (0, 5_000_000)])
    before = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        forever, limited = Intake(backend, 8, pool).prepare(batch, frames).items
    assert forever.deadline == float("inf")
    assert before + 5 <= limited.deadline <= time.monotonic() + 5
