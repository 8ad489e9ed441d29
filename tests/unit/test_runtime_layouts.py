"""Output layouts are told apart by metadata, then shape."""

import numpy as np
import pytest

from inferoxy.errors import ModelUnavailable
from inferoxy.runtime.yolo.layouts import Layout, candidates, find_layout, read_names

SIDE = (640, 640)


@pytest.mark.parametrize(
    ("shape", "classes", "metadata", "layout", "count"),
    [
        ((1, 84, 8400), 80, {}, Layout.ANCHORS_LAST, 80),
        ((1, 84, 8400), None, {}, Layout.ANCHORS_LAST, 80),
        ((1, 25200, 85), 80, {}, Layout.ANCHORS_FIRST, 80),
        ((1, 25200, 85), None, {}, Layout.ANCHORS_FIRST, 80),
        ((1, 300, 6), 80, {"end2end": "True"}, Layout.END2END, 80),
        ((1, 300, 6), 80, {}, Layout.END2END, 80),
        ((1, 300, 6), None, {}, Layout.END2END, 0),
        ((1, 300, 6), 1, {"end2end": "True"}, Layout.END2END, 1),
        ((1, 25200, 6), 1, {}, Layout.ANCHORS_FIRST, 1),
        ((1, 25200, 6), 1, {"end2end": "False"}, Layout.ANCHORS_FIRST, 1),
        ((1, 5, 8400), 1, {}, Layout.ANCHORS_LAST, 1),
        ((1, 84, 84), 80, {}, Layout.ANCHORS_LAST, 80),
        ((1, 300, 6), 2, {"end2end": "false"}, Layout.END2END, 2),
    ],
)
def test_a_known_layout_is_found(
    shape: tuple[int, ...], classes: int | None, metadata: dict[str, str], layout: Layout, count: int
) -> None:
    assert find_layout(shape, classes, metadata, SIDE) == (layout, count)


def test_a_v5_head_of_one_class_on_a_small_input_is_no_end2end_head() -> None:
    anchors = 3 * (8 * 8 + 4 * 4 + 2 * 2)
    assert find_layout((1, anchors, 6), 1, {}, (64, 64)) == (Layout.ANCHORS_FIRST, 1)
    assert find_layout((1, anchors, 6), None, {}, (64, 64)) == (Layout.ANCHORS_FIRST, 1)


@pytest.mark.parametrize(
    ("shape", "classes", "metadata", "words"),
    [
        ((1, 116, 8400), 80, {}, r"found \[1, 116, 8400\] with 80 classes by its names"),
        ((1, 1000), 1000, {}, r"found \[1, 1000\]"),
        ((1, 3, 3), None, {}, "no class names"),
        ((1, 84, 8400), 80, {"task": "segment"}, "task: expected detect, found segment"),
        ((1, 84, 8400), 80, {"end2end": "True"}, "metadata end2end True"),
    ],
)
def test_an_unknown_layout_is_refused_naming_what_was_found(
    shape: tuple[int, ...], classes: int | None, metadata: dict[str, str], words: str
) -> None:
    with pytest.raises(ModelUnavailable, match=words):
        find_layout(shape, classes, metadata, SIDE)


# One anchor of class 1 (of 2) with centre 10, 20 and size 4, 8; one too weak.
STRONG, WEAK = (10, 20, 4, 8, 0.1, 0.9), (50, 50, 2, 2, 0.1, 0.2)


def test_anchors_last_gives_the_best_class_and_corners() -> None:
    output = np.array([STRONG, WEAK], np.float32).T
    found = candidates(output, Layout.ANCHORS_LAST, 0.5)
    np.testing.assert_allclose(found.boxes, [[8, 16, 12, 24]])
    np.testing.assert_allclose(found.scores, [0.9])
    assert found.class_ids.tolist() == [1]


def test_anchors_first_multiplies_objectness_and_class_score() -> None:
    rows = [(10, 20, 4, 8, 0.8, 0.1, 0.9), (10, 20, 4, 8, 0.6, 0.1, 0.8), (10, 20, 4, 8, 0.2, 1, 1)]
    found = candidates(np.array(rows, np.float32), Layout.ANCHORS_FIRST, 0.5)
    np.testing.assert_allclose(found.boxes, [[8, 16, 12, 24]])
    np.testing.assert_allclose(found.scores, [0.72], rtol=1e-6)
    assert found.class_ids.tolist() == [1]


def test_end2end_takes_corners_as_they_are() -> None:
    rows = [(1, 2, 3, 4, 0.7, 5), (1, 2, 3, 4, 0.1, 5)]
    found = candidates(np.array(rows, np.float32), Layout.END2END, 0.25)
    np.testing.assert_allclose(found.boxes, [[1, 2, 3, 4]])
    assert found.class_ids.tolist() == [5]


@pytest.mark.parametrize("layout", Layout)
def test_nothing_above_the_threshold_gives_nothing(layout: Layout) -> None:
    found = candidates(np.zeros((7, 7) if layout is not Layout.END2END else (7, 6), np.float32), layout, 0.5)
    assert (found.boxes.shape, found.scores.shape, found.class_ids.shape) == ((0, 4), (0,), (0,))


def test_names_are_read_from_a_dict_or_list_literal() -> None:
    assert read_names({"names": "{1: 'b', 0: 'a'}"}) == ["a", "b"]
    assert read_names({"names": "['a', 'b']"}) == ["a", "b"]
    assert read_names({}) is None


@pytest.mark.parametrize("text", ["__import__('os')", "{0: 'a', 2: 'c'}", "{", "7"])
def test_names_that_are_no_literal_are_refused(text: str) -> None:
    with pytest.raises(ModelUnavailable, match="metadata names: expected"):
        read_names({"names": text})
