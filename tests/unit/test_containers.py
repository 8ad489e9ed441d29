"""What labels and inspections say of an instance's container."""

from pathlib import Path

import pytest

from inferoxy.arena import model_folder
from inferoxy.messages import InstanceConfig
from task_manager.launchers.base import LaunchRequest, Running, launched
from task_manager.launchers.containers import LABEL, arena_identity, end_of, labels_of, running_of
from tests.unit.running import spec

ID = "0123456789abcdef" * 4
CONFIG = InstanceConfig(instance="scale-1-a", model="scale", model_version="1", backend="ipc:///x")
REQUEST = LaunchRequest(CONFIG, spec(gpu_memory_mib=7), "digest", "gpu:1", "1")


def test_a_restarted_task_manager_reads_from_labels_what_the_first_one_knew() -> None:
    labels = labels_of(REQUEST, "stack", None)
    assert all(name.startswith(LABEL) for name in labels)
    found = running_of({"Id": ID, "Labels": labels, "Created": 12})
    assert found == launched(REQUEST, "container 0123456789ab", 12.0)
    assert isinstance(found, Running)


@pytest.mark.parametrize("labels", [None, {}, {f"{LABEL}stack": "x", f"{LABEL}instance": "i"}])
def test_a_container_with_other_labels_is_no_instance(labels: dict[str, str] | None) -> None:
    assert running_of({"Id": ID, "Labels": labels, "Created": 12}) is None


def test_an_end_is_told_with_its_code_and_cause() -> None:
    limits = {"HostConfig": {"Memory": 512 << 20}}
    assert end_of({"State": {"ExitCode": 0, "OOMKilled": False, "Error": ""}, **limits}) == (
        0,
        "ended with exit code 0",
    )
    assert end_of({"State": {"ExitCode": 127, "Error": "no such file"}, **limits})[1].endswith("127: no such file")
    code, reason = end_of({"State": {"ExitCode": 137, "OOMKilled": True}, **limits})
    assert (code, "more than its 512 MiB" in reason) == (137, True)


def test_a_folder_of_shared_memory_that_was_made_anew_is_another_one(tmp_path: Path) -> None:
    assert arena_identity(tmp_path, "scale") == ""
    folder = model_folder(tmp_path, "scale")
    folder.mkdir()
    first = arena_identity(tmp_path, "scale")
    assert first == labels_of(REQUEST, "stack", tmp_path)[f"{LABEL}arena"]
    folder.rename(tmp_path / "swept")
    folder.mkdir()
    assert arena_identity(tmp_path, "scale") not in ("", first)
