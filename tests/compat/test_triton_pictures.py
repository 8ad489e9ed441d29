"""Picture models as V2 models, asked by tritonclient in its four forms."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.compat.callers import Caller, Raised
from tests.compat.models import SAMPLE
from tests.compat.questions import status

WISH = {"confidence": 0.5}


def test_the_detector_takes_an_encoded_picture(triton: Caller) -> None:
    found = triton.call("infer_file", model="detector", path=str(SAMPLE), outputs=["boxes", "scores", "class_ids"])
    count = found["outputs"]["boxes"]["shape"][0]
    assert count > 2
    assert found["outputs"]["scores"]["shape"] == [count]
    assert all(0.25 <= score <= 1 for score in found["outputs"]["scores"]["data"])


def test_the_detector_takes_raw_pixels_and_its_parameters(triton: Caller, tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(SAMPLE).convert("RGB"))
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "one.npy", pixels[None])
    [encoded, raw, one] = [
        triton.call("infer_file", model="detector", path=str(path), outputs=["boxes", "class_ids"], parameters=WISH)
        for path in (SAMPLE, tmp_path / "pixels.npy", tmp_path / "one.npy")
    ]
    assert raw["outputs"] == one["outputs"]
    assert raw["outputs"]["class_ids"]["data"] == encoded["outputs"]["class_ids"]["data"]
    # Two decoders of JPEG may differ by a shade.
    assert np.allclose(raw["outputs"]["boxes"]["data"], encoded["outputs"]["boxes"]["data"], atol=1.0)


def test_a_picture_model_s_prediction_and_drawn_picture_are_outputs(triton: Caller) -> None:
    found = triton.call("infer_file", model="detector", path=str(SAMPLE), outputs=["prediction", "picture"])
    prediction = json.loads(found["outputs"]["prediction"]["data"][0])
    assert {"boxes", "confidence", "class_name"} <= prediction.keys()
    assert found["outputs"]["picture"]["data"][0].startswith("\xff\xd8")


def test_a_prediction_of_the_first_inferoxy_s_functions_is_an_output(triton: Caller) -> None:
    found = triton.call("infer_file", model="mean", path=str(SAMPLE), outputs=["prediction"], parameters={"note": "x"})
    prediction = json.loads(found["outputs"]["prediction"]["data"][0])
    assert len(prediction["mean"]) == 3
    assert prediction["known"] == {"note": "x"}


def test_what_is_no_picture_is_refused(triton: Caller) -> None:
    inputs = [{"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": ["no picture at all"]}]
    with pytest.raises(Raised) as caught:
        triton.call("infer", model="detector", inputs=inputs)
    assert caught.value.status == status(triton, "INVALID_ARGUMENT", "400")
