"""Claims about the models of examples/tracker as an instance runs them: tracker and follower."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inferoxy import messages as m
from inferoxy.errors import ModelUnavailable
from tests.requests_for_models import Call, Given
from tests.unit.runtime_rig import Rig, clean_import, load  # noqa: F401
from tests.unit.tracker_modules import DETECTOR, TRACKER, finding, following, tracking, video

FRAMES = 30
SPLITS = ([1] * 30, [8, 8, 8, 6], [1, 7, 8, 8, 6], [4] * 7 + [2], [3, 1, 8, 2, 5, 8, 1, 2])
ONNX = DETECTOR / "detector.onnx"

pytestmark = pytest.mark.usefixtures("clean_import")


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    made = video.Video(11, FRAMES)
    return [made.draw(frame)[0] for frame in range(FRAMES)]


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with Rig(TRACKER / "follower", stateless=False) as rig:
        model = sys.modules["model"]
        yield rig
    model.finder.close()


def follow(
    rig: Rig, images: Sequence[np.ndarray], split: Sequence[int], sequence_id: int, draw: str = ""
) -> list[Given]:
    """What the follower answers to a video whose frames come in batches of these sizes."""
    given: list[Given] = []
    last = len(images) - 1
    for size in split:
        at = len(given)
        calls = [
            Call(
                {"image": images[number]},
                form="prediction",
                draw=draw,
                parameters={} if number else {"init": {}},
                sequence=m.Sequence(sequence_id, start=number == 0, end=number == last),
            )
            for number in range(at, at + size)
        ]
        given += [answer for answers in rig.run(*calls) for answer in answers]
    assert [(one.code, one.error) for one in given] == [("", "")] * len(images)
    return given


def test_what_the_follower_answers_does_not_depend_on_how_frames_were_batched(
    follower: Rig, frames: list[np.ndarray]
) -> None:
    first, *others = [
        [one.prediction for one in follow(follower, frames, split, number + 1)] for number, split in enumerate(SPLITS)
    ]
    assert all(other == first for other in others)
    assert [one["frame"] for one in first] == list(range(FRAMES))
    assert sum(len(one["track_id"]) for one in first) > 2 * FRAMES


def test_pictures_do_not_depend_on_it_either_and_drawing_changes_no_track(
    follower: Rig, frames: list[np.ndarray]
) -> None:
    plain = follow(follower, frames[:12], [4, 8], 1)
    drawn = follow(follower, frames[:12], [1, 8, 3], 2, "png")
    alone = follow(follower, frames[:12], [1] * 12, 3, "png")
    assert [one.prediction for one in drawn] == [one.prediction for one in plain]
    assert [one.encoded for one in drawn] == [one.encoded for one in alone]
    assert not any(one.encoded for one in plain)
    encoding, data = drawn[11].encoded["picture"]
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert encoding == "png"
    assert 0.005 < np.mean((picture != frames[11]).any(axis=2)) < 0.2


def test_detections_are_equal_to_the_last_bit_however_many_threads_and_pictures(frames: list[np.ndarray]) -> None:
    expected = None
    for threads in (1, 2, 5):
        finder = finding.Finder(ONNX, 0.1, threads)
        for size in (1, 3, 16):
            found = [one for at in range(0, 16, size) for one in finder.find(frames[:16][at : at + size])]
            content = [array.tobytes() for one in found for array in one]
            assert expected is None or content == expected, (threads, size)
            expected = content
        finder.close()


def test_the_follower_says_what_the_tracker_says_of_the_detectors_boxes(
    follower: Rig, frames: list[np.ndarray]
) -> None:
    said = [one.prediction for one in follow(follower, frames, SPLITS[1], 1)]
    detector = Rig(ONNX, runtime="yolo", threads=1)
    sys.modules.pop("model")
    with detector, Rig(TRACKER / "model", stateless=False) as tracker:
        for number, image in enumerate(frames):
            found = detector.one(Call({"image": image}, parameters={"confidence": 0.1})).tensors
            boxes = np.column_stack([found["boxes"], found["scores"], found["class_ids"].astype(np.float32)])
            step = m.Sequence("cam", start=number == 0)
            tracks = tracker.one(Call({"BOXES": boxes}, sequence=step)).tensors
            assert tracks["TRACK_IDS"].tolist() == said[number]["track_id"]
            assert np.round(tracks["BOXES"][:, :4].astype(float), 3).tolist() == said[number]["boxes"]
            assert tracks["BOXES"][:, 5].tolist() == said[number]["class_id"]
            assert np.array_equal(tracks["BOXES"][:, :5], boxes[tracks["ROWS"], :5])


def test_a_video_without_init_begins_with_the_defaults_and_anew(follower: Rig, frames: list[np.ndarray]) -> None:
    for number in (1, 2):
        step = Call({"image": frames[0]}, form="prediction", sequence=m.Sequence(number, start=True))
        assert follower.one(step).prediction["frame"] == 0
    first = follow(follower, frames[:4], [4], 2)
    again = follow(follower, frames[:4], [4], 3)
    assert [one.prediction for one in again] == [one.prediction for one in first]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hight": 0.5}, "parameters.init.hight: expected one of high, low"),
        ({"min_hits": 0}, "parameters.init.min_hits: expected a whole number from 1 to 1000, found 0"),
    ],
)
def test_wrong_settings_of_a_video_are_refused_by_name(
    follower: Rig, frames: list[np.ndarray], settings: dict[str, Any], message: str
) -> None:
    call = Call({"image": frames[0]}, parameters={"init": settings}, sequence=m.Sequence(1, start=True))
    refused = follower.one(call)
    assert refused.code == "INVALID_REQUEST"
    assert refused.error.startswith(message)


def test_settings_and_what_the_first_clients_tell_of_a_video_are_taken(follower: Rig, frames: list[np.ndarray]) -> None:
    told = {"height": 360, "width": 640, "fps": 25.0, "length": 30, "birth": 0.99, "high": 0.9}
    call = Call({"image": frames[0]}, form="prediction", parameters={"init": told}, sequence=m.Sequence(1, start=True))
    assert follower.one(call).prediction["track_id"] == []


def test_the_files_of_an_image_work_in_one_folder(frames: list[np.ndarray], tmp_path: Path) -> None:
    for file in [*TRACKER.glob("model/*.py"), *TRACKER.glob("follower/*.py"), ONNX]:
        shutil.copy(file, tmp_path)  # the follower's model.py comes last
    with Rig(tmp_path, stateless=False) as rig:
        given = follow(rig, frames[:9], [1, 8], 1)
        model = sys.modules["model"]
        assert model.find_detector() == tmp_path / "detector.onnx"
        finder = finding.Finder(ONNX, tracking.Settings.low, 1)
        expected = following.Following(finder, tracking.Settings()).step(frames[:9], draw=False)
        assert [one.prediction for one in given] == [one["prediction"] for one in expected]
        finder.close()
        model.finder.close()


def test_a_missing_detector_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.onnx: no such detector"):
        finding.Finder(tmp_path / "absent.onnx", 0.1)


def boxes_at(x: float, *more: float, confidence: float = 0.9) -> dict[str, np.ndarray]:
    rows = [[at, 0, at + 40, 40, confidence, 0] for at in (x, *more)]
    return {"BOXES": np.array(rows, np.float32)}


def test_one_instance_of_the_tracker_follows_several_videos_that_never_mix() -> None:
    with Rig(TRACKER / "model", stateless=False, max_sequences=4) as rig:
        for number in range(6):
            left, right = m.Sequence("left", start=number == 0), m.Sequence(7, start=number == 0)
            given = rig.run(Call(boxes_at(5 * number), sequence=left), Call(boxes_at(300, 5 * number), sequence=right))
            assert given[0][0].tensors["TRACK_IDS"].tolist() == [1]
            assert given[1][0].tensors["TRACK_IDS"].tolist() == [1, 2]
        model = rig.backend._model
        assert sorted(model.trackers, key=str) == [7, "left"]
        rig.run(Call(boxes_at(0), sequence=m.Sequence(7, end=True)))
        assert list(model.trackers) == ["left"]
        anew = rig.one(Call(boxes_at(900), sequence=m.Sequence("left", start=True)))
        assert anew.tensors["TRACK_IDS"].tolist() == [1]
        assert len(model.trackers["left"]) == 1


def test_a_frame_without_detections_counts_as_a_frame() -> None:
    nothing = {"BOXES": np.zeros((0, 6), np.float32)}
    with Rig(TRACKER / "model", stateless=False, options={"max_misses": 2}) as rig:
        rig.run(Call(boxes_at(0), sequence=m.Sequence(1, start=True)))
        for _ in range(3):
            given = rig.one(Call(nothing, sequence=m.Sequence(1)))
            assert (given.error, given.tensors["TRACK_IDS"].shape, given.tensors["BOXES"].shape) == ("", (0,), (0, 6))
        (tracker,) = rig.backend._model.trackers.values()
        assert tracker.living.tolist() == []


def test_a_row_that_is_no_detection_is_refused_by_name_and_the_video_goes_on() -> None:
    with Rig(TRACKER / "model", stateless=False) as rig:
        rig.run(Call(boxes_at(0), sequence=m.Sequence(1, start=True)))
        refused = rig.one(Call(boxes_at(0, 100, confidence=90), sequence=m.Sequence(1)))
        assert refused.code == "INVALID_REQUEST"
        assert refused.error == "input 'BOXES': confidences, row 0: expected 0 to 1, found 90.0"
        assert rig.one(Call(boxes_at(2), sequence=m.Sequence(1))).tensors["TRACK_IDS"].tolist() == [1]


def test_wrong_options_of_the_tracker_fail_its_load_by_name() -> None:
    with pytest.raises(
        ModelUnavailable, match=r"options\.max_misses: expected a whole number from 1 to 1000, found 'x'"
    ):
        load(TRACKER / "model", stateless=False, options={"max_misses": "x"})
