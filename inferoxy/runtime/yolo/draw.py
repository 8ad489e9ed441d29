"""Draw boxes and labels into a picture, readable at any picture size."""

from collections.abc import Sequence

import cv2
import numpy as np

from inferoxy.runtime.sdk import Array

FONT = cv2.FONT_HERSHEY_SIMPLEX
MIN_FONT_SCALE = 0.35  # below it letters are not readable
LINE_PER_SIDE = 1 / 320  # line width per pixel of the shorter side
FONT_PER_SIDE = 1 / 900
_GOLDEN = 0.618034  # steps of this fraction spread hues evenly, however many classes there are

Colour = tuple[int, int, int]


def draw(image: Array, boxes: Array, scores: Array, class_ids: Array, names: Sequence[str]) -> Array:
    """Draw detections, the strongest on top.

    Args:
        image: RGB UINT8 [height, width, 3]; drawn into if it is writable.
        boxes: [N, 4] xyxy in its pixels, in descending score.
        scores: [N].
        class_ids: [N].
        names: Class names by id.

    Returns:
        The picture.
    """
    canvas = image if image.flags.writeable and image.flags.c_contiguous else image.copy()
    side = min(canvas.shape[:2])
    line = max(1, round(side * LINE_PER_SIDE))
    scale = max(MIN_FONT_SCALE, side * FONT_PER_SIDE)
    for box, score, class_id in reversed(list(zip(boxes, scores, class_ids, strict=True))):
        colour = colour_of(int(class_id))
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, line)
        _label(canvas, f"{names[class_id]} {score:.2f}", (x1, y1), colour, scale, line)
    return canvas


def colour_of(class_id: int) -> Colour:
    """The RGB colour of a class: the same in every picture."""
    hue = int((class_id * _GOLDEN) % 1 * 180)
    red, green, blue = cv2.cvtColor(np.array([[[hue, 200, 255]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def _label(canvas: Array, text: str, corner: tuple[int, int], colour: Colour, scale: float, line: int) -> None:
    """Text on a filled background above the box's corner, or inside the box where there is no room above."""
    stroke = max(1, round(scale * 1.6))
    (width, height), below = cv2.getTextSize(text, FONT, scale, stroke)
    x = max(0, min(corner[0], canvas.shape[1] - width))
    top = corner[1] - height - below - line
    if top < 0:
        top = corner[1]
    cv2.rectangle(canvas, (x, top), (x + width, top + height + below), colour, cv2.FILLED)
    dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 128
    ink = (0, 0, 0) if dark else (255, 255, 255)
    cv2.putText(canvas, text, (x, top + height + below // 2), FONT, scale, ink, stroke, cv2.LINE_AA)
