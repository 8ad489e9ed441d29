"""Claims about the videos that examples/tracker makes: repeatable, true to their ground truth, writable."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.tracker_modules import TRACKER, animation, paths, scene, video

FRAMES = 60
SEEDS = (5, 6, 7)


@pytest.fixture(scope="module", params=SEEDS)
def drawn(request: pytest.FixtureRequest) -> list[tuple[np.ndarray, list[scene.Seen]]]:
    made = scene.Scene(request.param, 320, 180, FRAMES, 8)
    return [made.draw(frame) for frame in range(FRAMES)]


def test_equal_seeds_give_equal_frames_in_whatever_order() -> None:
    first, second = video.Video(3, 20, 320, 180), video.Video(3, 20, 320, 180)
    for frame in (19, 0, 7):
        (image, seen), (other, other_seen) = first.draw(frame), second.draw(frame)
        assert image.tobytes() == other.tobytes()
        assert seen == other_seen
    assert not np.array_equal(first.draw(0)[0], video.Video(4, 20, 320, 180).draw(0)[0])


def test_a_box_encloses_an_object_that_is_alone() -> None:
    compared = 0
    for seed in range(12):
        made = scene.Scene(seed, 640, 360, 1, 1)
        made._post = None
        made.shapes[:] = [replace(shape, shadow=None) for shape in made.shapes]
        image, seen = made.draw(0)
        if not seen or seen[0].visible < 0.999:
            continue
        different = np.abs(image.astype(int) - made.background).max(axis=2) > 40
        rows, columns = np.flatnonzero(different.any(axis=1)), np.flatnonzero(different.any(axis=0))
        assert seen[0].box == pytest.approx((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), abs=2)
        compared += 1
    assert compared >= 4


def test_boxes_lie_in_the_picture_and_shares_are_shares(drawn: list[tuple[np.ndarray, list[scene.Seen]]]) -> None:
    for image, seen in drawn:
        height, width = image.shape[:2]
        assert [one.id for one in seen] == sorted({one.id for one in seen})
        for one in seen:
            x1, y1, x2, y2 = one.box
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert 0 < one.visible <= 1
            assert 0 <= one.class_id < len(scene.NAMES)


def test_objects_move_smoothly_and_keep_their_class(drawn: list[tuple[np.ndarray, list[scene.Seen]]]) -> None:
    classes: dict[int, int] = {}
    steps = []
    before: dict[int, scene.Seen] = {}
    for _, seen in drawn:
        for one in seen:
            assert classes.setdefault(one.id, one.class_id) == one.class_id
            last = before.get(one.id)
            if last is not None and min(last.visible, one.visible) > 0.97:
                steps.append(np.hypot(*(centre(one) - centre(last))))
        before = {one.id: one for one in seen}
    assert np.median(steps) > 0.5
    assert max(steps) < 2 * 9.0 * 320 / 640  # twice the fastest chord: bends and turning boxes


def centre(seen: scene.Seen) -> np.ndarray:
    return np.array([seen.box[0] + seen.box[2], seen.box[1] + seen.box[3]]) / 2


def test_objects_hide_one_another_come_and_go() -> None:
    hidden = come = gone = 0
    for seed in range(8):
        made = scene.Scene(seed, 320, 180, 150, 8)
        seen = [made.draw(frame)[1] for frame in range(0, 150, 5)]
        hidden += sum(one.visible < 0.6 for frame in seen for one in frame)
        first, last = ({one.id for one in seen[frame]} for frame in (0, -1))
        come += len(last - first)
        gone += len(first - last)
    assert hidden > 100
    assert come >= 8
    assert gone >= 4


def test_what_leaves_the_picture_comes_back_under_another_id() -> None:
    made = scene.Scene(5, 320, 180, 150, 2)
    way = paths.Way(0, 150, lambda time: np.array([160 + 400 * np.sin(2 * np.pi * time / 60), 90.0]))
    made.shapes[0] = replace(made.shapes[0], way=way)
    ids = made._number()
    runs = [ids[0][0], *(other for one, other in pairwise(ids[0]) if one != other)]
    assert runs == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]
    assert set(ids[1]) - {0} == {7}


@pytest.mark.parametrize("suffix", animation.SUFFIXES)
def test_an_animation_plays_all_frames(suffix: str, tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), 12 * index, np.uint8) for index in range(20)]
    path = tmp_path / f"some{suffix}"
    animation.write_animation(path, frames, 25.0)
    if suffix == ".mp4":
        reader = cv2.VideoCapture(str(path))
        read = []
        while (found := reader.read())[0]:
            read.append(found[1])
        reader.release()
    else:
        done, loaded = cv2.imreadanimation(str(path))
        assert done
        read = list(loaded.frames)
        assert list(loaded.durations) == [40] * 20
    assert len(read) == 20
    for frame, back in zip(frames, read, strict=True):
        difference = back[:, :, :3].astype(int) - frame
        assert abs(difference.mean()) <= 4  # GIF dithers


def test_an_animation_of_no_frames_or_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a file name that ends in one of \.webp, \.gif, \.png, \.mp4"):
        animation.write_animation(tmp_path / "some.avi", [np.zeros((8, 8, 3), np.uint8)], 25.0)
    with pytest.raises(ValueError, match="expected frames of one size, found no frames"):
        animation.write_animation(tmp_path / "some.gif", [], 25.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed: expected 0 to 4294967295, found -1"),
        ({"seed": 0, "frames": 0}, "frames: expected 1 to 10000, found 0"),
        ({"seed": 0, "width": 63}, "width: expected 64 to 4096, found 63"),
        ({"seed": 0, "count": 101}, "count: expected 0 to 100, found 101"),
    ],
)
def test_a_size_out_of_range_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        video.Video(**arguments)


def test_the_command_writes_frames_animation_and_truth(tmp_path: Path) -> None:
    command = [sys.executable, str(TRACKER / "video.py"), "--out", str(tmp_path), "--seed", "9", "--frames", "6"]
    command += ["--objects", "3", "--width", "320", "--height", "180", "--png", "--animation", ".gif"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "video_0009"
    truth = json.loads((folder / "truth.json").read_text())
    assert (truth["seed"], truth["width"], truth["height"], len(truth["frames"])) == (9, 320, 180, 6)
    made = video.Video(9, 6, 320, 180, 3)
    for number, frame in enumerate(truth["frames"]):
        image, seen = made.draw(number)
        assert np.array_equal(cv2.imread(str(folder / frame["file"]))[:, :, ::-1], image)
        assert [(one["id"], tuple(one["box"])) for one in frame["objects"]] == [(one.id, one.box) for one in seen]
    assert (folder / "video.gif").is_file()
    refused = subprocess.run([*command, "--frames", "0"], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "frames: expected 1 to 10000, found 0" in refused.stderr
    assert "Traceback" not in refused.stderr
