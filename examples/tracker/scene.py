"""What a synthetic video shows: moving shapes that cover one another, a background, perhaps a post in front of all.

Pure functions of a numpy Generator and a frame number. Shapes and surfaces are those of the detector's pictures
(../detector); where objects go is paths.py, what the camera does to it and files are video.py.
Invariants: equal seeds give equal scenes, and a frame does not depend on which were drawn before; a box encloses
exactly the pixels of its object that are seen; an object that leaves the picture and comes back is another object.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "detector"))

from appearance import COLOUR_TRIES, MIN_CONTRAST, SUBPIXEL_BITS, blend, fill, surface
from distract import draw_background, draw_distractor, random_colour
from generate import MIN_SIZE, NAMES, outline, place_outline, visible_box
from paths import Way, make_way

BREATH = 0.2  # share by which the size of an object changes at most
MEAN_SIZES = (MIN_SIZE / (1 - BREATH), 0.2)  # an object's diameter as a share of the picture's longer side
TWINS = 0.4  # share of the objects that have the class of the one before
BORDERS = SHADOWS = 0.25  # share of the objects that have one
POSTS = 0.5  # share of the scenes with a post in front
MARGIN = 12  # pixels around an object that its shadow may reach


@dataclass(frozen=True)
class Seen:
    """One object in one frame.

    Attributes:
        id: The object's, from 1.
        class_id: Index into NAMES.
        box: x1, y1, x2, y2 in pixels, around what is seen of it.
        visible: Share of its area that is seen, more than 0 to 1; what lies outside the picture is not.
    """

    id: int
    class_id: int
    box: tuple[float, float, float, float]
    visible: float


@dataclass(frozen=True)
class Shape:
    """An object: its look and its way.

    Attributes:
        class_id: Index into NAMES.
        points: Outline [K, 2] in pixels around the object's centre, at mean size and unturned.
        texture: Colours [S, S, 3] UINT8 of the square around the centre, as wide as the outline reaches.
        way: Where its centre is.
        turn: Radians a frame.
        breath: Share by which its size changes, period in frames and phase of that.
        border: Colour [3] and width in pixels of the line along its outline; None without.
        shadow: Offset [2] in pixels, opacity 0..255 and blur of its shadow; None without.
    """

    class_id: int
    points: np.ndarray
    texture: np.ndarray
    way: Way
    turn: float
    breath: tuple[float, float, float]
    border: tuple[np.ndarray, int] | None
    shadow: tuple[np.ndarray, int, float] | None

    def transform(self, frame: int) -> np.ndarray | None:
        """The matrix [2, 3] from the object's coordinates to the picture's; None while it is not there."""
        centre = self.way.position(frame)
        if centre is None:
            return None
        share, period, phase = self.breath
        scale = 1 + share * np.sin(2 * np.pi * frame / period + phase)
        cos, sin = scale * np.cos(self.turn * frame), scale * np.sin(self.turn * frame)
        return np.array([[cos, -sin, centre[0]], [sin, cos, centre[1]]])


class Scene:
    """A scene by its seed.

    Args:
        seed: Of every choice.
        width: Pixels.
        height: Pixels.
        frames: Length of the video.
        count: Objects that take part.
    """

    def __init__(self, seed: int, width: int, height: int, frames: int, count: int) -> None:
        rng = np.random.default_rng([seed, 1])
        self.frames = frames
        self.background = draw_background(rng, width, height)
        for _ in range(int(rng.integers(0, 5))):
            draw_distractor(rng, self.background)
        self.shapes: list[Shape] = []
        for _ in range(count):
            self.shapes.append(self._make_shape(rng))
        self._ids = self._number()
        self._post = self._make_post(rng) if rng.random() < POSTS else None

    def draw(self, frame: int) -> tuple[np.ndarray, list[Seen]]:
        """Draw one frame as it is before the camera.

        Returns:
            Image [height, width, 3] UINT8 RGB, and whatever of the objects can be seen in it, in order of id.
        """
        image = self.background.copy()
        owner = np.zeros(image.shape[:2], np.uint8)  # which object each pixel shows: 0 for none, else index + 1
        areas = np.zeros(len(self.shapes))
        for index, shape in enumerate(self.shapes):
            matrix = shape.transform(frame)
            if matrix is not None:
                points = _moved(shape.points, matrix)
                areas[index] = abs(cv2.contourArea(points.astype(np.float32)))
                fill(owner, points, index + 1)
                _paint(image, shape, points, matrix)
        if self._post is not None:
            corners, colour = self._post
            cv2.fillPoly(image, [corners], colour.tolist(), cv2.LINE_AA)
            cv2.fillPoly(owner, [corners], 0)
        pixels = np.bincount(owner.ravel(), minlength=len(self.shapes) + 1)[1:]
        seen = [
            Seen(
                self._ids[index][frame],
                self.shapes[index].class_id,
                visible_box(owner == index + 1),
                min(1.0, float(pixels[index] / areas[index])),
            )
            for index in np.flatnonzero(pixels)
        ]
        return image, sorted(seen, key=lambda one: one.id)

    def _make_shape(self, rng: np.random.Generator) -> Shape:
        height, width = self.background.shape[:2]
        longer = max(width, height)
        size = longer * float(np.exp(rng.uniform(*np.log(MEAN_SIZES))))
        is_twin = bool(self.shapes) and rng.random() < TWINS
        class_id = self.shapes[-1].class_id if is_twin else int(rng.integers(len(NAMES)))
        points = place_outline(rng, outline(rng, NAMES[class_id]), size)
        reach = float(np.linalg.norm(points, axis=1).max())
        border = shadow = None
        if rng.random() < BORDERS:
            border = (random_colour(rng), max(1, int(np.ptp(points[:, 0]) * rng.uniform(0.015, 0.06))))
        if rng.random() < SHADOWS:
            shadow = (rng.uniform(-9, 9, 2), int(rng.integers(60, 170)), float(rng.uniform(1, 5)))
        return Shape(
            class_id,
            points,
            self._make_texture(rng, reach),
            make_way(rng, [shape.way for shape in self.shapes], width, height, self.frames, 1.3 * reach),
            float(rng.uniform(-0.04, 0.04)),
            (float(rng.uniform(0, BREATH)), float(rng.uniform(60, 200)), float(rng.uniform(0, 2 * np.pi))),
            border,
            shadow,
        )

    def _make_texture(self, rng: np.random.Generator, reach: float) -> np.ndarray:
        """An object's colours, unlike the background's mean."""
        behind = self.background.mean(axis=(0, 1))
        colour = random_colour(rng)
        for _ in range(COLOUR_TRIES):
            if np.linalg.norm(colour - behind) >= MIN_CONTRAST:
                break
            colour = random_colour(rng)
        side = 2 * int(np.ceil(reach)) + 1
        texture = np.empty((side, side, 3), np.uint8)
        texture[:] = np.round(surface(rng, colour, side, side))
        return texture

    def _number(self) -> list[list[int]]:
        """The id of every shape in every frame, a new one each time that it comes into the picture; 0 outside it."""
        height, width = self.background.shape[:2]
        numbers: list[list[int]] = []
        last = 0
        for shape in self.shapes:
            ids = []
            was_inside = False
            for frame in range(self.frames):
                matrix = shape.transform(frame)
                is_inside = False
                if matrix is not None:
                    points = _moved(shape.points, matrix)
                    # A pixel that an outline only touches is filled too.
                    is_inside = bool((points.max(axis=0) > -1).all())
                    is_inside &= bool((points.min(axis=0) < (width + 1, height + 1)).all())
                last += is_inside and not was_inside
                was_inside = is_inside
                ids.append(last if is_inside else 0)
            numbers.append(ids)
        return numbers

    def _make_post(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Corners [4, 2] and colour [3] of something upright that hides what is behind it."""
        height, width = self.background.shape[:2]
        foot, head = rng.uniform(0.25, 0.75) * width + rng.uniform(-0.06, 0.06, 2) * width
        half = rng.uniform(0.015, 0.05) * width
        corners = [[foot - half, height], [foot + half, height], [head + half, -1], [head - half, -1]]
        return np.round(corners).astype(np.int32), random_colour(rng)


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def _paint(image: np.ndarray, shape: Shape, points: np.ndarray, matrix: np.ndarray) -> None:
    """Blend one object into `image` where it is now."""
    height, width = image.shape[:2]
    x1, y1 = np.maximum(np.floor(points.min(axis=0)).astype(int) - MARGIN, 0)
    x2, y2 = np.minimum(np.ceil(points.max(axis=0)).astype(int) + MARGIN, (width, height))
    if x1 >= x2 or y1 >= y2:
        return
    window = image[y1:y2, x1:x2]
    local = points - (x1, y1)
    if shape.shadow is not None:
        offset, opacity, softness = shape.shadow
        shadow = np.zeros(window.shape[:2], np.uint8)
        fill(shadow, local + offset, opacity)
        blend(window, np.zeros(3), cv2.GaussianBlur(shadow, (0, 0), softness))
    middle = len(shape.texture) / 2
    placed = matrix.copy()
    placed[:, 2] += matrix[:, :2] @ (-middle, -middle) - (x1, y1)
    texture = cv2.warpAffine(shape.texture, placed, (x2 - x1, y2 - y1), borderMode=cv2.BORDER_REPLICATE)
    alpha = np.zeros(window.shape[:2], np.uint8)
    fill(alpha, local, 255, cv2.LINE_AA)
    blend(window, texture, alpha)
    if shape.border is not None:
        colour, thickness = shape.border
        line = np.zeros(window.shape[:2], np.uint8)
        fixed = np.round(local * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.polylines(line, [fixed], True, 255, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        blend(window, colour, cv2.min(line, alpha))
