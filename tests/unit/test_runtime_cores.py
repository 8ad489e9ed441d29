"""The number of cores is what affinity and quota allow."""

import os
from pathlib import Path

import pytest

from inferoxy.runtime.cores import cores


@pytest.mark.parametrize(
    ("text", "expected"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_quota_limits_the_cores(tmp_path: Path, text: str, expected: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text)
    assert cores(path) == (expected or len(os.sched_getaffinity(0)))


def test_without_a_quota_affinity_decides(tmp_path: Path) -> None:
    assert cores(tmp_path / "absent") == len(os.sched_getaffinity(0))
