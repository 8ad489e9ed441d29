"""Findings drawn on the client's side."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inferoxy.client.results import Detections, Prediction, Size, answer_from
from inferoxy.errors import Code, InferoxyError, InvalidRequest
from inferoxy.runtime.yolo.draw import colour_of
from inferoxy.runtime.yolo.draw import draw as draw_as_an_instance_does

BOX = [20.0, 30.0, 60.0, 70.0]


def found(*boxes: list[float], size: Size | None = None, class_id: int = 1, **more: Any) -> Detections:
    count = len(boxes)
    about = {"confidence": [0.9] * count, "class_id": [class_id] * count, "class_name": ["cat"] * count}
    answer = answer_from({"boxes": list(boxes), **about}, image_size=size, **more)
    assert isinstance(answer, Detections)
    return answer


def noise(height: int = 100, width: int = 80) -> Any:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels: Any, **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", **options)
    return target.getvalue()


def test_the_client_draws_what_an_instance_draws() -> None:
    pixels, weak_first = noise(), np.array([1, 0])
    both = answer_from(
        {"boxes": [BOX, [40, 10, 75, 90]], "confidence": [0.9, 0.5], "class_id": [1, 0], "class_name": ["cat", "dog"]}
    )
    assert isinstance(both, Detections)
    expected = draw_as_an_instance_does(pixels.copy(), both.boxes, both.confidence, both.class_id, ["dog", "cat"])
    assert np.array_equal(both.draw(pixels), expected)
    assert np.array_equal(both.select(weak_first).draw(pixels), expected)


def test_the_picture_that_was_handed_over_is_left_alone() -> None:
    pixels = noise()
    drawn = found(BOX).draw(pixels)
    assert np.array_equal(pixels, noise())
    assert not np.array_equal(drawn, pixels)
    assert drawn.flags.writeable


def test_any_form_of_a_picture_can_be_drawn_into(tmp_path: Path) -> None:
    pixels = noise()
    path = tmp_path / "a.png"
    path.write_bytes(png(pixels))
    expected = found(BOX).draw(pixels)
    for picture in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), Image.fromarray(pixels)):
        assert np.array_equal(found(BOX).draw(picture), expected)


def test_a_turned_picture_is_drawn_as_it_is_seen() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn = found(BOX, size=Size(100, 80)).draw(png(noise(100, 80), exif=exif))
    assert drawn.shape == (80, 100, 3)
    assert tuple(drawn[70, 40]) == colour_of(1)


def test_a_picture_of_another_size_is_refused_because_boxes_would_be_elsewhere() -> None:
    with pytest.raises(InvalidRequest, match="expected 640x480 as the answer says, found 80x100"):
        found(BOX, size=Size(640, 480)).draw(noise())


def test_class_ids_may_be_any_number() -> None:
    for class_id in (-1, 0, 2_000_000_000):
        assert tuple(found(BOX, class_id=class_id).draw(noise())[70, 40]) == colour_of(class_id)


def test_boxes_that_are_nowhere_are_left_out_and_those_far_outside_do_no_harm() -> None:
    nowhere = found([float("nan"), 0, 1, 1], [float("inf"), 0, 1, 1], [-1e30, -1e30, -9e29, -9e29])
    assert np.array_equal(nowhere.draw(noise()), noise())
    around = found([-1e30, 50, 1e30, 60], BOX)
    assert tuple(around.draw(noise())[50, 5]) == colour_of(1)


def test_without_a_picture_the_one_that_came_is_decoded() -> None:
    assert np.array_equal(found(BOX, picture=png(noise())).draw(), noise())
    other = answer_from({"text": "x"}, picture=png(noise()))
    assert isinstance(other, Prediction)
    assert np.array_equal(other.draw(), noise())


def test_without_any_picture_it_is_told_how_to_get_one() -> None:
    for answer in (found(BOX), answer_from({"text": "x"})):
        with pytest.raises(InvalidRequest, match=r'or that of predict\(…, draw="jpeg"\), found neither'):
            answer.draw()


def test_opencv_s_settings_stay_the_caller_s() -> None:
    code = """
import cv2, numpy as np
cv2.setNumThreads(3)
cv2.utils.logging.setLogLevel(4)
from inferoxy.client.results import answer_from
answer_from({"boxes": [], "confidence": [], "class_id": []}).draw(np.zeros((4, 4, 3), np.uint8))
print(cv2.getNumThreads(), cv2.utils.logging.getLogLevel())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30.0, check=True)
    assert done.stdout.split() == ["3", "4"]


def test_without_opencv_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InferoxyError, match=r"pip install 'inferoxy\[vision\]'") as caught:
        found(BOX).draw(noise())
    assert caught.value.code is Code.UNSUPPORTED
    monkeypatch.undo()
    assert found(BOX).draw(noise()).any()
