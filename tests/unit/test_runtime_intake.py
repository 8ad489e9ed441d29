"""What a batch's bytes are turned into before the model sees them."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.arena import Arena, ArenaView
from inferoxy.errors import InvalidRequest
from inferoxy.runtime.executor import Executor
from inferoxy.runtime.intake import Intake, tensor_bytes
from inferoxy.wire import encode_payload
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


def test_bytes_in_a_frame_are_not_copied() -> None:
    frame = zmq.Frame(b"12345678")
    found = tensor_bytes(m.Tensor("x", "UINT8", (8,)), iter([frame]), None)
    assert np.shares_memory(np.frombuffer(found, np.uint8), np.frombuffer(frame.buffer, np.uint8))


def test_a_slot_is_refused_by_an_instance_without_shared_memory() -> None:
    tensor = m.Tensor("x", "UINT8", (8,), m.Slot("segment", 64, 8))
    with pytest.raises(InvalidRequest, match=r"tensor 'x': expected its bytes in a frame, found a slot"):
        tensor_bytes(tensor, iter([]), None)


def test_bytes_in_a_slot_are_read_in_place_and_not_to_be_changed(tmp_path: Path) -> None:
    arena = Arena(tmp_path, 64 << 20)
    slot = arena.take("m", 100_000)
    assert slot is not None
    slot.view[:3] = b"abc"
    tensor = m.Tensor("x", "UINT8", (100_000,), slot.slot)
    found = tensor_bytes(tensor, iter([]), ArenaView(tmp_path))
    assert isinstance(found, memoryview)
    assert found.readonly
    slot.view[:3] = b"xyz"
    assert bytes(found[:3]) == b"xyz"
    found.release()
    arena.release(slot)
    arena.close()


@pytest.mark.usefixtures("clean_import")
def test_large_outputs_go_into_the_reply_slot_unless_another_instance_may_be_writing_there(tmp_path: Path) -> None:
    backend = load(write_model(tmp_path / "model", MODEL))
    arena = Arena(tmp_path / "arena", 64 << 20)
    slot = arena.take("m", 1 << 20)
    assert slot is not None
    array = np.arange(300 * 300, dtype=np.uint8).reshape(300, 300)
    payload = m.Payload([m.Tensor("x", "UINT8", (300, 300))], reply=slot.slot)
    for again, expected_frames in ((False, 0), (True, 1)):
        batch = m.Batch(id=1, items=[m.BatchItem(0, 1, encode_payload(payload), again=again)])
        sent: list[Any] = []
        with ThreadPoolExecutor(1) as pool:
            intake = Intake(backend, 8, pool, ArenaView(tmp_path / "arena"))
            Executor(backend, True, pool, sent.append).run(intake.prepare(batch, [array.tobytes()]))
        ((result, frames),) = wire.decode(sent[0])
        answer = wire.decode_result(result.items[0].payload)
        assert len(frames) == expected_frames
        place = answer.tensors[0].slot
        if place is not None:
            at = place.offset - slot.slot.offset
            assert bytes(slot.view[at : at + place.size]) == array.tobytes()
    arena.release(slot)
    arena.close()


@pytest.mark.usefixtures("clean_import")
def test_frames_that_are_missing_fail_only_the_requests_they_belong_to(tmp_path: Path) -> None:
    backend = load(write_model(tmp_path, MODEL))
    batch, frames = make_batch(1, [Call({"x": np.ones((2, 2), np.uint8)}) for _ in range(3)])
    with ThreadPoolExecutor(1) as pool:
        first, second, third = Intake(backend, 8, pool).prepare(batch, frames[:2]).items
        batch.items[1].frames = -1
        bad = Intake(backend, 8, pool).prepare(batch, frames).items[1]
    assert (first.error, second.error) == (None, None)
    assert str(third.error) == "batch 1: expected 1 frames, found 0"
    assert str(bad.error) == "batch 1: expected -1 frames, found 0"


@pytest.mark.usefixtures("clean_import")
def test_a_shape_that_no_array_can_have_is_the_requests_fault(tmp_path: Path) -> None:
    backend = load(write_model(tmp_path, MODEL))
    batch, frames = make_batch(1, [Call({"x": np.ones((0, 2), np.uint8)})])
    batch.items[0].payload = m.Raw(
        bytes(batch.items[0].payload).replace(b"\x92\x00\x02", b"\x92\x00\xcf" + b"\xff" * 8)
    )
    with ThreadPoolExecutor(1) as pool:
        (item,) = Intake(backend, 8, pool).prepare(batch, frames).items
    assert isinstance(item.error, InvalidRequest)


@pytest.mark.usefixtures("clean_import")
def test_the_time_left_is_counted_from_arrival(tmp_path: Path) -> None:
    backend = load(write_model(tmp_path, MODEL))
    batch, frames = make_batch(1, [Call({"x": np.ones((1, 1), np.uint8)}, timeout_us=us) for us in (0, 5_000_000)])
    before = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        forever, limited = Intake(backend, 8, pool).prepare(batch, frames).items
    assert forever.deadline == float("inf")
    assert before + 5 <= limited.deadline <= time.monotonic() + 5
