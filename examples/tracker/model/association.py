"""How well boxes go together, and which pairs of them are the best.

Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]


def overlaps(first: Floats, second: Floats) -> Floats:
    """IoU of every box of one set [N, 4] with every box of another [M, 4], as [N, M]."""
    x1, y1, x2, y2 = (column[:, None] for column in first.T)
    a1, b1, a2, b2 = second.T
    width = np.maximum(np.minimum(x2, a2) - np.maximum(x1, a1), 0.0)
    height = np.maximum(np.minimum(y2, b2) - np.maximum(y1, b1), 0.0)
    shared = width * height
    union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def nearness(first: Floats, second: Floats, reach: Floats) -> Floats:
    """1 where two boxes have one centre, falling to 0 where the centres are `reach` apart, below 0 farther off.

    Args:
        first: [N, 4] x1, y1, x2, y2.
        second: [M, 4] likewise.
        reach: [N] in mean sides of the first box.

    Returns:
        [N, M]; -1 where one box has less than a quarter or more than four times the area of the other.
    """
    x, y, width, height = _centres(first)
    a, b, other_width, other_height = _centres(second)
    side = np.sqrt(width * height)
    across, down = x[:, None] - a, y[:, None] - b
    apart = np.sqrt(across * across + down * down)
    limit = np.maximum(reach * side, 1.0)[:, None]
    ratio = np.sqrt(other_width * other_height) / np.maximum(side, 1.0)[:, None]
    return np.where((ratio < 0.5) | (ratio > 2.0), -1.0, 1.0 - apart / limit)


def best_pairs(scores: Floats, least: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pairs, none used twice, that have the highest sum of scores.

    Args:
        scores: [N, M], at most 1.
        least: At least 0; no pair has a lower score. As many pairs as can be go before a higher sum.
    """
    is_allowed = scores >= least
    rows, columns = linear_sum_assignment(np.where(is_allowed, 1.0 - scores, scores.size + 1.0))
    chosen = is_allowed[rows, columns]
    return rows[chosen], columns[chosen]


def _centres(boxes: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    x1, y1, x2, y2 = boxes.T
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
