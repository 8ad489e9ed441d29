"""The yolo backend: pictures in, boxes in the picture's own pixels out, whatever the layout of the file."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from inferoxy.errors import ModelUnavailable
from inferoxy.runtime.yolo.draw import colour_of
from tests import onnx_models
from tests.requests_for_models import Call
from tests.unit.runtime_rig import Rig, load

NAMES = {"names": "{0: 'cat', 1: 'dog'}", "stride": "32", "task": "detect"}
SIDE = 64
# Boxes in the 64 x 64 input, as centre and size: two overlapping dogs, a cat in the same place, something faint.
ANCHORS = [  # cx, cy, w, h, cat, dog
    (32, 32, 16, 8, 0.0, 0.9),
    (33, 32, 16, 8, 0.0, 0.8),
    (32, 32, 16, 8, 0.6, 0.1),
    (10, 30, 4, 4, 0.3, 0.1),
    (50, 30, 4, 4, 0.1, 0.05),
    *[(0, 0, 0, 0, 0, 0)] * 7,
]
V8 = np.array(ANCHORS, np.float32).T
V5 = np.array([(*a[:4], 0.5, *(2 * s for s in a[4:])) for a in ANCHORS], np.float32)
END2END = np.array(
    [(24, 28, 40, 36, 0.9, 1), (24, 28, 40, 36, 0.6, 0), (8, 28, 12, 32, 0.3, 0), (0, 0, 0, 0, 0, 0)], np.float32
)
HEADS = {"v8": V8, "v5": V5, "end2end": END2END}
# A picture twice as wide as high: 128 x 64 pixels in 64 x 32 of the input, 16 rows of padding above and below.
IMAGE = np.full((64, 128, 3), 90, np.uint8)
PNG = cv2.imencode(".png", IMAGE)[1].tobytes()
BOXES = [[48, 24, 80, 40], [48, 24, 80, 40], [16, 24, 24, 32]]


def _picture(**more: Any) -> Call:
    return Call(picture=(PNG, "png", IMAGE.shape), **more)


def _model(folder: Path, layout: str = "v8", **more: Any) -> Path:
    metadata = {**NAMES, **more.pop("metadata", {})}
    return onnx_models.constant_head(folder / "m.onnx", HEADS[layout], metadata=metadata, **more)


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    with Rig(_model(tmp_path)) as rig:
        yield rig


@pytest.mark.parametrize("layout", HEADS)
@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("kind", [onnx_models.FLOAT, onnx_models.FLOAT16])
def test_every_layout_and_batch_gives_the_same_detections(
    tmp_path: Path, layout: str, batch: int | str, kind: int
) -> None:
    with Rig(_model(tmp_path, layout, batch=batch, kind=kind)) as rig:
        assert rig.backend.signature.metadata["layout"] == layout
        for (answer,) in rig.run(*[_picture() for _ in range(6)]):
            np.testing.assert_allclose(answer.tensors["boxes"], BOXES, atol=0.05)
            np.testing.assert_allclose(answer.tensors["scores"], [0.9, 0.6, 0.3], atol=1e-3)
            assert answer.tensors["class_ids"].tolist() == [1, 0, 0]
            assert [answer.tensors[name].dtype for name in ("boxes", "scores", "class_ids")] == ["f4", "f4", "i4"]


def test_the_json_form_names_the_classes(rig: Rig) -> None:
    answer = rig.one(_picture(form="prediction"))
    assert answer.prediction == {
        "boxes": BOXES, "confidence": [0.9, 0.6, 0.3], "class_id": [1, 0, 0], "class_name": ["dog", "cat", "cat"],
    }  # fmt: skip
    assert not answer.tensors


def test_pictures_of_any_size_share_a_batch_and_keep_their_own_pixels(rig: Rig) -> None:
    calls = [Call({"anything": np.zeros((64 * k, 128 * k, 3), np.uint8)}) for k in (1, 2, 5)]
    for factor, (answer,) in zip((1, 2, 5), rig.run(*calls), strict=True):
        np.testing.assert_allclose(answer.tensors["boxes"], np.array(BOXES) * factor, atol=0.05 * factor)


def test_a_bad_picture_fails_alone_wherever_it_stands(rig: Rig) -> None:
    bad = Call(picture=(PNG[:-30], "png", IMAGE.shape))
    empty = Call({"image": np.zeros((0, 4, 3), np.uint8)})
    wrong = _picture(parameters={"confidence": 7})
    answers = rig.run(bad, _picture(), empty, _picture(), wrong, _picture(), bad)
    assert [answer.code for (answer,) in answers] == ["INVALID_REQUEST", ""] * 3 + ["INVALID_REQUEST"]
    for (answer,) in answers[1::2]:
        np.testing.assert_allclose(answer.tensors["boxes"], BOXES, atol=0.05)
    assert "truncated" in answers[0][0].error
    assert "at least one pixel" in answers[2][0].error
    assert "parameter confidence: expected a number from 0 to 1, found 7" in answers[4][0].error


@pytest.mark.parametrize(
    ("parameters", "class_ids"),
    [
        ({"confidence": 0.5}, [1, 0]),
        ({"confidence": 0.05, "classes": ["dog"]}, [1]),
        ({"classes": [0]}, [0, 0]),
        ({"max_detections": 2}, [1, 0]),
        ({"iou": 1}, [1, 1, 0, 0]),
        ({"confidence": 1}, []),
    ],
)
def test_parameters_override_thresholds(rig: Rig, parameters: dict[str, Any], class_ids: list[int]) -> None:
    (plain,), (answer,) = rig.run(_picture(), _picture(parameters=parameters))
    assert answer.tensors["class_ids"].tolist() == class_ids
    assert answer.tensors["boxes"].shape == (len(class_ids), 4)
    assert plain.tensors["class_ids"].tolist() == [1, 0, 0]


def test_options_of_the_spec_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("Katze\nHund\n")
    with Rig(_model(tmp_path), options={"confidence": 0.5, "max_detections": 1, "labels": "labels.txt"}) as rig:
        assert rig.one(_picture(form="prediction")).prediction["class_name"] == ["Hund"]
        assert rig.backend.signature.metadata["names"] == "{0: 'Katze', 1: 'Hund'}"


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    path = onnx_models.constant_head(tmp_path / "m.onnx", V8)
    with Rig(path, runtime="yolo") as rig:
        assert rig.one(_picture(form="prediction")).prediction["class_name"] == ["class_1", "class_0", "class_0"]


def test_free_sides_are_those_of_the_metadata(tmp_path: Path) -> None:
    with Rig(_model(tmp_path, side="side", metadata={"imgsz": "[64, 64]"})) as rig:
        np.testing.assert_allclose(rig.one(_picture()).tensors["boxes"], BOXES, atol=0.05)


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_the_drawn_picture_has_the_pictures_size_and_frames(rig: Rig, encoding: str) -> None:
    answer = rig.one(_picture(draw=encoding, form="prediction"))
    found, data = answer.encoded["picture"]
    assert found == encoding
    drawn = simplejpeg.decode_jpeg(data) if encoding == "jpeg" else cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB
    )  # fmt: skip
    assert drawn.shape == IMAGE.shape
    near = 0 if encoding == "png" else 120  # a line of one pixel suffers from JPEG's halved colours
    assert np.abs(drawn[40, 60].astype(int) - colour_of(1)).max() <= near
    assert np.abs(drawn[40, 60].astype(int) - 90).max() > 20
    assert len(answer.prediction["boxes"]) == 3


def test_a_raw_picture_is_drawn_into_a_copy(rig: Rig) -> None:
    answer = rig.one(Call({"x": IMAGE}, draw="png"))
    assert answer.encoded["picture"]
    assert set(answer.tensors) == {"boxes", "scores", "class_ids"}


@pytest.mark.parametrize(
    ("metadata", "options", "words"),
    [
        ({"task": "pose"}, {}, "task: expected detect, found pose"),
        ({"names": "{0: 'a', 1: 'b', 2: 'c'}"}, {}, r"found \[1, 6, 12\] with 3 classes by its names"),
        ({}, {"confidence": 2}, "options: parameter confidence: expected a number from 0 to 1, found 2"),
        ({}, {"confidence": "x"}, "options.confidence: expected int or float, found 'x'"),
        ({}, {"labels": "absent.txt"}, "absent.txt: cannot be read"),
        ({}, {"nms": True}, "options.nms: expected one of confidence, iou"),
        ({}, {"classes": ["cow"]}, "options: parameter classes: expected ids 0 to 1 .*found 'cow'"),
    ],
)
def test_a_model_that_cannot_be_served_right_is_refused_at_loading(
    tmp_path: Path, metadata: dict[str, str], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelUnavailable, match=words):
        load(_model(tmp_path, metadata=metadata), options=options)


def test_a_model_that_is_no_detector_is_refused_at_loading(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"inputs: expected one FP32 or FP16 \[N, 3, .*found x FP32 \[-1, 4\]"):
        load(onnx_models.doubler(tmp_path / "m.onnx"), runtime="yolo")
