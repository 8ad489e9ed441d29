"""Which GPUs there are."""

from pathlib import Path

import pytest

from inferoxy.config import Settings
from task_manager.gpus import gpus_of, parse
from task_manager.placement import Gpu


def test_declared_gpus_are_taken_as_they_are() -> None:
    assert gpus_of(Settings(gpus=["0", "GPU-8f2a"], gpu_memory_mib=8000)) == [Gpu("0", 8000), Gpu("GPU-8f2a", 8000)]


def test_a_machine_without_the_drivers_tool_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_of(Settings()) == []


def tool(folder: Path, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_undeclared_gpus_are_those_the_driver_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool(tmp_path, "echo '0, 81559'; echo '1, 81559'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_of(Settings()) == [Gpu("0", 81559), Gpu("1", 81559)]


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'"])
def test_a_driver_that_does_not_answer_means_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    tool(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_of(Settings()) == []


def test_memory_that_is_not_a_number_is_unknown() -> None:
    assert parse("0, [N/A]\n\n") == [Gpu("0", 0)]
