"""Pictures fit the input, and boxes find their way back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.runtime.yolo.letterbox import GREY, Fit, fit, letterbox

sides = st.integers(1, 3000)
input_sides = st.sampled_from([32, 64, 320, 640])


@given(sides, sides, input_sides, input_sides)
def test_a_picture_lies_inside_the_input_and_touches_two_edges(width: int, height: int, to_w: int, to_h: int) -> None:
    placed = fit(width, height, to_w, to_h)
    assert 0 <= placed.left <= to_w - placed.inner_width
    assert 0 <= placed.top <= to_h - placed.inner_height
    assert placed.inner_width == to_w or placed.inner_height == to_h
    assert abs(to_w - placed.inner_width - 2 * placed.left) <= 1
    assert abs(to_h - placed.inner_height - 2 * placed.top) <= 1


@given(sides, sides, input_sides, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_come_back_where_they_were(width: int, height: int, side: int, parts: list[float]) -> None:
    placed = fit(width, height, side, side)
    x1, x2 = sorted(parts[:2])
    y1, y2 = sorted(parts[2:])
    boxes = np.array([[x1 * width, y1 * height, x2 * width, y2 * height]], np.float32)
    back = placed.to_picture(placed.to_input(boxes))
    np.testing.assert_allclose(back, boxes, atol=max(width, height) * 1e-5 * 4 + 1e-4)


def test_boxes_are_cut_at_the_edges_of_the_picture() -> None:
    placed = fit(200, 100, 64, 64)
    boxes = placed.to_picture(np.array([[-50, -50, 900, 900]], np.float32))
    np.testing.assert_array_equal(boxes, [[0, 0, 200, 100]])
    assert boxes.dtype == np.float32


def test_an_odd_pixel_of_padding_goes_to_the_bottom_and_right() -> None:
    assert fit(640, 427, 640, 640) == Fit(640, 427, 0, 106, 640, 427)
    assert fit(427, 640, 640, 640) == Fit(427, 640, 106, 0, 427, 640)


@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (64, 64), (1, 500), (7, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_every_element_of_the_target_is_written(shape: tuple[int, int], dtype: type) -> None:
    target = np.full((3, 64, 64), np.nan, dtype)
    image = np.zeros((*shape, 3), np.uint8)
    image[..., 0] = 255
    placed = letterbox(image, target)
    inside = np.zeros((64, 64), bool)
    inside[placed.top : placed.top + placed.inner_height, placed.left : placed.left + placed.inner_width] = True
    np.testing.assert_allclose(target[0][inside], 1, rtol=1e-3)
    np.testing.assert_array_equal(target[1][inside], 0)
    np.testing.assert_allclose(target[:, ~inside], GREY / 255, rtol=1e-3)


def test_a_picture_of_the_inputs_size_is_only_scaled_to_one() -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    target = np.empty((3, 32, 32), np.float32)
    letterbox(image, target)
    np.testing.assert_allclose(target, image.transpose(2, 0, 1) / 255, rtol=1e-6)
