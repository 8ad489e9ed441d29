"""Detections are drawn where they are, at any picture size."""

from itertools import pairwise

import numpy as np
import pytest

from inferoxy.runtime.yolo.draw import colour_of, draw

NAMES = ["cat", "a class with a rather long name"]


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (480, 640), (2160, 3840), (3000, 40)])
def test_a_picture_of_any_size_can_be_drawn_into(size: tuple[int, int]) -> None:
    height, width = size
    image = np.zeros((*size, 3), np.uint8)
    boxes = np.array([[0, 0, width, height], [width / 4, height / 2, width / 2, height]], np.float32)
    drawn = draw(image, boxes, np.array([0.9, 0.5]), np.array([0, 1]), NAMES)
    assert drawn.shape == image.shape
    assert drawn.any()


def test_the_frame_of_a_box_has_the_colour_of_its_class() -> None:
    drawn = draw(
        np.zeros((200, 200, 3), np.uint8), np.array([[20, 60, 180, 180]]), np.array([0.5]), np.array([1]), NAMES
    )
    assert tuple(drawn[180, 100]) == colour_of(1)
    assert not drawn[120, 100].any()


def test_a_read_only_picture_is_left_alone() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    image.flags.writeable = False
    assert draw(image, np.array([[5, 5, 40, 40]]), np.array([1.0]), np.array([0]), NAMES).any()
    assert not image.any()


def test_neighbouring_classes_have_colours_that_differ() -> None:
    colours = [np.array(colour_of(index)) for index in range(12)]
    assert all(np.abs(a - b).sum() > 100 for a, b in pairwise(colours))
