"""Draw what is not to be detected: backgrounds, colours, lines and shapes of no class.

Pure functions of a numpy Generator that draw into RGB UINT8 images. The shapes that count are generate.py.
Invariant: nothing drawn here is a circle, square, triangle, star, hexagon or cross.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

LETTERS = "ABCDEGHJKMNPQRSUWZ2345679&?@"  # none that is a cross, a ring or a bare stroke


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """RGB 0..255 float [3], mostly vivid, sometimes grey."""
    saturation = rng.uniform(0.0, 0.2) if rng.random() < 0.2 else rng.uniform(0.35, 1.0)
    rgb = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.15, 1.0))
    return np.array(rgb) * 255


def draw_background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A new image [height, width, 3]: gradient, clouds, stripes or tiles, then clutter."""
    base = random_colour(rng)
    spread = rng.uniform(20, 110)
    kind = rng.random()
    if kind < 0.35:
        image = stretch(base + rng.uniform(-spread, spread, (2, 2, 3)), width, height)
    elif kind < 0.7:
        image = clouds(rng, base, spread, width, height)
    else:
        image = pattern(rng, base, spread, width, height)
    for _ in range(int(rng.integers(0, 6))):
        draw_blob(rng, image)
    for _ in range(int(rng.integers(0, 10))):
        draw_line(rng, image)
    return image


