"""Choose among overlapping boxes: greedy, class-aware non-maximum suppression.

Pure. A box is dropped when a stronger kept box of its class overlaps it by more than `iou`. Equal scores: the earlier
box wins. The work ends with the last box that may be kept, so its cost is bounded by `limit`, not by the candidates.
"""

import numpy as np
from numpy.typing import NDArray

from inferoxy.runtime.sdk import Array

MAX_CANDIDATES = 5_000  # the strongest that are looked at; more than any anchor grid leaves above a sensible score


def suppress(boxes: Array, scores: Array, class_ids: Array, iou: float, limit: int) -> NDArray[np.intp]:
    """Indices of the boxes to keep, in descending score.

    Args:
        boxes: [N, 4] float, xyxy.
        scores: [N] float.
        class_ids: [N] int.
        iou: Intersection over union above which the weaker box goes.
        limit: The most boxes to keep.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order].T, np.float32)
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    classes = class_ids[order]
    left = np.arange(len(order))
    kept: list[int] = []
    while left.size and len(kept) < limit:
        best, left = left[0], left[1:]
        kept.append(best)
        if not left.size:
            break
        width = np.minimum(x2[left], x2[best]) - np.maximum(x1[left], x1[best])
        height = np.minimum(y2[left], y2[best]) - np.maximum(y1[left], y1[best])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        union = areas[left] + areas[best] - shared
        left = left[(shared <= iou * union) | (classes[left] != classes[best])]
    return order[kept] if kept else order[:0]
