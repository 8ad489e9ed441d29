"""A request's thresholds are validated, each with a clear message."""

from typing import Any

import pytest

from inferoxy.errors import InvalidRequest
from inferoxy.runtime.yolo.wishes import Wishes, read_wishes

NAMES = ["cat", "dog", "bird"]


def test_what_is_not_said_keeps_its_default() -> None:
    assert read_wishes({}, Wishes(), NAMES) == Wishes()
    assert read_wishes({"confidence": 0.5, "other": 1}, Wishes(iou=0.3), NAMES) == Wishes(confidence=0.5, iou=0.3)


def test_classes_may_be_ids_or_names() -> None:
    assert read_wishes({"classes": [2, "dog"]}, Wishes(), NAMES).classes == (2, 1)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"confidence": 1.5}, "parameter confidence: expected a number from 0 to 1, found 1.5"),
        ({"confidence": "high"}, "parameter confidence: .*found 'high'"),
        ({"confidence": True}, "parameter confidence: .*found True"),
        ({"confidence": float("nan")}, "parameter confidence: .*found nan"),
        ({"iou": -0.1}, "parameter iou: expected a number from 0 to 1"),
        ({"max_detections": 0}, "parameter max_detections: expected a whole number from 1 to"),
        ({"max_detections": 2.5}, "parameter max_detections: .*found 2.5"),
        ({"classes": "dog"}, "parameter classes: expected a list"),
        ({"classes": [3]}, "parameter classes: expected ids 0 to 2 or names such as 'cat', found 3"),
        ({"classes": ["fish"]}, "found 'fish'"),
    ],
)
def test_a_wrong_value_is_refused_naming_it(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read_wishes(parameters, Wishes(), NAMES)
