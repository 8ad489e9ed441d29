"""Which pictures and videos the PATHs of `inferoxy infer` name."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.cli.infer.inputs import Input, Kind, find_inputs, natural, shown
from inferoxy.errors import InvalidRequest


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in: photos with folders, a hidden file, a text; videos apart."""
    names = (
        "photos/frame_10.jpg", "photos/frame_9.JPG", "photos/a/1.png", "photos/a/b/2.webp", "photos/notes.txt",
        "photos/.hidden.jpg", "photos/.thumbnails/1.jpg", "clips/one.mp4", "clips/two.MKV", "clips/still.jpeg",
        "only_clips/x.avi", "texts/a.txt", "odd [1].jpg",
    )  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(found: list[Input]) -> list[str]:
    return [one.name for one in found]


def test_a_folder_means_its_pictures_and_those_of_its_folders_in_natural_order(place: Path) -> None:
    found = find_inputs(["photos"])
    assert names(found) == ["photos/a/1.png", "photos/a/b/2.webp", "photos/frame_9.JPG", "photos/frame_10.jpg"]
    assert {one.kind for one in found} == {Kind.PICTURE}
    assert {one.root for one in found} == {place / "photos"}


def test_the_folder_of_results_is_left_out_where_a_folder_or_pattern_would_find_it(place: Path) -> None:
    assert names(find_inputs(["photos"], Path("photos/a/"))) == ["photos/frame_9.JPG", "photos/frame_10.jpg"]
    assert names(find_inputs(["photos/**/*.png", "photos/a/1.png"], Path("clips"))) == ["photos/a/1.png"] * 2
    assert names(find_inputs(["photos/**/*.*"], place / "photos" / "a")) == [
        "photos/frame_9.JPG",
        "photos/frame_10.jpg",
    ]


def test_a_pattern_means_pictures_and_videos_below_its_first_wildcard(place: Path) -> None:
    found = find_inputs(["clips/*"])
    assert names(found) == ["clips/one.mp4", "clips/still.jpeg", "clips/two.MKV"]
    assert [one.kind for one in found] == [Kind.VIDEO, Kind.PICTURE, Kind.VIDEO]
    assert {one.root for one in found} == {place / "clips"}
    assert {one.root for one in find_inputs(["*/a/*.png"])} == {place}


def test_a_file_that_exists_is_no_pattern_and_may_have_any_name(place: Path) -> None:
    assert names(find_inputs(["odd [1].jpg", "texts/a.txt"])) == ["odd [1].jpg", "texts/a.txt"]
    assert find_inputs(["texts/a.txt"])[0].kind is Kind.PICTURE


def test_what_is_named_twice_is_asked_twice_in_the_order_of_the_names(place: Path) -> None:
    assert names(find_inputs(["photos/a/1.png", "clips/one.mp4", "photos/a/1.png"])) == [
        "photos/a/1.png",
        "clips/one.mp4",
        "photos/a/1.png",
    ]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["nothing.jpg"], r"^nothing\.jpg: no such file or directory$"),
        (["texts"], r"^texts: expected pictures \(\.jpg, .*\) in it, found none$"),
        (["only_clips"], r"found none; it holds videos, which are to be named, as in 'only_clips/\*\.avi'$"),
        (["*.nope"], r"^\*\.nope: expected pictures or videos that match it, found nothing$"),
        (["texts/*"], r"found 1 other files$"),
        (["-", "-"], r"expected - once, found it 2 times"),
        (["broken"], r"^broken: is a link to nothing$"),
    ],
)
def test_what_is_not_there_is_named(place: Path, paths: list[str], message: str) -> None:
    (place / "broken").symlink_to("nowhere")
    with pytest.raises(InvalidRequest, match=message):
        find_inputs(paths)


def test_links_to_folders_are_not_followed(place: Path) -> None:
    (place / "photos" / "a" / "up").symlink_to(place / "photos")
    assert len(find_inputs(["photos"])) == 4


def test_a_name_that_is_not_utf_8_is_shown_with_escapes(place: Path) -> None:
    odd = os.fsencode(place) + b"/caf\xe9.jpg"
    Path(os.fsdecode(odd)).write_bytes(b"")
    (found,) = find_inputs([os.fsdecode(b"caf\xe9.jpg")])
    assert found.name == "caf\\xe9.jpg"
    assert shown("café.jpg") == "café.jpg"


@given(st.lists(st.integers(0, 10**12), min_size=1, unique=True))
def test_numbers_in_names_are_ordered_by_their_value(numbers: list[int]) -> None:
    paths = [Path(f"cam/frame_{number}.jpg") for number in numbers]
    assert sorted(paths, key=natural) == [Path(f"cam/frame_{number}.jpg") for number in sorted(numbers)]


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_any_names_can_be_ordered(parts: list[str]) -> None:
    sorted([Path(part) for part in parts] + [Path("1/a"), Path("a/1")], key=natural)
