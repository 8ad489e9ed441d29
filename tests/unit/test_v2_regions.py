"""System shared memory of clients: read and written within its window, whatever becomes of the object."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridges.v2_regions import FOLDER, MAX_REGIONS, Place, Regions, place_of, regions_for
from inferoxy.config import Settings, V2Settings
from inferoxy.errors import InferoxyError, InvalidRequest, PayloadTooLarge

CONTENT = bytes(range(200))


@pytest.fixture
def key() -> Iterator[str]:
    name = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    (FOLDER / name).write_bytes(CONTENT)
    yield name
    (FOLDER / name).unlink(missing_ok=True)


@pytest.fixture
def regions(key: str) -> Iterator[Regions]:
    found = Regions(is_allowed=True)
    found.register("r", f"/{key}", 10, 100)
    yield found
    found.unregister()


def test_what_is_read_is_what_lies_there_now(regions: Regions, key: str) -> None:
    assert bytes(regions.read(Place("r", 4, 6))) == CONTENT[16:20]
    with (FOLDER / key).open("r+b") as file:
        file.seek(16)
        file.write(b"abcd")
    assert bytes(regions.read(Place("r", 4, 6))) == b"abcd"


def test_what_is_written_lies_within_the_window_and_nowhere_else(regions: Regions, key: str) -> None:
    regions.check(Place("r", 10, 90), 5, "output 'y'")
    regions.write(Place("r", 10, 90), memoryview(b"12345"))
    assert (FOLDER / key).read_bytes() == CONTENT[:100] + b"12345" + CONTENT[105:]


def test_region_stays_usable_after_its_name_is_gone(regions: Regions, key: str) -> None:
    (FOLDER / key).unlink()
    assert bytes(regions.read(Place("r", 1, 0))) == CONTENT[10:11]


def test_an_object_that_was_cut_short_is_an_error_and_no_signal(regions: Regions, key: str) -> None:
    os.truncate(FOLDER / key, 20)
    assert bytes(regions.read(Place("r", 10, 0))) == CONTENT[10:20]
    with pytest.raises(InvalidRequest, match="expected 11 bytes at 0, found 10: the object was cut short"):
        regions.read(Place("r", 11, 0))
    with pytest.raises(InvalidRequest, match="was cut short"):
        regions.check(Place("r", 11, 0), 11, "output 'y'")
    assert (FOLDER / key).stat().st_size == 20


@pytest.mark.parametrize("place", [Place("r", 101, 0), Place("r", 1, 100), Place("r", 2**63 - 1, 2**63 - 1)])
def test_nothing_beyond_the_window_is_read_or_written(regions: Regions, place: Place) -> None:
    with pytest.raises(InvalidRequest, match="within its 100 bytes"):
        regions.read(place)
    with pytest.raises(InvalidRequest, match="within its 100 bytes"):
        regions.check(place, 1, "output 'y'")


def test_an_output_larger_than_its_place_is_refused(regions: Regions) -> None:
    with pytest.raises(InvalidRequest, match="shared_memory_byte_size of at least 9, found 8"):
        regions.check(Place("r", 8, 0), 9, "output 'y'")


def test_a_name_is_registered_once(regions: Regions, key: str) -> None:
    with pytest.raises(InferoxyError) as refused:
        regions.register("r", key, 0, 1)
    assert refused.value.code == "ALREADY_EXISTS"
    regions.unregister("r")
    regions.unregister("r")
    regions.register("r", key, 0, 1)
    assert [tuple(region) for region in regions.status()] == [("r", key, 0, 1)]


def test_unknown_region_is_an_error_in_status_and_use(regions: Regions) -> None:
    with pytest.raises(InvalidRequest, match="Unable to find shared memory region: 'q'"):
        regions.status("q")
    with pytest.raises(InvalidRequest, match="'q' is not registered"):
        regions.read(Place("q", 1, 0))


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 201), (200, 1), (101, 100), (2**63 - 1, 2**63 - 1), (-1, 10), (0, 0), (True, 1), (0, 2**64)],
)
def test_a_window_that_does_not_fit_the_object_is_refused(key: str, offset: int, size: int) -> None:
    found = Regions(is_allowed=True)
    with pytest.raises(InvalidRequest, match=r"^shared memory region 'r': "):
        found.register("r", key, offset, size)
    assert not found.status()


@pytest.mark.parametrize("bad", ["", "/", "..", "/..", ".", "../tmp/x", "/a/b", "a/b", "//x", "a\0b", "x" * 300])
def test_nothing_outside_the_folder_can_be_named(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        Regions(is_allowed=True).register("r", bad, 0, 1)


def test_a_request_cannot_ask_for_more_than_a_body_may_hold(key: str) -> None:
    found = Regions(is_allowed=True, limit_bytes=100)
    found.register("r", key, 0, 200)
    assert len(found.read(Place("r", 60, 0), 40)) == 60
    with pytest.raises(PayloadTooLarge, match="at most 100 bytes in one request, found 101"):
        found.read(Place("r", 60, 0), 41)
    found.unregister()


@pytest.mark.parametrize(
    ("address", "setting", "allowed"),
    [
        ("127.0.0.1:1", None, True),
        ("[::1]:1", None, True),
        ("localhost:1", None, True),
        ("0.0.0.0:1", None, False),
        (":1", None, False),
        ("10.0.0.5:1", None, False),
        ("0.0.0.0:1", True, True),
        ("127.0.0.1:1", False, False),
    ],
)
def test_unless_a_setting_says_so_only_this_machine_may_name_memory(
    key: str, address: str, setting: bool | None, allowed: bool
) -> None:
    found = regions_for(Settings(v2=V2Settings(shared_memory=setting)), address)
    if allowed:
        found.register("r", key, 0, 1)
        found.unregister()
    else:
        with pytest.raises(InferoxyError, match=r"setting v2\.shared_memory"):
            found.register("r", key, 0, 1)


def test_links_pipes_and_folders_are_no_shared_memory(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    made = [FOLDER / f"test-{secrets.token_hex(4)}" for _ in range(3)]
    made[0].symlink_to(secret)
    os.mkfifo(made[1])
    made[2].mkdir()
    try:
        for path in made:
            with pytest.raises(InvalidRequest):
                Regions(is_allowed=True).register("r", path.name, 0, 1)
    finally:
        made[0].unlink()
        made[1].unlink()
        made[2].rmdir()


def test_server_may_refuse_all_shared_memory(key: str) -> None:
    with pytest.raises(InferoxyError, match="not allowed on this server") as refused:
        Regions(is_allowed=False).register("r", key, 0, 1)
    assert refused.value.code == "UNSUPPORTED"


def test_clients_cannot_use_up_all_files(key: str) -> None:
    found = Regions(is_allowed=True)
    before = len(os.listdir("/proc/self/fd"))
    limit = min(MAX_REGIONS, 200)
    for number in range(limit):
        found.register(str(number), key, 0, 1)
    found.unregister()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"shared_memory_region": 5, "shared_memory_byte_size": 1},
            "expected the name of a shared_memory_region, found 5",
        ),
        ({"shared_memory_region": "r"}, "expected shared_memory_byte_size with"),
        ({"shared_memory_byte_size": 5}, "expected shared_memory_region with"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": -1}, "2\\^63-1, found -1"),
        (
            {"shared_memory_region": "r", "shared_memory_byte_size": 1, "shared_memory_offset": 2**63},
            "shared_memory_offset",
        ),
        ({"shared_memory_region": "r", "shared_memory_byte_size": True}, "found True"),
    ],
)
def test_half_a_place_is_none(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        place_of("input 'x'", parameters)


def test_a_place_is_read_from_three_parameters() -> None:
    found = place_of("x", {"shared_memory_region": "r", "shared_memory_byte_size": 5, "shared_memory_offset": 3})
    assert found == Place("r", 5, 3)
    assert place_of("x", {"binary_data_size": 5}) is None
