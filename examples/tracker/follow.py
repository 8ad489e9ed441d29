"""Play a video through a server's `follower` and save what comes back: drawn frames that play, and the tracks.

The server is started by `make run MODELS=examples/tracker/models.yaml`; this is an ordinary client of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from animation import SUFFIXES, write_animation
from video import FPS, FRAMES, Video

from inferoxy import Client
from inferoxy.errors import InferoxyError

URL = "tcp://127.0.0.1:7789"
WINDOW = 16  # frames under way: two batches of the follower


def read_frames(source: Path) -> Iterator[bytes]:
    """The frames of a movie file, or of a folder that video.py wrote, as JPEG or PNG.

    Raises:
        OSError: There are none.
    """
    if source.is_dir():
        files = sorted(source.glob("frame_*.jpg")) or sorted(source.glob("frame_*.png"))
        if not files:
            raise OSError(f"{source}: expected frame_*.jpg or frame_*.png in it, found none")
        yield from (file.read_bytes() for file in files)
        return
    reader = cv2.VideoCapture(str(source))
    try:
        is_some, frame = reader.read()
        if not is_some:
            raise OSError(f"{source}: expected a movie file or a folder of frames, found nothing that OpenCV can play")
        while is_some:
            yield encode(frame)
            is_some, frame = reader.read()
    finally:
        reader.release()


def make_frames(seed: int, count: int) -> Iterator[bytes]:
    """The frames of a new synthetic video."""
    return (encode(image[:, :, ::-1]) for image, _ in Video(seed, count))


def encode(frame: np.ndarray) -> bytes:
    """A BGR frame as a camera would send it."""
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def decode(picture: bytes) -> np.ndarray:
    """A drawn frame, RGB."""
    return cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def follow(client: Client, frames: Iterator[bytes], window: int) -> Iterator[Any]:
    """The follower's answers to a video, in order, with drawn pictures."""
    with client.sequence("follower") as sequence:
        yield sequence.predict(next(frames), draw="jpeg", init="{}")  # as text, which every protocol carries
        yield from sequence.map(frames, draw="jpeg", window=window)


def summarise(predictions: list[dict[str, Any]]) -> None:
    """Print how long each track was seen."""
    seen: dict[int, list[int]] = {}
    names: dict[int, Counter[str]] = {}
    for one in predictions:
        for track, name in zip(one["track_id"], one["class_name"], strict=True):
            seen.setdefault(track, []).append(one["frame"])
            names.setdefault(track, Counter())[name] += 1
    print(f"{'track':>5}  {'class':<10}{'frames':>8}{'first':>8}{'last':>8}")
    for track in sorted(seen):
        frames, ((name, _),) = seen[track], names[track].most_common(1)
        print(f"{track:>5}  {name:<10}{len(frames):>8}{frames[0]:>8}{frames[-1]:>8}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Play a video through a server and save it with its tracks drawn.")
    parser.add_argument(
        "video", type=Path, nargs="?", help="movie file or folder of frames (default: a new one is made)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the video that is made (default 0)")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"of the video that is made (default {FRAMES})")
    parser.add_argument("--url", default=URL, help=f"of the server (default {URL})")
    parser.add_argument("--window", type=int, default=WINDOW, help=f"frames under way at a time (default {WINDOW})")
    parser.add_argument(
        "--out", type=Path, default=Path("followed.webp"), help="the animation; its tracks go beside it"
    )
    given = parser.parse_args()
    if given.out.suffix.lower() not in SUFFIXES:
        parser.error(f"--out: expected a name that ends in one of {', '.join(SUFFIXES)}, found {given.out}")
    try:
        frames = list(read_frames(given.video) if given.video else make_frames(given.seed, given.frames))
        began = time.perf_counter()
        with Client(given.url) as client:
            answers = list(follow(client, iter(frames), given.window))
        took_s = time.perf_counter() - began
        pictures = [decode(answer.picture) for answer in answers]
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write_animation(given.out, pictures, FPS)
        predictions = [answer.value for answer in answers]
        given.out.with_suffix(".json").write_text(json.dumps(predictions) + "\n")
    except (InferoxyError, OSError, ValueError) as exc:
        raise SystemExit(f"error: {exc}") from exc
    summarise(predictions)
    batch = np.mean([answer.served.batch_size for answer in answers])
    print(f"{len(answers)} frames in {took_s:.1f} s, {batch:.1f} in a batch on average; drawn: {given.out}")


if __name__ == "__main__":
    main()
