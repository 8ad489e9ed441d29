"""One frame's detections as the tracker reckons with them.

Pure. Invariant: what `check` returns holds nothing but finite boxes that are not inside out, confidences from 0 to 1
and whole class ids.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FARTHEST = 1e7  # pixels from the origin; beyond it a frame is nonsense
MOST_CLASSES = 1_000_000


class Detections(NamedTuple):
    """Boxes [N, 4] float64 x1, y1, x2, y2 in pixels, confidences [N] float64 0 to 1, class ids [N] int64."""

    boxes: NDArray[np.float64]
    confidences: NDArray[np.float64]
    class_ids: NDArray[np.int64]


def check(boxes: NDArray[Any], confidences: NDArray[Any], class_ids: NDArray[Any]) -> Detections:
    """Detections out of arrays of any number type.

    Args:
        boxes: [N, 4] x1, y1, x2, y2 in pixels.
        confidences: [N] 0 to 1.
        class_ids: [N] whole numbers from 0, of an integer or float type.

    Raises:
        ValueError: They are not that; names the first row that is not.
    """
    boxes, confidences = np.asarray(boxes, np.float64), np.asarray(confidences, np.float64)
    class_ids = np.asarray(class_ids)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected shape [N, 4], found {list(boxes.shape)}")
    for name, array in (("confidences", confidences), ("class_ids", class_ids)):
        if array.shape != (len(boxes),):
            raise ValueError(f"{name}: expected shape [{len(boxes)}], as many as boxes, found {list(array.shape)}")
    is_box = (np.abs(boxes) <= FARTHEST).all(axis=1) & (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)  # not so for NaN
    _check_rows("boxes", f"x1 <= x2 and y1 <= y2 within {FARTHEST:.0e} pixels", boxes, is_box)
    _check_rows("confidences", "0 to 1", confidences, (confidences >= 0) & (confidences <= 1))
    is_class = (class_ids >= 0) & (class_ids < MOST_CLASSES) & (class_ids == np.floor(class_ids))
    _check_rows("class_ids", f"a whole number from 0 to {MOST_CLASSES - 1}", class_ids, is_class)
    return Detections(boxes, confidences, class_ids.astype(np.int64))


def _check_rows(name: str, expected: str, values: NDArray[Any], is_right: NDArray[np.bool_]) -> None:
    if not is_right.all():
        row = int(np.argmin(is_right))
        raise ValueError(f"{name}, row {row}: expected {expected}, found {values[row].tolist()}")
