"""Measure the tracker on synthetic videos: identity switches, MOTA and IDF1, in this process and through a server.

The definitions are metrics.py's. Prints a table; exits with 1 where a way of sending the frames gives another answer
than frame by frame in this process.
Invariant: the videos are of seeds FIRST_SEED and up; the settings were chosen on others (docs/tracking.md).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent / "follower"))
sys.path.append(str(Path(__file__).resolve().parent / "model"))

from finding import Finder, Found
from following import Following
from metrics import Objects, Reported, Score, score_video
from tracking import Settings, Tracker
from video import FRAMES, Video

from inferoxy import Client

FIRST_SEED = 0
VIDEOS = 10
WINDOWS = (1, 4, 8, 16)  # requests under way at a time
DETECTOR = Path(__file__).resolve().parents[1] / "detector" / "detector.onnx"
COLUMNS = ("objects", "wanted", "tracks", "switches", "late", "fragmentations", "misses", "false", "mota", "idf1")

Prediction = dict[str, Any]


class Frames(NamedTuple):
    """A video in memory: its pictures and what is to be seen in them."""

    seed: int
    images: list[np.ndarray]
    truth: list[Objects]


def make_frames(seed: int, count: int) -> Frames:
    """The frames of a video of that seed and length."""
    images, truth = [], []
    for image, seen in Video(seed, count):
        images.append(image)
        truth.append(
            Objects(
                np.array([one.id for one in seen], np.int64),
                np.array([one.box for one in seen], np.float64).reshape(-1, 4),
                np.array([one.class_id for one in seen], np.int64),
                np.array([one.visible for one in seen]),
            )
        )
    return Frames(seed, images, truth)


def score_predictions(frames: Frames, predictions: Sequence[Prediction]) -> Score:
    """Compare a video's predictions with its truth."""
    reports = [
        Reported(
            np.array(one["track_id"], np.int64),
            np.array(one["boxes"], np.float64).reshape(-1, 4),
            np.array(one["class_id"], np.int64),
        )
        for one in predictions
    ]
    return score_video(frames.truth, reports)


def follow_here(finder: Finder, frames: Frames, settings: Settings, at_once: int = 1) -> list[Prediction]:
    """What the follower says of a video, without a server, given so many frames at a time."""
    following = Following(finder, settings)
    predictions = []
    for at in range(0, len(frames.images), at_once):
        results = following.step(frames.images[at : at + at_once], draw=False)
        predictions += [result["prediction"] for result in results]
    return predictions


def follow_there(client: Client, frames: Frames, window: int, batches: list[int]) -> list[Prediction]:
    """The same of the model `follower`, with so many requests under way at a time; notes the sizes of their batches."""
    with client.sequence("follower") as sequence:
        found = [sequence.predict(frames.images[0], init="{}")]
        found += sequence.map(frames.images[1:], window=window)
    batches += [one.served.batch_size for one in found]
    return [one.value for one in found]


def track_there(client: Client, frames: Frames) -> list[Prediction]:
    """The same of the models `detector` and `tracker`, by two requests a frame."""
    predictions = []
    with client.sequence("tracker") as sequence:
        for number, image in enumerate(frames.images):
            found = client.infer("detector", {"image": image}, parameters={"confidence": Settings.low})
            columns = [found["boxes"], found["scores"][:, None], found["class_ids"][:, None]]
            tracks = sequence.infer({"BOXES": np.concatenate(columns, axis=1, dtype=np.float32)})
            boxes = np.round(tracks["BOXES"].astype(np.float64), 3)
            predictions.append(
                {
                    "frame": number,
                    "track_id": tracks["TRACK_IDS"].tolist(),
                    "boxes": boxes[:, :4].tolist(),
                    "class_id": boxes[:, 5].astype(int).tolist(),
                }
            )
    return predictions


def is_same(predictions: Sequence[Prediction], expected: Sequence[Prediction]) -> bool:
    """Whether frames, numbers, boxes and classes are equal, to the last digit."""
    keys = ("frame", "track_id", "boxes", "class_id")
    return [[one[key] for key in keys] for one in predictions] == [[one[key] for key in keys] for one in expected]