def stretch(cells: np.ndarray, width: int, height: int) -> np.ndarray:
    """Interpolate a few colours [rows, columns, 3] over a whole image."""
    smooth = cv2.resize(np.clip(cells, 0, 255).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return smooth.astype(np.uint8)


def clouds(rng: np.random.Generator, base: np.ndarray, spread: float, width: int, height: int) -> np.ndarray:
    """Noise of three scales, like foliage, stone or cloth."""
    total = np.tile(base.astype(np.float32), (height, width, 1))
    for cells in (4, 16, 64):
        coarse = rng.uniform(-spread, spread, (cells, cells, 3)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        spread *= rng.uniform(0.2, 0.7)
    return np.clip(total, 0, 255).astype(np.uint8)


def pattern(rng: np.random.Generator, base: np.ndarray, spread: float, width: int, height: int) -> np.ndarray:
    """Stripes, or tiles whose long sides are at least twice the short ones."""
    angle = rng.uniform(0, np.pi)
    columns, rows = np.arange(width)[None, :], np.arange(height)[:, None]
    period = rng.uniform(0.02, 0.15) * max(width, height)
    along = (np.cos(angle) * columns + np.sin(angle) * rows) / period
    tone = np.sin(2 * np.pi * along) if rng.random() < 0.5 else np.sign(along % 1 - 0.5)
    if rng.random() < 0.4:
        across = (np.cos(angle) * rows - np.sin(angle) * columns) / (period * rng.uniform(2, 4))
        tone = tone * np.sign(across % 1 - 0.5)
    shift = rng.uniform(-spread, spread, 3) / 2
    return np.clip(base + tone[:, :, None] * shift, 0, 255).astype(np.uint8)


def draw_line(rng: np.random.Generator, image: np.ndarray) -> None:
    """A thin straight or bent line from anywhere to anywhere."""
    height, width = image.shape[:2]
    points = rng.uniform((-0.1 * width, -0.1 * height), (1.1 * width, 1.1 * height), (int(rng.integers(2, 5)), 2))
    thickness = max(1, int(rng.uniform(0.001, 0.007) * max(width, height)))
    cv2.polylines(image, [points.astype(np.int32)], False, random_colour(rng).tolist(), thickness, cv2.LINE_AA)


def draw_blob(rng: np.random.Generator, image: np.ndarray) -> None:
    """A translucent, wavy patch."""
    height, width = image.shape[:2]
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = np.ones(48)
    for wave in (1, 2, 3, 5):
        radius += rng.uniform(0.1, 0.35) * np.sin(wave * angles + rng.uniform(0, 2 * np.pi))
    radius *= rng.uniform(0.04, 0.25) * max(width, height)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    points += rng.uniform((0, 0), (width, height))
    layer = image.copy()
    cv2.fillPoly(layer, [points.astype(np.int32)], random_colour(rng).tolist(), cv2.LINE_AA)
    weight = float(rng.uniform(0.2, 0.9))
    cv2.addWeighted(layer, weight, image, 1 - weight, 0, dst=image)


def draw_distractor(rng: np.random.Generator, image: np.ndarray) -> None:
    """A sharp shape of no class: bar, ellipse, arc, crescent, zigzag or letter."""
    draw = DISTRACTORS[int(rng.integers(len(DISTRACTORS)))]
    height, width = image.shape[:2]
    centre = rng.uniform((0, 0), (width, height))
    draw(rng, image, centre, float(rng.uniform(0.05, 0.2)) * max(width, height))


def draw_bar(rng: np.random.Generator, image: np.ndarray, centre: np.ndarray, size: float) -> None:
    sides = (2 * size, 2 * size / rng.uniform(2.2, 7))
    corners = cv2.boxPoints((centre.tolist(), sides, float(rng.uniform(0, 180))))
    cv2.fillPoly(image, [corners.astype(np.int32)], random_colour(rng).tolist(), cv2.LINE_AA)


def draw_ellipse(rng: np.random.Generator, image: np.ndarray, centre: np.ndarray, size: float) -> None:
    axes = (int(size), max(1, int(size / rng.uniform(2, 4))))
    angle = float(rng.uniform(0, 180))
    cv2.ellipse(image, centre.astype(int).tolist(), axes, angle, 0, 360, random_colour(rng).tolist(), -1, cv2.LINE_AA)


def draw_arc(rng: np.random.Generator, image: np.ndarray, centre: np.ndarray, size: float) -> None:
    axes = (int(size), int(size * rng.uniform(0.6, 1)))
    start, sweep = float(rng.uniform(0, 360)), float(rng.uniform(60, 290))
    thickness = max(2, int(size * rng.uniform(0.08, 0.3)))
    colour = random_colour(rng).tolist()
    cv2.ellipse(image, centre.astype(int).tolist(), axes, 0, start, start + sweep, colour, thickness, cv2.LINE_AA)


def draw_crescent(rng: np.random.Generator, image: np.ndarray, centre: np.ndarray, size: float) -> None:
    half = np.linspace(-np.pi / 2, np.pi / 2, 24)
    depth = rng.uniform(0.2, 0.75)
    outer = np.stack([np.cos(half), np.sin(half)], axis=1)
    inner = np.stack([depth * np.cos(half), np.sin(half)], axis=1)[::-1]
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.concatenate([outer, inner]) @ turn.T * size + centre
    cv2.fillPoly(image, [points.astype(np.int32)], random_colour(rng).tolist(), cv2.LINE_AA)


def draw_zigzag(rng: np.random.Generator, image: np.ndarray, centre: np.ndarray, size: float) -> None:
    points = rng.uniform(-size, size, (int(rng.integers(4, 9)), 2)) + centre
    thickness = max(2, int(size * rng.uniform(0.05, 0.2)))
    cv2.polylines(image, [points.astype(np.int32)], False, random_colour(rng).tolist(), thickness, cv2.LINE_AA)


def draw_letter(rng: np.random.Generator, image: np.ndarray, centre: np.ndarray, size: float) -> None:
    letter = LETTERS[int(rng.integers(len(LETTERS)))]
    thickness = max(2, int(size * rng.uniform(0.08, 0.25)))
    origin = (int(centre[0] - size / 2), int(centre[1] + size / 2))
    colour = random_colour(rng).tolist()
    cv2.putText(image, letter, origin, cv2.FONT_HERSHEY_DUPLEX, size / 22, colour, thickness, cv2.LINE_AA)


DISTRACTORS = (draw_bar, draw_ellipse, draw_arc, draw_crescent, draw_zigzag, draw_letter)
