"""Draw synthetic training pictures: coloured shapes of six classes over cluttered backgrounds.

Pure functions of a numpy Generator; only the command at the end writes files. What stands where is decided here,
backgrounds and clutter are distract.py, surfaces and camera flaws appearance.py.
Invariants: equal seeds draw equal pictures; a box encloses exactly the pixels of its object that are still visible;
no labelled object has less than MIN_VISIBLE of its area visible; boxes and class ids stay in the same order.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from appearance import fill, paint, photograph
from distract import draw_background, draw_distractor, draw_line

NAMES = ("circle", "square", "triangle", "star", "hexagon", "cross")
MIN_VISIBLE = 0.6  # share of an object's area; below it the class is guesswork
MIN_SIZE, MAX_SIZE = 0.085, 0.38  # an object's diameter as a share of the picture's longer side
MAX_OBJECTS = 11
PLACEMENT_TRIES = 12


def make_picture(
    rng: np.random.Generator, width: int, height: int, count: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one picture.

    Args:
        rng: Source of every choice.
        width: Pixels.
        height: Pixels.
        count: Objects to place; a random 0..MAX_OBJECTS if None. Fewer are placed where the picture is too crowded.

    Returns:
        Image [height, width, 3] UINT8 RGB, boxes [N, 4] float32 as x1, y1, x2, y2 in pixels, class ids [N] int64.
    """
    if count is None:
        count = 0 if rng.random() < 0.03 else int(rng.integers(1, MAX_OBJECTS + 1))
    image = draw_background(rng, width, height)
    for _ in range(int(rng.integers(0, 7))):
        draw_distractor(rng, image)
    owner = np.zeros((height, width), np.uint8)  # which object each pixel shows: 0 for none, else index + 1
    areas: list[float] = []
    class_ids: list[int] = []
    for _ in range(count):
        class_id = int(rng.integers(len(NAMES)))
        if place_object(rng, image, owner, areas, class_id):
            class_ids.append(class_id)
        if rng.random() < 0.12:
            draw_line(rng, image)
    boxes = np.array([visible_box(owner == index + 1) for index in range(len(areas))], np.float32).reshape(-1, 4)
    return photograph(rng, image), boxes, np.array(class_ids, np.int64)


def place_object(
    rng: np.random.Generator, image: np.ndarray, owner: np.ndarray, areas: list[float], class_id: int
) -> bool:
    """Draw one object where it leaves enough of itself and of the objects below it visible; False where no try did.

    On success `image` and `owner` hold the object and its unclipped area is appended to `areas`.
    """
    height, width = owner.shape
    longer = max(width, height)
    for _ in range(PLACEMENT_TRIES):
        size = longer * float(np.exp(rng.uniform(np.log(MIN_SIZE), np.log(MAX_SIZE))))
        size = min(size, 0.75 * min(width, height))
        points = place_outline(rng, outline(rng, NAMES[class_id]), size)
        points += rng.uniform((0, 0), (width, height))
        mask = np.zeros_like(owner)
        fill(mask, points, 1)
        area = abs(cv2.contourArea(points.astype(np.float32)))
        if mask.sum() < MIN_VISIBLE * area:
            continue
        before = np.bincount(owner.ravel(), minlength=len(areas) + 1)[1:]
        hidden = np.bincount(owner[mask > 0], minlength=len(areas) + 1)[1:]
        if np.any(before - hidden < MIN_VISIBLE * np.array(areas)) or hidden.sum() > 0.5 * area:
            continue
        paint(rng, image, points, mask)
        owner[mask > 0] = len(areas) + 1
        areas.append(area)
        return True
    return False


def outline(rng: np.random.Generator, name: str) -> np.ndarray:
    """The polygon of a class around the origin, points [K, 2] within radius 1."""
    if name == "circle":
        return ring_points(72)
    if name == "square":
        return ring_points(4)
    if name == "triangle":
        return ring_points(3)
    if name == "hexagon":
        return ring_points(6)
    if name == "star":
        points = ring_points(10)
        points[1::2] *= rng.uniform(0.38, 0.52)
        return points
    if name == "cross":
        arm = rng.uniform(0.26, 0.4)
        corner = np.array([[1, arm], [arm, arm], [arm, 1]])
        quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
        return np.concatenate([corner @ np.linalg.matrix_power(quarter, turn).T for turn in range(4)])
    raise ValueError(f"unknown class {name!r}, expected one of {NAMES}")


def ring_points(count: int) -> np.ndarray:
    angles = np.arange(count) * 2 * np.pi / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def place_outline(rng: np.random.Generator, points: np.ndarray, size: float) -> np.ndarray:
    """Stretch a little, rotate by any angle and scale an outline so that it is about `size` pixels across."""
    points = points * (1.0, rng.uniform(0.86, 1.0))
    shear = np.array([[1.0, rng.uniform(-0.12, 0.12)], [0.0, 1.0]])
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ shear.T @ turn.T * (size / 2)


def visible_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def picture_size(rng: np.random.Generator) -> tuple[int, int]:
    """A random width and height: longer side 320..960 pixels, from 16:9 over square to 9:16."""
    longer = int(rng.integers(320, 961))
    shorter = int(longer * rng.uniform(9 / 16, 1))
    return (longer, shorter) if rng.random() < 0.7 else (shorter, longer)


def picture_rng(seed: int, index: int) -> np.random.Generator:
    """The generator of picture `index` of set `seed`, independent of every other picture."""
    return np.random.default_rng([seed, index])


def make_numbered_picture(seed: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture `index` of set `seed`, at its random size; returns what make_picture returns."""
    rng = picture_rng(seed, index)
    width, height = picture_size(rng)
    return make_picture(rng, width, height)


def describe(file: str, image: np.ndarray, boxes: np.ndarray, class_ids: np.ndarray) -> dict[str, Any]:
    """One picture's ground truth as it stands in the labels JSON."""
    return {
        "file": file,
        "width": image.shape[1],
        "height": image.shape[0],
        "boxes": [[float(value) for value in box] for box in boxes],
        "class_names": [NAMES[class_id] for class_id in class_ids],
    }


def write_jpeg(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(f"cannot write {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write synthetic pictures and their labels.json.")
    parser.add_argument("--out", type=Path, required=True, help="folder, made if absent")
    parser.add_argument("--count", type=int, default=16, help="pictures (default 16)")
    parser.add_argument("--seed", type=int, default=0, help="set of pictures (default 0)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    labels = []
    for index in range(arguments.count):
        image, boxes, class_ids = make_numbered_picture(arguments.seed, index)
        file = f"picture_{index:05d}.jpg"
        write_jpeg(arguments.out / file, image)
        labels.append(describe(file, image, boxes, class_ids))
    (arguments.out / "labels.json").write_text(json.dumps(labels, indent=1) + "\n")


if __name__ == "__main__":
    main()
