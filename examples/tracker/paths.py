"""Ways that objects take through a video: smooth, at bounded speed, made to cross one another.

Pure functions of a numpy Generator. What moves along a way and how it looks is scene.py.
Invariants: a way covers every frame in which its object can be seen; equal generators give equal ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

SLOWEST, FASTEST = 2.5, 9.0  # pixels a frame, in a picture whose longer side is 640
STRIDE = (24, 60)  # frames from one bend of a way to the next
MEETINGS = 0.65  # share of the stretches between bends that are led through another object
LEAVES = 0.15  # share of the bends behind which an object leaves the picture
PRESENT = 0.6  # share of the objects that stand in the picture when the video begins
TRIES = 12


@dataclass(frozen=True)
class Way:
    """Where an object's centre is.

    Attributes:
        begin, end: First and last frame, as times; outside them the object is not there.
        curve: Position [2] in pixels by time in frames.
    """

    begin: float
    end: float
    curve: CubicSpline

    def position(self, frame: float) -> np.ndarray | None:
        """The centre [2] in pixels, or None while the object is not there."""
        return np.asarray(self.curve(frame)) if self.begin <= frame <= self.end else None


def make_way(
    rng: np.random.Generator, others: Sequence[Way], width: int, height: int, frames: int, reach: float
) -> Way:
    """A new way through a picture of width x height pixels that seeks the company of `others`.

    Args:
        rng: Source of every choice.
        others: Ways to cross.
        width: Pixels.
        height: Pixels.
        frames: Length of the video.
        reach: Radius of the object in pixels; so far outside the picture nothing of it is seen.
    """
    scale = max(width, height) / 640
    if rng.random() < PRESENT:
        time, point = -1.0, _inside(rng, width, height)
    else:
        time, point = float(rng.uniform(0, 0.5 * frames)), _outside(rng, width, height, reach)
    times, points = [time], [point]
    while time <= frames:
        time, point = _bend(rng, others, (time, point), (width, height), scale)
        times.append(time)
        points.append(point)
        if rng.random() < LEAVES and time <= frames:
            point = _outside(rng, width, height, reach)
            time += float(np.linalg.norm(point - points[-1])) / (scale * rng.uniform(0.5, 1.0) * FASTEST)
            times.append(time)
            points.append(point)
            break
    return Way(times[0], times[-1], CubicSpline(times, np.array(points), bc_type="natural"))


def _bend(
    rng: np.random.Generator,
    others: Sequence[Way],
    last: tuple[float, np.ndarray],
    size: tuple[int, int],
    scale: float,
) -> tuple[float, np.ndarray]:
    """When and where a way bends next; halfway there it crosses another object, if one can be reached."""
    for attempt in range(TRIES):
        time = last[0] + float(rng.uniform(*STRIDE))
        point: np.ndarray | None = None
        if others and attempt < TRIES // 2 and rng.random() < MEETINGS:
            crossed = others[int(rng.integers(len(others)))].position((last[0] + time) / 2)
            point = None if crossed is None else 2 * crossed - last[1]
        if point is None:
            point = _inside(rng, *size)
        speed = float(np.linalg.norm(point - last[1])) / (time - last[0])
        is_inside = bool((point > 0).all() and (point < size).all())
        if is_inside and SLOWEST * scale <= speed <= 0.7 * FASTEST * scale:  # the curve is faster than its chords
            return time, point
    heading = np.array(size) / 2 - last[1]
    step = heading / max(float(np.linalg.norm(heading)), 1.0) * SLOWEST * scale * STRIDE[1]
    return last[0] + STRIDE[1], last[1] + step


def _inside(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    return rng.uniform((0.1 * width, 0.12 * height), (0.9 * width, 0.88 * height))


def _outside(rng: np.random.Generator, width: int, height: int, reach: float) -> np.ndarray:
    """A point from which an object of this reach is not seen."""
    along = rng.random()
    side = int(rng.integers(4))
    if side < 2:
        return np.array([(-reach, width + reach)[side], along * height])
    return np.array([along * width, (-reach, height + reach)[side - 2]])
