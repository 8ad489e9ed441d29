"""The first Inferoxy's functions: predict_batch(samples, draw) and init(**kwargs)."""

from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.errors import ModelError
from inferoxy.runtime.predict_batch import split_runs
from tests.requests_for_models import Call
from tests.unit.runtime_rig import Rig, clean_import, write_model

__all__ = ["clean_import"]
pytestmark = pytest.mark.usefixtures("clean_import")

CODE = """
import numpy as np
calls, given = [], {}
def init(**kwargs):
    if kwargs.get("bad"): raise KeyError("no such setting")
    given.update(kwargs)
def predict_batch(samples, draw=True):
    calls.append((len(samples), draw))
    results = []
    for sample in samples:
        image = sample["image"]
        if sample.get("poison"): raise ZeroDivisionError("division by zero")
        for index in range(sample.get("more", 0)):
            results.append({"prediction": {"index": index, "finished": False}, "image": image if draw else None})
        image[:1] = 7
        results.append({"prediction": {"mean": image.mean(), "size": np.array(image.shape), "add": given.get("add")},
                        "image": image if draw else None, "sound": [1, 2]})
    return results
"""
IMAGE = np.full((4, 6, 3), 100, np.uint8)
IMAGE.flags.writeable = False
PNG = cv2.imencode(".png", IMAGE)[1].tobytes()


def _raw(**more: Any) -> Call:
    return Call({"INPUT0": IMAGE}, **{"form": "prediction", **more})


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    with Rig(write_model(tmp_path, CODE)) as rig:
        yield rig


def _calls(rig: Rig) -> Any:
    return rig.backend._predict_batch.__globals__["calls"]  # type: ignore[attr-defined]


def test_samples_hold_the_picture_and_the_parameters(rig: Rig) -> None:
    encoded = Call(picture=(PNG, "png", IMAGE.shape), form="prediction", parameters={"camera": 3})
    for (answer,) in rig.run(encoded, _raw(parameters={"camera": 3})):
        assert answer.prediction == {"mean": 76.75, "size": [4, 6, 3], "add": None}
        assert answer.parameters == {"camera": 3, "sound": [1, 2]}
        assert not answer.tensors
    assert _calls(rig) == [(2, False)]


def test_a_picture_is_drawn_only_when_somebody_wants_it(rig: Rig) -> None:
    (plain,), (drawn,) = rig.run(_raw(), _raw(draw="png"))
    assert not plain.encoded
    encoding, data = drawn.encoded["picture"]
    assert encoding == "png"
    assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[0] == 7).all()
    assert drawn.prediction == plain.prediction
    assert _calls(rig) == [(2, True)]


def test_a_jpeg_is_encoded_as_such(rig: Rig) -> None:
    encoding, data = rig.one(_raw(draw="jpeg")).encoded["picture"]
    assert encoding == "jpeg"
    assert simplejpeg.decode_jpeg(data).shape == IMAGE.shape


def test_as_tensors_the_prediction_is_json_and_the_picture_raw(rig: Rig) -> None:
    answer = rig.one(_raw(form="tensors"))
    assert msgspec.json.decode(answer.tensors["prediction"][0])["size"] == [4, 6, 3]
    assert answer.tensors["picture"].shape == IMAGE.shape
    assert list(rig.one(_raw(form="tensors", outputs=["prediction"])).tensors) == ["prediction"]
    assert _calls(rig) == [(1, True), (1, False)]


def test_unfinished_predictions_are_answers_of_the_same_request(rig: Rig) -> None:
    (one,), many, (last,) = rig.run(_raw(), _raw(parameters={"more": 2}, draw="jpeg"), _raw())
    assert [answer.prediction.get("index") for answer in many] == [0, 1, None]
    assert all(answer.encoded for answer in many)
    assert one.prediction == last.prediction == many[-1].prediction


def test_only_the_guilty_sample_fails(rig: Rig) -> None:
    (good,), (bad,), (late,) = rig.run(_raw(), _raw(parameters={"poison": True}), _raw())
    assert (bad.code, bad.error) == ("MODEL_ERROR", "ZeroDivisionError: division by zero")
    assert good.prediction == late.prediction


