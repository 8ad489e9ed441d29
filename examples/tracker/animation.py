"""Write frames as one file that plays: WebP, GIF or PNG animations and MP4, by OpenCV alone.

A file is written when all of its frames are known; MP4 frame by frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

ANIMATIONS = {".webp": [cv2.IMWRITE_WEBP_QUALITY, 80], ".gif": [], ".png": []}
MOVIES = {".mp4": "mp4v"}
SUFFIXES = (*ANIMATIONS, *MOVIES)


def write_animation(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write frames that play in a loop (an MP4: once).

    Args:
        path: Its suffix, one of SUFFIXES, says the format; GIF has 256 colours a frame and is the largest.
        frames: RGB UINT8 [height, width, 3], all of one size, at least one.
        fps: Frames a second.

    Raises:
        ValueError: The suffix is another, or the frames differ in size.
        OSError: The file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file name that ends in one of {', '.join(SUFFIXES)}")
    sizes = {frame.shape for frame in frames}
    if len(sizes) != 1:
        raise ValueError(f"{path}: expected frames of one size, found {sorted(sizes) or 'no frames'}")
    pictures = [np.ascontiguousarray(frame[:, :, ::-1]) for frame in frames]
    if suffix in MOVIES:
        _write_movie(path, pictures, fps)
        return
    animation = cv2.Animation()
    animation.frames = pictures
    animation.durations = np.full(len(pictures), round(1000 / fps), np.int32)
    animation.loop_count = 0
    if not cv2.imwriteanimation(str(path), animation, ANIMATIONS[suffix]):
        raise OSError(f"cannot write {path}")


def _write_movie(path: Path, pictures: Sequence[np.ndarray], fps: float) -> None:
    height, width = pictures[0].shape[:2]
    code = cv2.VideoWriter_fourcc(*MOVIES[path.suffix.lower()])
    writer = cv2.VideoWriter(str(path), code, fps, (width, height))
    try:
        if not writer.isOpened():
            raise OSError(f"cannot write {path}: this OpenCV has no encoder for it")
        for picture in pictures:
            writer.write(picture)
    finally:
        writer.release()
