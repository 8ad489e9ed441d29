"""Run an exported detector on pictures: letterbox, onnxruntime, boxes back in the picture's own pixels.

Training is train.py, scoring evaluate.py; only this module imports onnxruntime.
Invariants: detections are in descending score; two detections of one class never overlap by more than MAX_OVERLAP.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime

PAD_GREY = 114
MAX_OVERLAP = 0.6  # IoU above which the weaker of two boxes of one class is dropped
MAX_DETECTIONS = 100
MAX_CANDIDATES = 1000  # the strongest boxes that suppression looks at


class Letterbox(NamedTuple):
    """How a picture was fitted into the network's square: input = picture * ratio + (left, top)."""

    ratio: float
    left: int
    top: int


class Detections(NamedTuple):
    """Boxes [N, 4] float32 x1, y1, x2, y2 in picture pixels, scores [N] float32, class ids [N] int64."""

    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray


class Detector:
    """One ONNX file on one CPU core."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]

    def detect(self, image: np.ndarray, min_score: float = 0.25) -> Detections:
        """Find the objects in an RGB UINT8 image [height, width, 3]."""
        square, fit = letterbox(image, self.input.shape[2])
        tensor = np.ascontiguousarray(square.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        output = self.session.run(None, {self.input.name: tensor})[0]
        return to_detections(output[0], fit, image.shape[1], image.shape[0], min_score)


def letterbox(image: np.ndarray, size: int) -> tuple[np.ndarray, Letterbox]:
    """Scale an image to fit a grey square, centred; the aspect ratio stays.

    Returns:
        The square [size, size, 3] UINT8 and how the image lies in it.
    """
    height, width = image.shape[:2]
    ratio = min(size / height, size / width)
    inner_width, inner_height = round(width * ratio), round(height * ratio)
    left = round((size - inner_width) / 2 - 0.1)
    top = round((size - inner_height) / 2 - 0.1)
    if (inner_width, inner_height) != (width, height):
        image = cv2.resize(image, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR)
    square = np.full((size, size, 3), PAD_GREY, np.uint8)
    square[top : top + inner_height, left : left + inner_width] = image
    return square, Letterbox(ratio, left, top)


def to_detections(output: np.ndarray, fit: Letterbox, width: int, height: int, min_score: float) -> Detections:
    """Turn one picture's raw output [4 + classes, anchors] into detections.

    Every class above `min_score` at an anchor is a candidate, so one anchor may yield several.
    """
    anchor_scores = output[4:].max(axis=0)
    output = output[:, anchor_scores >= min_score]
    class_ids, anchors = np.nonzero(output[4:] >= min_score)
    scores = output[4:][class_ids, anchors]
    strongest = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    class_ids, scores = class_ids[strongest], scores[strongest]
    centres_sizes = output[:4, anchors[strongest]].T
    corners = np.concatenate([centres_sizes[:, :2] - centres_sizes[:, 2:] / 2] * 2, axis=1)
    corners[:, 2:] += centres_sizes[:, 2:]
    boxes = (corners - (fit.left, fit.top) * 2) / fit.ratio
    boxes = np.clip(boxes, 0, (width, height) * 2).astype(np.float32)
    kept = suppress(boxes, class_ids)
    return Detections(boxes[kept], scores[kept], class_ids[kept])


def suppress(boxes: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """Indices of the boxes that no stronger box of their class hides; boxes come in descending score."""
    kept: list[int] = []
    waiting = np.arange(len(boxes))
    while len(waiting) and len(kept) < MAX_DETECTIONS:
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        rivals = overlaps(boxes[best : best + 1], boxes[waiting])[0] > MAX_OVERLAP
        waiting = waiting[~(rivals & (class_ids[waiting] == class_ids[best]))]
    return np.array(kept, np.int64)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every box of one set [N, 4] with every box of another [M, 4], as [N, M]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    first_area = np.prod(first[:, 2:] - first[:, :2], axis=1)
    second_area = np.prod(second[:, 2:] - second[:, :2], axis=1)
    return shared / np.maximum(first_area[:, None] + second_area[None, :] - shared, 1e-9)