def test_init_is_called_with_what_a_request_says(rig: Rig) -> None:
    for add, wanted in ((5, {"add": 5}), (6, '{"add": 6}')):
        assert rig.one(_raw(parameters={"init": wanted})).prediction["add"] == add
    for wrong in ("now", "[1]", '{"add": 7', 7, [7]):
        answer = rig.one(_raw(parameters={"init": wrong}))
        assert f"expected an object of keyword arguments, found {wrong!r}" in answer.error


def test_init_that_fails_fails_its_request_alone(rig: Rig) -> None:
    (good,), (bad,), (wrong,) = rig.run(_raw(), _raw(parameters={"init": {"bad": 1}}), _raw(parameters={"init": "now"}))
    assert not good.code
    assert (bad.code, bad.error) == ("MODEL_ERROR", "KeyError: 'no such setting'")
    assert (wrong.code, wrong.error) == (
        "INVALID_REQUEST", "parameters.init: expected an object of keyword arguments, found 'now'",
    )  # fmt: skip


def test_init_without_such_a_function_is_refused(tmp_path: Path) -> None:
    with Rig(write_model(tmp_path, CODE.replace("def init", "def other"))) as rig:
        assert rig.one(_raw(parameters={"init": {}})).error == "parameters.init: this model has no init function"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return None", "predict_batch: expected a list of results, found NoneType"),
        ("return []", "predict_batch: expected results for 1 samples, found results for 0"),
        ("return [{'prediction': {}}] * 2", "predict_batch: expected results for 1 samples, found results for 2"),
        ("return [{'prediction': {'finished': False}}]", "found the end of the list"),
        ("return [{'image': None}]", "expected results of the form {'prediction': dict}, found {'image': None}"),
        ("return [{'prediction': {}, 'image': 5}]", "image: expected uint8 [height, width, 3] or None, found 5"),
        ("return [{'prediction': {'x': object()}}]", "prediction: expected what JSON can hold"),
        ("return [{'prediction': {}, 'image': samples[0]['image'] / 2}]", "found float64 [4, 6, 3]"),
    ],
)
def test_a_result_of_the_wrong_form_is_the_models_error(tmp_path: Path, body: str, words: str) -> None:
    with Rig(write_model(tmp_path, f"def predict_batch(samples, draw):\n    {body}\n")) as rig:
        answer = rig.one(_raw(draw="png"))
    assert answer.code == "MODEL_ERROR"
    assert words in answer.error


def test_a_result_without_a_picture_is_answered_without_one(tmp_path: Path) -> None:
    code = "def predict_batch(samples, draw):\n    return [{'prediction': {'a': 1}, 'image': None} for s in samples]\n"
    with Rig(write_model(tmp_path, code)) as rig:
        answer = rig.one(_raw(draw="png"))
    assert (answer.code, answer.prediction, answer.encoded) == ("", {"a": 1}, {})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call(picture=(PNG[:60], "png", IMAGE.shape)), "picture: truncated or corrupt PNG"),
        (Call(picture=(PNG, "png", (40, 60, 3))), "picture: expected [40, 60, 3] as declared, found [4, 6, 3]"),
        (Call({"a": IMAGE, "b": IMAGE}), "input 'a': expected one of image"),
        (Call({"image": IMAGE.astype(np.float32)}), "expected datatype UINT8, found FP32"),
        (Call({"image": IMAGE[0]}), "expected shape [-1, -1, 3], found [6, 3]"),
    ],
)
def test_a_bad_picture_disturbs_no_other(rig: Rig, call: Call, words: str) -> None:
    good_picture = Call(picture=(PNG, "png", IMAGE.shape), form="prediction")
    (good,), (bad,), (late,) = rig.run(_raw(), call, good_picture)
    assert words in bad.error
    assert bad.code in ("INVALID_REQUEST", "MODEL_ERROR")
    assert good.prediction == late.prediction


@given(st.lists(st.integers(0, 3), min_size=1, max_size=10), st.integers(0, 10))
def test_runs_are_cut_where_results_are_finished(lengths: list[int], missing: int) -> None:
    results: list[dict[str, Any]] = []
    for request, length in enumerate(lengths):
        results += [{"prediction": {"request": request, "finished": False}} for _ in range(length)]
        results.append({"prediction": {"request": request}})
    runs = split_runs(results, len(lengths))
    assert [len(run) for run in runs] == [length + 1 for length in lengths]
    assert all(r["prediction"]["request"] == index for index, run in enumerate(runs) for r in run)
    if missing % (len(lengths) + 1):
        with pytest.raises(ModelError):
            split_runs(results[:-1], len(lengths))
