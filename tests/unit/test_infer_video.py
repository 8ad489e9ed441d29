"""Frames out of videos and into them, with real files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from inferoxy.cli.infer.video import Cut, MovieWriter, VideoReader, decode, encode, look_at, to_rgb
from inferoxy.errors import InferoxyError

FPS = 12.5
COUNT = 60
WIDTH, STEP = 320, 4


def number_in(image: np.ndarray) -> int:
    """The number of the frame that `numbered` made."""
    bright = image[image.shape[0] // 2, :, 1] > 128
    return round(float(bright.mean()) * WIDTH / STEP)


def numbered(number: int, scale: int = 1) -> np.ndarray:
    """A frame whose left part is white, the wider the higher its number: what no codec takes away."""
    image = np.zeros((48 // scale, WIDTH // scale, 3), np.uint8)
    image[:, : number * STEP // scale] = 255
    return image


@pytest.fixture(scope="module", params=[("v.avi", "MJPG"), ("v.mp4", "mp4v"), ("v.mkv", "mp4v"), ("v.mov", "mp4v")])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame n says n."""
    name, codec = request.param
    path = tmp_path_factory.mktemp("v") / name
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FPS, (WIDTH, 48))
    for number in range(COUNT):
        writer.write(numbered(number))
    writer.release()
    return path


def frames(path: Path, **cut: float) -> list[tuple[int, float, int]]:
    with VideoReader(path, Cut(**cut)) as reader:  # type: ignore[arg-type]
        return [(frame.number, frame.time_s, number_in(frame.image)) for frame in reader]


def expected(numbers: range | list[int]) -> list[tuple[int, float, int]]:
    return [(number, pytest.approx(number / FPS, abs=1e-3), number) for number in numbers]


@pytest.mark.parametrize(
    ("cut", "numbers"),
    [
        ({}, range(60)),
        ({"every": 7}, range(0, 60, 7)),
        ({"max_frames": 3}, range(3)),
        ({"start_s": 1.0}, range(13, 60)),
        ({"start_s": 4.0}, range(50, 60)),
        ({"start_s": 4.4}, range(55, 60)),
        ({"start_s": 2.4, "duration_s": 0.8, "every": 3}, range(30, 40, 3)),
        ({"duration_s": 0.4}, range(5)),
        ({"start_s": 100.0}, []),
    ],
)
def test_exactly_the_wanted_frames_come_with_their_numbers_and_times(
    video: Path, cut: dict[str, float], numbers: range
) -> None:
    assert frames(video, **cut) == expected(numbers)
    assert look_at(video, Cut(**cut)).expected == len(numbers)  # type: ignore[arg-type]


def test_fps_are_those_of_the_wanted_frames(video: Path) -> None:
    assert look_at(video, Cut()).fps == pytest.approx(FPS)
    assert look_at(video, Cut(every=5)).fps == pytest.approx(FPS / 5)


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    for name, content in (("a.mp4", b"text"), ("b.avi", b""), ("c: d%02d.mp4", b"x" * 5000)):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InferoxyError, match="OpenCV finds no video in it"):
            VideoReader(path, Cut())
        assert look_at(path, Cut()).expected == 1


def test_a_name_with_colons_and_percent_signs_is_a_name(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = Path(f"10:30 %d{video.suffix}")
    odd.write_bytes(video.read_bytes())
    assert len(frames(odd)) == COUNT


def test_a_movie_plays_what_was_written_and_is_there_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "m.mp4"
    writer = MovieWriter(target, FPS)
    for number in range(20):
        writer.write(numbered(number))
        assert not target.exists()
    writer.write(numbered(20, 2))
    assert writer.close() == target
    assert [path.name for path in target.parent.iterdir()] == ["m.mp4"]
    assert frames(target) == expected(range(21))
    assert look_at(target, Cut()).fps == pytest.approx(FPS)


def test_a_movie_of_nothing_is_no_file(tmp_path: Path) -> None:
    assert MovieWriter(tmp_path / "m.mp4", FPS).close() is None
    assert not list(tmp_path.iterdir())


def test_a_movie_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        MovieWriter(tmp_path / "file" / "m.mp4", FPS)


def test_colours_survive_both_ways() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 2] = 200
    assert to_rgb(red)[0, 0].tolist() == [200, 0, 0]
    assert np.abs(decode(encode(red)).astype(int) - red).max() < 6
    with pytest.raises(InferoxyError, match="cannot be decoded"):
        decode(b"\xff\xd8\xff nothing")
