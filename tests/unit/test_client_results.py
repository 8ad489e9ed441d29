"""What the client gives back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferoxy import messages as m
from inferoxy.client.results import (
    Detection,
    Detections,
    InferResult,
    Prediction,
    Served,
    Size,
    answer_from,
    last_prediction,
    last_result,
)
from inferoxy.errors import InternalError

FOUND = {
    "boxes": [[1.5, 2.0, 30.0, 40.25], [5.0, 6.0, 7.0, 8.0], [0.0, 0.0, 1.0, 1.0]],
    "confidence": [0.9, 0.5, 0.25],
    "class_id": [2, 0, 2],
    "class_name": ["star", "circle", "star"],
}


def detections(**more: Any) -> Detections:
    found = answer_from({**FOUND, **more}, image_size=Size(640, 480), model="detector", version="1")
    assert isinstance(found, Detections)
    return found


def test_a_prediction_with_boxes_becomes_detections_of_fixed_dtypes() -> None:
    found = detections()
    assert (found.boxes.dtype, found.boxes.shape) == (np.float32, (3, 4))
    assert (found.confidence.dtype, found.class_id.dtype) == (np.float32, np.int32)
    assert found.class_name == ["star", "circle", "star"]
    assert len(found) == 3


def test_no_objects_are_detections_of_length_zero() -> None:
    found = answer_from({"boxes": [], "confidence": [], "class_id": [], "class_name": []})
    assert isinstance(found, Detections)
    assert (len(found), found.boxes.shape, list(found)) == (0, (0, 4), [])


def test_iteration_gives_single_detections() -> None:
    assert next(iter(detections())) == Detection((1.5, 2.0, 30.0, 40.25), pytest.approx(0.9), 2, "star")
    assert detections()[-1].class_name == "star"
    with pytest.raises(IndexError):
        detections()[3]


def test_selections_keep_columns_together_and_pick_extra_columns_alike() -> None:
    found = detections(track_id=[7, 8, 9], frame=4)
    assert found[1:].extra == {"track_id": [8, 9], "frame": 4}
    assert found.above(0.5).class_name == ["star", "circle"]
    assert found.select([2, 0]).confidence.tolist() == pytest.approx([0.25, 0.9])


def test_repr_says_what_where_and_by_which_model() -> None:
    assert repr(detections()) == (
        "Detections(3: star 0.90, circle 0.50, star 0.25 in 640x480, model='detector', version='1')"
    )
    assert (
        repr(answer_from({"mean": [1]}, model="m", version="2")) == "Prediction({'mean': [1]}, model='m', version='2')"
    )


def test_to_dict_is_json_and_reads_back_as_equal_detections() -> None:
    found = detections(track_id=[7, 8, 9])
    content = json.loads(json.dumps(found.to_dict()))
    assert content["image"] == {"width": 640, "height": 480}
    assert set(content["served"]) == {"queue_ms", "compute_ms", "decode_ms", "batch_size", "closed", "instance"}
    again = answer_from(content["prediction"])
    assert isinstance(again, Detections)
    assert np.array_equal(again.boxes, found.boxes)
    assert again.extra == {"track_id": [7, 8, 9]}


def test_without_class_names_the_ids_stand_for_them() -> None:
    found = answer_from({k: v for k, v in FOUND.items() if k != "class_name"})
    assert isinstance(found, Detections)
    assert found.class_name == ["2", "0", "2"]


@pytest.mark.parametrize("key", ["confidence", "class_id", "class_name"])
def test_columns_of_different_lengths_are_an_error(key: str) -> None:
    with pytest.raises(InternalError, match="3 boxes does not hold together: expected 3 values, found 2"):
        answer_from({**FOUND, key: FOUND[key][:2]})


def test_other_predictions_keep_their_value() -> None:
    found = answer_from({"text": "hello"}, picture=b"jpeg")
    assert isinstance(found, Prediction)
    assert (found.value, found.picture) == ({"text": "hello"}, b"jpeg")


def test_a_prediction_that_is_no_dict_is_kept_under_value() -> None:
    found = answer_from([1, 2])
    assert found.value == {"value": [1, 2]}


def test_save_writes_the_drawn_picture_and_explains_its_absence(tmp_path: Path) -> None:
    assert answer_from({}, picture=b"bytes").save(tmp_path / "x.jpg").read_bytes() == b"bytes"
    with pytest.raises(ValueError, match='predict\\(…, draw="jpeg"\\)'):
        answer_from({}).save(tmp_path / "y.jpg")


def test_served_is_in_milliseconds() -> None:
    served = Served.of(m.Served(1500, 20_000, 4, "full", "i-1", "1", 250))
    assert served == Served(1.5, 20.0, 0.25, 4, "full", "i-1")
    assert Served.of(None) == Served()


def test_infer_result_is_a_mapping_whose_missing_names_are_explained() -> None:
    result = InferResult({"OUT": np.zeros((2, 3), np.float32)}, model="m", version="1")
    assert (list(result), result["OUT"].shape) == (["OUT"], (2, 3))
    assert repr(result) == "InferResult(OUT: float32 [2, 3], model='m', version='1')"
    with pytest.raises(KeyError, match="OTHER: expected one of OUT"):
        result["OTHER"]


def test_of_several_answers_the_last_one_holds_all_as_parts() -> None:
    first, second = answer_from({"n": 1}), answer_from({"n": 2})
    last = last_prediction([first, second])
    assert last.value == {"n": 2}
    assert [part.value for part in last.parts] == [{"n": 1}, {"n": 2}]
    assert last_prediction([first]) is first
    assert last_prediction([]).value == {}
    tensors = [InferResult({"A": np.array([n])}) for n in range(2)]
    assert last_result(tensors).parts == tuple(tensors)
    assert len(last_result([])) == 0
