"""What a batch's bytes are turned into before the model sees them."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zmq

from inferoxy import messages as m
from inferoxy.errors import InvalidRequest
from inferoxy.runtime.intake import Intake, tensor_bytes
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
    found = tensor_bytes(m.Tensor("x", "UINT8", (8,)), iter([frame]))
    assert np.shares_memory(np.frombuffer(found, np.uint8), np.frombuffer(frame.buffer, np.uint8))


def test_a_slot_is_refused_by_name() -> None:
    tensor = m.Tensor("x", "UINT8", (8,), m.Slot("segment", 64, 8))
    with pytest.raises(InvalidRequest, match=r"tensor 'x': expected its bytes in a frame, found slot segment\+64"):
        tensor_bytes(tensor, iter([]))


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
