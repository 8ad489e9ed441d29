"""Fit pictures of any size into a network's input, and bring boxes back.

Pure. The Ultralytics convention: scale by the smaller ratio (small pictures are enlarged), centre, pad with grey 114,
interpolate linearly, RGB in 0..1, channels first. Box coordinates are continuous: 0 is the left edge of the first
pixel.
"""

from typing import NamedTuple

import cv2
import numpy as np

from inferoxy.runtime.sdk import Array

GREY = 114
_TO_UNIT = np.float32(1 / 255)


class Fit(NamedTuple):
    """Where a picture of `width` x `height` pixels lies in the network's input, in pixels of the input."""

    width: int
    height: int
    left: int
    top: int
    inner_width: int
    inner_height: int

    def to_input(self, boxes: Array) -> Array:
        """Boxes [N, 4] xyxy in the picture's pixels as boxes in the input's pixels."""
        return boxes * self._scale() + self._offset()

    def to_picture(self, boxes: Array) -> Array:
        """Boxes [N, 4] xyxy in the input's pixels as boxes in the picture's pixels, cut at its edges."""
        moved = (boxes - self._offset()) / self._scale()
        limits = np.array([self.width, self.height, self.width, self.height], np.float32)
        return np.clip(moved, 0, limits).astype(np.float32)

    def _scale(self) -> Array:
        x, y = self.inner_width / self.width, self.inner_height / self.height
        return np.array([x, y, x, y], np.float32)

    def _offset(self) -> Array:
        return np.array([self.left, self.top, self.left, self.top], np.float32)


def fit(width: int, height: int, input_width: int, input_height: int) -> Fit:
    """Where a picture of this size goes; all sizes in pixels and at least 1."""
    ratio = min(input_width / width, input_height / height)
    inner_width, inner_height = max(1, round(width * ratio)), max(1, round(height * ratio))
    # 0.1 less than the half: an odd pixel goes to the right and to the bottom.
    left = max(0, round((input_width - inner_width) / 2 - 0.1))
    top = max(0, round((input_height - inner_height) / 2 - 0.1))
    return Fit(width, height, left, top, inner_width, inner_height)


def letterbox(image: Array, target: Array) -> Fit:
    """Write a picture into its place in a batch.

    Args:
        image: RGB UINT8 [height, width, 3].
        target: One row of the input, float [3, input height, input width]; every element is written.

    Returns:
        How the picture lies in it.
    """
    height, width = image.shape[:2]
    placed = fit(width, height, target.shape[2], target.shape[1])
    if (placed.inner_width, placed.inner_height) != (width, height):
        image = cv2.resize(image, (placed.inner_width, placed.inner_height), interpolation=cv2.INTER_LINEAR)
    right, bottom = placed.left + placed.inner_width, placed.top + placed.inner_height
    grey = target.dtype.type(GREY * _TO_UNIT)
    target[:, : placed.top] = grey
    target[:, bottom:] = grey
    target[:, placed.top : bottom, : placed.left] = grey
    target[:, placed.top : bottom, right:] = grey
    np.multiply(
        image.transpose(2, 0, 1), _TO_UNIT, out=target[:, placed.top : bottom, placed.left : right], casting="same_kind"
    )
    return placed
