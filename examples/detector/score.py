"""Score detections against ground truth: average precision of each class.

Pure; pictures and models are evaluate.py.
Invariant: a labelled object is found at most once, by the strongest detection that overlaps it; further ones are false.

Source: COCO detection evaluation (precision sampled at 101 recalls), at the single IoU threshold given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detect import Detections, overlaps

RECALLS = np.linspace(0, 1, 101)


def average_precisions(
    detections: Sequence[Detections],
    true_boxes: Sequence[np.ndarray],
    true_ids: Sequence[np.ndarray],
    classes: int,
    min_overlap: float = 0.5,
) -> np.ndarray:
    """Average precision of each class, float [classes]; nan for a class that no picture shows.

    Args:
        detections: One per picture, down to the lowest scores the detector gives.
        true_boxes: Per picture [N, 4] x1, y1, x2, y2.
        true_ids: Per picture [N].
        classes: How many there are.
        min_overlap: IoU from which a detection finds an object.
    """
    precisions = np.full(classes, np.nan)
    for class_id in range(classes):
        scores, hits, total = [], [], 0
        for found, boxes, ids in zip(detections, true_boxes, true_ids, strict=True):
            of_class = found.class_ids == class_id
            scores.append(found.scores[of_class])
            hits.append(match(found.boxes[of_class], boxes[ids == class_id], min_overlap))
            total += int((ids == class_id).sum())
        if total:
            order = np.argsort(-np.concatenate(scores), kind="stable")
            precisions[class_id] = average_precision(np.concatenate(hits)[order], total)
    return precisions


def match(found: np.ndarray, true: np.ndarray, min_overlap: float) -> np.ndarray:
    """Which detections [N, 4], strongest first, find an object of `true` [M, 4] not found before; bool [N]."""
    hits = np.zeros(len(found), bool)
    if not len(true):
        return hits
    fit = overlaps(found, true)
    for index in range(len(found)):
        best = int(fit[index].argmax())
        if fit[index, best] >= min_overlap:
            hits[index] = True
            fit[:, best] = -1
    return hits


def average_precision(hits: np.ndarray, total: int) -> float:
    """Mean over 101 recalls of the best precision at that recall or a higher one.

    Args:
        hits: Whether each detection is right, strongest first.
        total: Objects there were to find.
    """
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(right / total, RECALLS, side="left")
    return float(np.append(precision, 0.0)[first].mean())
