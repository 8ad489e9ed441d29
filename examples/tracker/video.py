"""Make short videos of moving shapes with ground truth, and write them: frames, an animation, truth.json.

What is to be seen is scene.py; this is the camera and the files. `python video.py --help` says what the command takes.
Invariants: equal seeds give equal frames, whichever are asked for and in whatever order; light, sharpness and the JPEG
quality stay the same throughout a video, exposure drifts, noise is new in each frame.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "detector"))

from animation import SUFFIXES, write_animation
from appearance import compress, relight
from scene import NAMES, Scene, Seen

WIDTH, HEIGHT = 640, 360
FRAMES = 150
FPS = 25.0
OBJECTS = 9
FRAME_FILES = {"jpg": [cv2.IMWRITE_JPEG_QUALITY, 92], "png": []}


class Camera:
    """The flaws of one camera, by seed: uneven light, drifting exposure, blur, noise and JPEG compression."""

    def __init__(self, seed: int, width: int, height: int) -> None:
        rng = np.random.default_rng([seed, 2])
        self._seed = seed
        self._light = rng.uniform(0.6, 1.2, (3, 3)) if rng.random() < 0.5 else None
        self._exposure = (float(rng.uniform(0.8, 1.1)), float(rng.uniform(0, 0.12)), float(rng.uniform(40, 120)))
        self._blur = float(rng.uniform(0.4, 1.4)) * max(width, height) / 640 if rng.random() < 0.4 else 0.0
        self._noise = float(rng.uniform(2, 12)) if rng.random() < 0.7 else 0.0
        self._quality = int(rng.integers(45, 96))

    def shoot(self, image: np.ndarray, frame: int) -> np.ndarray:
        """What comes of an image [height, width, 3] UINT8 RGB when it is frame number `frame`."""
        if self._light is not None:
            image = relight(image, self._light)
        mean, swing, period = self._exposure
        image = cv2.convertScaleAbs(image, alpha=mean + swing * float(np.sin(2 * np.pi * frame / period)))
        if self._blur:
            image = cv2.GaussianBlur(image, (0, 0), self._blur)
        if self._noise:
            rng = np.random.default_rng([self._seed, 3, frame])
            noise = rng.standard_normal(image.shape, np.float32) * np.float32(self._noise)
            image = cv2.add(image, noise, dtype=cv2.CV_8U)
        return compress(image, self._quality)


class Video:
    """A video by its seed; frames are drawn when they are asked for.

    Args:
        seed: Of every choice.
        frames: Length.
        width: Pixels.
        height: Pixels.
        count: Objects that take part.

    Raises:
        ValueError: A size is out of range.
    """

    def __init__(
        self, seed: int, frames: int = FRAMES, width: int = WIDTH, height: int = HEIGHT, count: int = OBJECTS
    ) -> None:
        for name, value, least, most in (
            ("seed", seed, 0, 2**32 - 1),
            ("frames", frames, 1, 10_000),
            ("width", width, 64, 4096),
            ("height", height, 64, 4096),
            ("count", count, 0, 100),
        ):
            if not least <= value <= most:
                raise ValueError(f"{name}: expected {least} to {most}, found {value}")
        self.seed, self.frames, self.width, self.height = seed, frames, width, height
        self._scene = Scene(seed, width, height, frames, count)
        self._camera = Camera(seed, width, height)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[tuple[np.ndarray, list[Seen]]]:
        return (self.draw(frame) for frame in range(self.frames))

    def draw(self, frame: int) -> tuple[np.ndarray, list[Seen]]:
        """Frame number `frame`, from 0: image [height, width, 3] UINT8 RGB and what of the objects is seen in it."""
        image, seen = self._scene.draw(frame)
        return self._camera.shoot(image, frame), seen


def describe(video: Video, truth: list[list[Seen]], files: list[str]) -> dict[str, Any]:
    """A video's ground truth as it stands in truth.json."""
    return {
        "seed": video.seed,
        "width": video.width,
        "height": video.height,
        "fps": FPS,
        "class_names": list(NAMES),
        "frames": [
            {"file": file, "objects": [asdict(one) for one in seen]} for file, seen in zip(files, truth, strict=True)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Write synthetic videos: frames, an animation and truth.json of each.")
    parser.add_argument("--out", type=Path, required=True, help="folder, made if absent; a folder in it per video")
    parser.add_argument("--seed", type=int, default=0, help="of the first video (default 0)")
    parser.add_argument("--count", type=int, default=1, help="videos, of consecutive seeds (default 1)")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"of each video (default {FRAMES})")
    parser.add_argument("--objects", type=int, default=OBJECTS, help=f"in each video (default {OBJECTS})")
    parser.add_argument("--width", type=int, default=WIDTH, help=f"pixels (default {WIDTH})")
    parser.add_argument("--height", type=int, default=HEIGHT, help=f"pixels (default {HEIGHT})")
    parser.add_argument("--png", action="store_true", help="frames as PNG, without loss, instead of JPEG")
    parser.add_argument("--animation", choices=SUFFIXES, default=".webp", help="its format (default .webp)")
    given = parser.parse_args()
    for seed in range(given.seed, given.seed + given.count):
        try:
            video = Video(seed, given.frames, given.width, given.height, given.objects)
        except ValueError as exc:
            parser.error(str(exc))
        folder = given.out / f"video_{seed:04d}"
        write_video(video, folder, "png" if given.png else "jpg", given.animation)
        print(f"{folder}: {len(video)} frames of {video.width} x {video.height}")


def write_video(video: Video, folder: Path, suffix: str, animation: str) -> None:
    """Write a video's frames, its animation and truth.json into a folder, which is made if absent."""
    folder.mkdir(parents=True, exist_ok=True)
    images, truth, files = [], [], []
    for frame, (image, seen) in enumerate(video):
        file = f"frame_{frame:04d}.{suffix}"
        if not cv2.imwrite(str(folder / file), image[:, :, ::-1], FRAME_FILES[suffix]):
            raise OSError(f"cannot write {folder / file}")
        images.append(image)
        truth.append(seen)
        files.append(file)
    write_animation(folder / f"video{animation}", images, FPS)
    (folder / "truth.json").write_text(json.dumps(describe(video, truth, files)) + "\n")


if __name__ == "__main__":
    main()