def show(name: str, score: Score | None) -> None:
    """Print one row of the table, or its head."""
    if score is None:
        print(f"{name:<34}" + "".join(f"{column:>{len(column) + 2}}" for column in COLUMNS))
        return
    cells = [getattr(score, column) for column in COLUMNS]
    texts = [f"{cell:.3f}" if isinstance(cell, float) else f"{cell:,}" for cell in cells]
    print(
        f"{name:<34}" + "".join(f"{text:>{len(column) + 2}}" for text, column in zip(texts, COLUMNS, strict=True)),
        flush=True,
    )


def variants(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """The settings with one of their parts left out."""
    yield "without weak detections", replace(settings, low=settings.high)
    yield "without matching by distance", replace(settings, reach=0.0, reach_growth=0.0)
    yield "without regard to class", replace(settings, class_penalty=0.0)
    yield "tracks end when they are missed", replace(settings, max_misses=1)


def evaluate_here(finder: Finder, videos: Sequence[Frames]) -> list[list[Prediction]]:
    """Print the table of this process; what was said of each video."""
    show("video (in this process)", None)
    total, said = Score(), []
    for frames in videos:
        predictions = follow_here(finder, frames, Settings())
        score = score_predictions(frames, predictions)
        show(f"seed {frames.seed}", score)
        total += score
        said.append(predictions)
    show("all", total)
    found = [finder.find(frames.images) for frames in videos]
    for name, settings in variants(Settings()):
        scores = [_score_variant(frames, its, settings) for frames, its in zip(videos, found, strict=True)]
        show(name, sum(scores, Score()))
    return said


def _score_variant(frames: Frames, found: Sequence[Found], settings: Settings) -> Score:
    tracker = Tracker(settings)
    tracks = [tracker.step(*one) for one in found]
    return score_video(frames.truth, [Reported(one.ids, one.boxes, one.class_ids) for one in tracks])


def evaluate_there(url: str, videos: Sequence[Frames], said: Sequence[Sequence[Prediction]]) -> bool:
    """Print what comes of every way through a server; whether all is as it was said here."""
    with Client(url) as client:
        ways: dict[str, Callable[[Frames, list[int]], list[Prediction]]] = {
            f"follower, window {window}": lambda frames, batches, window=window: follow_there(
                client, frames, window, batches
            )
            for window in WINDOWS
        }
        ways["detector and tracker"] = lambda frames, _: track_there(client, frames)
        print()
        show(f"all videos, by {url}", None)
        is_all_same = True
        for name, way in ways.items():
            total, same, batches = Score(), 0, list[int]()
            began = time.perf_counter()
            for frames, expected in zip(videos, said, strict=True):
                predictions = way(frames, batches)
                total += score_predictions(frames, predictions)
                same += is_same(predictions, expected)
            rate = sum(len(frames.images) for frames in videos) / (time.perf_counter() - began)
            show(name, total)
            size = f", in batches of {np.mean(batches):.1f}" if batches else ""
            print(f"    {rate:.0f} frames/s{size}; same answers as in this process: {same} of {len(videos)} videos")
            is_all_same &= same == len(videos)
    return is_all_same


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the tracker on synthetic videos.")
    parser.add_argument("--videos", type=int, default=VIDEOS, help=f"how many (default {VIDEOS})")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help=f"of the first (default {FIRST_SEED})")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"of each (default {FRAMES})")
    parser.add_argument(
        "--url", default="", help="also through a server that has models.yaml, e.g. tcp://127.0.0.1:7789"
    )
    parser.add_argument("--detector", type=Path, default=DETECTOR, help="ONNX file (default: the repository's)")
    given = parser.parse_args()
    if given.videos < 1:
        parser.error(f"--videos: expected at least 1, found {given.videos}")
    finder = Finder(given.detector, Settings.low)
    videos = [make_frames(seed, given.frames) for seed in range(given.seed, given.seed + given.videos)]
    said = evaluate_here(finder, videos)
    finder.close()
    if given.url and not evaluate_there(given.url, videos, said):
        raise SystemExit("the answers depend on how the frames were sent")


if __name__ == "__main__":
    main()
