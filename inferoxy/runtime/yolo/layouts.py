"""How a detector's output is laid out, and candidate boxes out of it.

Pure. Boxes in an output are in the input's pixels: centre x, centre y, width, height, or two corners where the network
has chosen its detections itself. What the metadata says goes before what the shape suggests.
"""

import ast
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from inferoxy.errors import ModelUnavailable
from inferoxy.runtime.sdk import Array

STRIDES = (8, 16, 32)
END2END_FIELDS = 6  # x1, y1, x2, y2, score, class
MAX_END2END = 1_000  # detections; anchor grids of real inputs are larger
DETECT = "detect"


class Layout(Enum):
    """What the last two axes of the output are."""

    ANCHORS_FIRST = "v5"  # [anchors, box + objectness + classes]: YOLOv5, v7
    ANCHORS_LAST = "v8"  # [box + classes, anchors]: YOLOv8, v9, 11, 12
    END2END = "end2end"  # [detections, corners + score + class]: YOLOv10, 26, exports with NMS


class Candidates(NamedTuple):
    """Boxes [N, 4] xyxy float in the input's pixels, scores [N] float, class ids [N] int."""

    boxes: Array
    scores: Array
    class_ids: Array


def read_names(metadata: Mapping[str, str]) -> list[str] | None:
    """Class names in order from the metadata's `names`, a Python dict or list literal; None when there are none.

    Raises:
        ModelUnavailable: It is something else.
    """
    text = metadata.get("names")
    if not text:
        return None
    try:
        names = ast.literal_eval(text)
        if isinstance(names, dict):
            names = [names[index] for index in range(len(names))]
        return [str(name) for name in names]
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError) as exc:
        raise ModelUnavailable(
            f"metadata names: expected a dict such as {{0: 'person', 1: 'car'}}, found {text:.80}"
        ) from exc


def find_layout(
    shape: Sequence[int], class_count: int | None, metadata: Mapping[str, str], input_size: tuple[int, int]
) -> tuple[Layout, int]:
    """The layout of an output and its number of classes (0 where only the names could tell).

    Args:
        shape: Of the output for one picture, [1, P, Q].
        class_count: As the names say, if there are any.
        metadata: Of the model file.
        input_size: Width and height of the input in pixels.

    Raises:
        ModelUnavailable: It is none that is known; says what was found.
    """
    task = metadata.get("task", DETECT)
    if task != DETECT:
        raise ModelUnavailable(f"metadata task: expected {DETECT}, found {task}")
    if len(shape) == 3:
        _, p, q = shape
        if q == END2END_FIELDS and _is_end2end(p, class_count, metadata, input_size):
            return Layout.END2END, class_count or 0
        if metadata.get("end2end", "").lower() != "true":
            last = p - 4 == class_count if class_count else 4 < p < q
            first = q - 5 == class_count if class_count else 5 < q < p
            if last:
                return Layout.ANCHORS_LAST, p - 4
            if first:
                return Layout.ANCHORS_FIRST, q - 5
    named = f"{class_count} classes by its names" if class_count else "no class names"
    raise ModelUnavailable(
        "output: expected [N, anchors, 5 + classes] (v5, v7), [N, 4 + classes, anchors] (v8, v9, 11, 12) or "
        f"[N, detections, 6] (end2end); found {list(shape)} with {named}, "
        f"metadata end2end {metadata.get('end2end', 'absent')}"
    )


def _is_end2end(
    detections: int, class_count: int | None, metadata: Mapping[str, str], input_size: tuple[int, int]
) -> bool:
    """A row of six fields is also what a v5 network of one class gives."""
    said = metadata.get("end2end", "").lower()
    if said in ("true", "false"):
        return said == "true" or (detections <= MAX_END2END and class_count != 1)
    width, height = input_size
    anchors = 3 * sum((width // stride) * (height // stride) for stride in STRIDES)
    return detections <= MAX_END2END and not (class_count in (None, 1) and detections == anchors)


def candidates(output: Array, layout: Layout, confidence: float) -> Candidates:
    """The boxes of one picture whose best class scores at least `confidence`.

    Args:
        output: [P, Q] float of one picture.
        layout: What P and Q are.
        confidence: Least score.
    """
    if layout is Layout.ANCHORS_LAST:
        chosen = np.flatnonzero(output[4:].max(axis=0) >= confidence)
        picked = output[:, chosen].T
        return _best(picked[:, :4], picked[:, 4:])
    if layout is Layout.ANCHORS_FIRST:
        picked = output[output[:, 4] >= confidence]  # a class score is never above 1
        found = _best(picked[:, :4], picked[:, 5:] * picked[:, 4:5])
        strong = found.scores >= confidence
        return Candidates(found.boxes[strong], found.scores[strong], found.class_ids[strong])
    picked = output[output[:, 4] >= confidence]
    return Candidates(picked[:, :4].astype(np.float32), picked[:, 4].astype(np.float32), picked[:, 5].astype(np.int32))


def _best(centres: Array, scores: Array) -> Candidates:
    """Each anchor's best class, and its box by its corners."""
    class_ids = scores.argmax(axis=1).astype(np.int32)
    best = scores[np.arange(len(scores)), class_ids].astype(np.float32)
    centre, half = centres[:, :2].astype(np.float32), centres[:, 2:].astype(np.float32) / 2
    return Candidates(np.concatenate([centre - half, centre + half], axis=1), best, class_ids)
