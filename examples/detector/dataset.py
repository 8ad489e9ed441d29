"""Keep generated pictures, already letterboxed, in a folder and hand them out in augmented batches.

Drawing is generate.py, fitting detect.py; this module only stores, mirrors and recolours.
Invariants: a cache is used only for the seed, count and size it was made for; empty label rows have class id -1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from detect import letterbox
from generate import MAX_OBJECTS, make_numbered_picture

NO_CLASS = -1


class Pictures(NamedTuple):
    """Images [N, size, size, 3] UINT8 RGB, boxes [N, MAX_OBJECTS, 4] float32 x1y1x2y2, class ids [N, MAX_OBJECTS]."""

    images: np.ndarray
    boxes: np.ndarray
    class_ids: np.ndarray


def load_or_make(folder: Path, seed: int, count: int, size: int) -> Pictures:
    """The first `count` pictures of set `seed`, read from `folder` if an earlier call left them there."""
    name = f"seed{seed}_count{count}_size{size}"
    images_path, labels_path = folder / f"{name}.npy", folder / f"{name}.npz"
    if not labels_path.exists():  # written last, so its presence means that the images are complete
        make(images_path, labels_path, seed, count, size)
    with np.load(labels_path) as labels:
        return Pictures(np.load(images_path, mmap_mode="r"), labels["boxes"], labels["class_ids"])


def make(images_path: Path, labels_path: Path, seed: int, count: int, size: int) -> None:
    images_path.parent.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(images_path, "w+", np.uint8, (count, size, size, 3))
    all_boxes = np.zeros((count, MAX_OBJECTS, 4), np.float32)
    all_ids = np.full((count, MAX_OBJECTS), NO_CLASS, np.int64)
    for index in range(count):
        image, boxes, class_ids = make_numbered_picture(seed, index)
        images[index], fit = letterbox(image, size)
        all_boxes[index, : len(boxes)] = boxes * fit.ratio + (fit.left, fit.top) * 2
        all_ids[index, : len(boxes)] = class_ids
    images.flush()
    np.savez(labels_path, boxes=all_boxes, class_ids=all_ids)


def augmented_batches(rng: np.random.Generator, pictures: Pictures, batch_size: int) -> Iterator[Pictures]:
    """Endless shuffled batches, each picture mirrored, turned and recoloured at random."""
    while True:
        order = rng.permutation(len(pictures.images))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = np.sort(order[start : start + batch_size])
            one_by_one = [augment(rng, *(column[index] for column in pictures)) for index in chosen]
            yield Pictures(*(np.stack(column) for column in zip(*one_by_one, strict=True)))


def augment(
    rng: np.random.Generator, image: np.ndarray, boxes: np.ndarray, class_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mirror, transpose and recolour one square picture; the classes survive all three."""
    size = image.shape[0]
    boxes = boxes.copy()
    if rng.random() < 0.5:
        image, boxes = image[:, ::-1], np.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1)
    if rng.random() < 0.5:
        image, boxes = image[::-1], np.stack([boxes[:, 0], size - boxes[:, 3], boxes[:, 2], size - boxes[:, 1]], 1)
    if rng.random() < 0.5:
        image, boxes = image.transpose(1, 0, 2), boxes[:, [1, 0, 3, 2]]
    return recolour(rng, np.ascontiguousarray(image[:, :, rng.permutation(3)])), boxes, class_ids


def recolour(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Shift hue, saturation and brightness a little."""
    if rng.random() < 0.4:
        return image
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    hue = ((hue.astype(np.int16) + int(rng.integers(-12, 13))) % 180).astype(np.uint8)
    saturation = cv2.convertScaleAbs(saturation, alpha=float(rng.uniform(0.6, 1.3)))
    value = cv2.convertScaleAbs(value, alpha=float(rng.uniform(0.75, 1.2)))
    return cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB)
