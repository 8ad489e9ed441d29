"""Claims about examples/tracker served by a real stack: the same answers however the frames come, and its programs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from inferoxy import Client
from inferoxy.errors import InvalidRequest
from tests.integration.client_models import PROTOCOLS, url_of
from tests.integration.stack import Stack
from tests.unit.tracker_modules import DETECTOR, TRACKER, evaluate, finding, tracking

FRAMES = 48
BATCH_SIZES = (1, 3)  # besides the follower's own


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    specs = yaml.safe_load((TRACKER / "models.yaml").read_text())
    for spec in specs.values():
        spec["artifact"] = str((TRACKER / spec["artifact"]).resolve())
    for size in BATCH_SIZES:
        specs[f"follower_{size}"] = specs["follower"] | {"batch_size": size}
    with Stack(yaml.safe_dump(specs)) as running:
        yield running


@pytest.fixture(scope="module")
def video() -> Any:
    return evaluate.make_frames(21, FRAMES)


@pytest.fixture(scope="module")
def expected(video: Any) -> list[dict[str, Any]]:
    """What is said of the video without a server."""
    finder = finding.Finder(DETECTOR / "detector.onnx", tracking.Settings.low, 1)
    said: list[dict[str, Any]] = evaluate.follow_here(finder, video, tracking.Settings())
    finder.close()
    assert sum(len(one["track_id"]) for one in said) > 2 * FRAMES
    return said


def follow(url: str, model: str, video: Any, window: int, draw: str = "") -> tuple[list[Any], list[bytes], list[int]]:
    """Predictions, drawn pictures and sizes of batches."""
    with Client(url) as client, client.sequence(model) as sequence:
        found = [sequence.predict(video.images[0], draw=draw, init="{}")]
        found += sequence.map(video.images[1:], draw=draw, window=window)
    return [one.value for one in found], [one.picture for one in found], [one.served.batch_size for one in found]


@pytest.mark.parametrize("window", evaluate.WINDOWS)
def test_answers_do_not_depend_on_the_window(
    stack: Stack, video: Any, expected: list[dict[str, Any]], window: int
) -> None:
    said, _, batches = follow(stack.zmq_endpoint, "follower", video, window)
    assert json.dumps(said, sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert (max(batches) > 1) == (window > 1)


@pytest.mark.parametrize("size", BATCH_SIZES)
def test_answers_do_not_depend_on_the_batch_size(
    stack: Stack, video: Any, expected: list[dict[str, Any]], size: int
) -> None:
    said, _, batches = follow(stack.zmq_endpoint, f"follower_{size}", video, 16)
    assert json.dumps(said, sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert max(batches) == size


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_drawn_pictures_do_not_depend_on_it_either(stack: Stack, video: Any, protocol: str) -> None:
    pictures = [
        follow(url_of(stack, protocol), model, video, window, "png")[1]
        for model, window in (("follower", 16), ("follower_1", 4))
    ]
    assert pictures[0] == pictures[1]
    shown = cv2.imdecode(np.frombuffer(pictures[0][-1], np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == video.images[-1].shape
    assert not np.array_equal(shown[:, :, ::-1], video.images[-1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_detector_and_tracker_say_what_the_follower_says(
    stack: Stack, video: Any, expected: list[dict[str, Any]], protocol: str
) -> None:
    with Client(url_of(stack, protocol)) as client:
        said = evaluate.track_there(client, video)
    assert evaluate.is_same(said, expected)


def test_two_videos_at_a_time_are_followed_apart(stack: Stack, video: Any, expected: list[dict[str, Any]]) -> None:
    with (
        Client(stack.zmq_endpoint) as client,
        client.sequence("follower") as forth,
        client.sequence("follower") as back,
    ):
        for number, image in enumerate(video.images):
            begin = {} if number else {"init": {}}
            assert forth.predict(image, **begin).value == expected[number]
            back.predict(video.images[-1 - number], **begin)


def test_a_refused_frame_says_what_is_wrong(stack: Stack, video: Any) -> None:
    with Client(stack.zmq_endpoint) as client:
        with (
            client.sequence("follower") as sequence,
            pytest.raises(InvalidRequest, match=r"init\.low: expected a number"),
        ):
            sequence.predict(video.images[0], init={"low": 2})
        with client.sequence("tracker") as sequence, pytest.raises(InvalidRequest, match="boxes, row 0"):
            sequence.infer({"BOXES": np.array([[9, 9, 0, 0, 1, 0]], np.float32)})


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TRACKER / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


def test_the_player_saves_what_came_back(stack: Stack, tmp_path: Path) -> None:
    made = run("video.py", "--out", str(tmp_path), "--seed", "4", "--frames", "30")
    assert (made.returncode, made.stderr) == (0, "")
    out = tmp_path / "followed.webp"
    done = run("follow.py", str(tmp_path / "video_0004"), "--url", stack.zmq_endpoint, "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert "30 frames in " in done.stdout
    is_read, animation = cv2.imreadanimation(str(out))
    assert is_read
    assert len(animation.frames) == 30
    said = json.loads(out.with_suffix(".json").read_text())
    assert [one["frame"] for one in said] == list(range(30))
    tracks = {track for one in said for track in one["track_id"]}
    assert {int(line.split()[0]) for line in done.stdout.splitlines()[1:-1]} == tracks
    refused = run("follow.py", str(tmp_path / "nowhere"), "--url", stack.zmq_endpoint)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert "nowhere: expected a movie file or a folder of frames" in refused.stderr


def test_the_evaluation_finds_every_way_equal(stack: Stack) -> None:
    done = run("evaluate.py", "--videos", "1", "--frames", "25", "--url", stack.zmq_endpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("same answers as in this process: 1 of 1 videos") == 1 + len(evaluate.WINDOWS)
    rows = [line.split() for line in done.stdout.splitlines()]
    total = next(row for row in rows if row[0] == "all")
    for row in rows:
        if row[:2] == ["follower,", "window"]:
            assert row[3:] == total[1:]
