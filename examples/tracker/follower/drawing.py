"""Draw tracks into a frame: a box and a number in the track's own colour, and the way it came.

Pure but for the frame, which is drawn into.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

FONT = cv2.FONT_HERSHEY_SIMPLEX
GOLDEN = 0.618034  # steps of this fraction spread hues evenly, however many tracks there are
SUBPIXEL_BITS = 4  # fractional bits of the coordinates that cv2.polylines takes

Point = tuple[float, float]


def draw_tracks(
    frame: NDArray[np.uint8],
    ids: NDArray[np.int64],
    boxes: NDArray[np.float32],
    labels: Sequence[str],
    trails: Sequence[Sequence[Point]],
) -> None:
    """Draw into a frame, the trails below the boxes.

    Args:
        frame: RGB UINT8 [height, width, 3], writable.
        ids: [M] of the tracks.
        boxes: [M, 4] x1, y1, x2, y2 in pixels.
        labels: What is written behind each number.
        trails: Where the middle of each track's box was, the oldest place first.
    """
    side = min(frame.shape[:2])
    line = max(1, round(side / 240))
    for track, trail in zip(ids.tolist(), trails, strict=True):
        draw_trail(frame, trail, colour_of(track), line)
    for track, box, label in zip(ids.tolist(), boxes, labels, strict=True):
        x1, y1, x2, y2 = (round(float(edge)) for edge in box)
        colour = colour_of(track)
        cv2.rectangle(frame, (x1, y1), (x2, y2), (0, 0, 0), line + 2, cv2.LINE_AA)
        cv2.rectangle(frame, (x1, y1), (x2, y2), colour, line, cv2.LINE_AA)
        draw_label(frame, f"{track} {label}", (x1, y1), colour, max(0.4, side / 800))


def draw_trail(frame: NDArray[np.uint8], trail: Sequence[Point], colour: tuple[int, int, int], line: int) -> None:
    """A line through some places that gets thinner towards the first."""
    places = np.round(np.array(trail, np.float64).reshape(-1, 2) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    for index in range(1, len(places)):
        width = max(1, round(2 * line * index / len(places)))
        cv2.polylines(frame, [places[index - 1 : index + 1]], False, colour, width, cv2.LINE_AA, SUBPIXEL_BITS)


def draw_label(
    frame: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: tuple[int, int, int], scale: float
) -> None:
    """Text on a filled background above a box's corner, or inside the box where there is no room above."""
    (width, height), below = cv2.getTextSize(text, FONT, scale, 1)
    x = max(0, min(corner[0], frame.shape[1] - width - 4))
    top = corner[1] - height - below - 2
    if top < 0:
        top = max(0, corner[1])
    cv2.rectangle(frame, (x, top), (x + width + 4, top + height + below + 1), colour, cv2.FILLED)
    is_dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 128
    ink = (255, 255, 255) if is_dark else (0, 0, 0)
    cv2.putText(frame, text, (x + 2, top + height + 1), FONT, scale, ink, 1, cv2.LINE_AA)


def colour_of(track: int) -> tuple[int, int, int]:
    """The RGB colour of a track: the same in every frame."""
    hue = int(track * GOLDEN % 1 * 180)
    red, green, blue = cv2.cvtColor(np.array([[[hue, 210, 255]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue
