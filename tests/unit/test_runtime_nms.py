"""Suppression keeps what a naive reference keeps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inferoxy.runtime.yolo.nms import suppress


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def _reference(boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, iou: float, limit: int) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        rivals = [k for k in kept if class_ids[k] == class_ids[index]]
        if all(_overlap(boxes[k], boxes[index]) <= iou for k in rivals):
            kept.append(index)
    return kept[:limit]


@given(st.data(), st.integers(0, 40), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.integers(1, 20))
def test_the_same_boxes_are_kept_as_by_comparing_each_with_each(
    data: st.DataObject, count: int, iou: float, limit: int
) -> None:
    corners = data.draw(arrays(np.float64, (count, 2), elements=st.integers(0, 40).map(float)))
    sizes = data.draw(arrays(np.float64, (count, 2), elements=st.integers(0, 30).map(float)))
    scores = data.draw(arrays(np.float32, (count,), elements=st.sampled_from([0.1, 0.25, 0.5, 0.5, 0.75, 1.0])))
    class_ids = data.draw(arrays(np.int32, (count,), elements=st.integers(0, 2)))
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    found = suppress(boxes.astype(np.float32), scores, class_ids, iou, limit)
    expected = _reference(boxes, scores, class_ids, iou, limit)
    exact = {round(_overlap(a, b), 6) for a in boxes for b in boxes}
    if round(iou, 6) not in exact - {0.0, 1.0}:  # at the threshold itself rounding decides
        assert found.tolist() == expected


def test_boxes_of_different_classes_do_not_suppress_each_other() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    assert suppress(boxes, np.array([0.5, 0.9]), np.array([0, 1]), 0.5, 10).tolist() == [1, 0]
    assert suppress(boxes, np.array([0.5, 0.9]), np.array([1, 1]), 0.5, 10).tolist() == [1]


def test_no_boxes_give_no_boxes() -> None:
    assert suppress(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 0.5, 10).tolist() == []
