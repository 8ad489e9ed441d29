"""Paths inside a container as the engine on the host knows them."""

from pathlib import Path

import pytest

from inferoxy.errors import ModelUnavailable
from task_manager.launchers.host_paths import on_host, own_container_id

ID = "4f1c" * 16
MOUNTS = [
    {"Type": "volume", "Destination": "/data", "Source": "/var/lib/docker/volumes/x_data/_data"},
    {"Type": "bind", "Destination": "/data/models", "Source": "/home/me/models"},
]


def test_a_container_knows_itself_by_what_docker_mounts_into_it() -> None:
    mountinfo = (
        "812 790 254:0 /var/lib/docker/volumes/x_data/_data /data rw,relatime - ext4 /dev/vda rw\n"
        f"813 790 254:0 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n"
    )
    assert own_container_id(mountinfo) == ID


def test_a_host_is_no_container() -> None:
    assert own_container_id("22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n") == ""
    assert on_host(Path("/srv/data/run"), None) == "/srv/data/run"


def test_a_path_is_found_by_the_innermost_mount_above_it() -> None:
    assert on_host(Path("/data/run/backend"), MOUNTS) == "/var/lib/docker/volumes/x_data/_data/run/backend"
    assert on_host(Path("/data/models/a.onnx"), MOUNTS) == "/home/me/models/a.onnx"
    assert on_host(Path("/data"), MOUNTS) == "/var/lib/docker/volumes/x_data/_data"


def test_a_path_of_the_container_alone_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match=r"/database/x lies inside .* mounted: /data, /data/models"):
        on_host(Path("/database/x"), MOUNTS)
