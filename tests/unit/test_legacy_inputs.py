"""What the first Inferoxy's clients send, as requests of ours, and what they are answered."""

import json
from typing import Any

import numpy as np
import pytest
import simplejpeg

from bridges.legacy import inputs, outputs
from bridges.legacy.inputs import Sent
from bridges.pending import Answer
from bridges.requests import Options
from inferoxy import messages as m
from inferoxy import tensors, wire
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, InternalError, InvalidRequest, ModelError, PayloadTooLarge
from inferoxy.tensors import Array

LIMITS = LimitSettings(picture_side=100)
PICTURE = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
IMAGE = m.TensorSpec("image", "UINT8", (-1, -1, 3))


def view(*specs: m.TensorSpec, platform: str = "", runtime: str = "") -> m.ModelView:
    return m.ModelView(m.ModelSpec(name="m", runtime=runtime), inputs=list(specs), platform=platform)


def sent_of(data: Any, shape: Any = None, datatype: str | None = None, **parameters: Any) -> Sent:
    return Sent(np.array(data), shape, datatype, parameters)


def payload_of(sent: Sent, about: m.ModelView | None) -> tuple[m.Payload, bytes]:
    prepared, frames = inputs.prepare(sent, about, LIMITS)
    return wire.decode_payload(prepared.request("m", frames, Options(), "rid")[0].payload), bytes(frames[0])


@pytest.mark.parametrize("datatype", [None, "uint8", "int8", "bool", "fp16", "fp32"])
@pytest.mark.parametrize("kind", ["u1", "i8", "f4", "f8"])
def test_a_picture_is_pixels_whatever_it_is_said_to_be(datatype: str | None, kind: str) -> None:
    flat = sent_of(PICTURE.reshape(1, -1).astype(kind), [2, 4, 3], datatype)
    for about in (view(IMAGE), view()):
        payload, data = payload_of(flat, about)
        (tensor,) = payload.tensors
        assert (tensor.datatype, tensor.shape, data) == ("UINT8", (2, 4, 3), PICTURE.tobytes())


def test_yes_and_no_are_pixels_too_and_fractions_are_cut() -> None:
    assert payload_of(sent_of([[[True, False, True]]]), view(IMAGE))[1] == b"\1\0\1"
    assert payload_of(sent_of([[[0.9, 255.5, 7.0]]]), view(IMAGE))[1] == b"\0\xff\7"


@pytest.mark.parametrize(
    ("sent", "kind", "message"),
    [
        (sent_of([1, 2, 3], [2, 2]), InvalidRequest, "shape: expected one of 3 elements, found [2, 2]"),
        (sent_of([1, 2, 3], [-1, -1]), InvalidRequest, "shape: expected one of 3 elements"),
        (sent_of([1, 2, 3], [10**30]), InvalidRequest, "shape: expected one of 3 elements"),
        (sent_of([1, 2, 3], [1] * 40), InvalidRequest, "shape: expected at most 32 dimensions, found 40"),
        (sent_of([1, 2, 3], [3]), InvalidRequest, "shape: expected a picture [height, width, 3], found [3]"),
        (sent_of([], [0, 0, 3]), InvalidRequest, "expected at least 1 pixel a side, found 0x0"),
        (sent_of([0, 0, 256], [1, 1, 3]), InvalidRequest, "data: expected pixels of 0..255, found 0..256"),
        (sent_of([-1, 0, 0], [1, 1, 3]), InvalidRequest, "data: expected pixels of 0..255, found -1..0"),
        (sent_of([0, 0, float("nan")], [1, 1, 3]), InvalidRequest, "data: expected pixels of 0..255, found nan..nan"),
        (sent_of([0, 0, float("inf")], [1, 1, 3]), InvalidRequest, "data: expected pixels of 0..255, found 0.0..inf"),
        (sent_of(["a"]), InvalidRequest, "data: expected numbers, found str"),
        (sent_of([None]), InvalidRequest, "data: expected numbers, found object"),
        (sent_of(np.zeros(303), [1, 101, 3]), PayloadTooLarge, "expected at most 100 pixels a side, found 101x1"),
        (sent_of([1, 2, 3], [1, 1, 3], wide=2**70), InvalidRequest, "expected numbers of at most 64 bits"),
    ],
)
def test_what_is_no_picture_is_refused(sent: Sent, kind: type[InferoxyError], message: str) -> None:
    with pytest.raises(kind) as failed:
        inputs.prepare(sent, view(IMAGE), LIMITS)
    assert message in failed.value.message


@pytest.mark.parametrize(
    ("datatype", "declared", "expected"),
    [
        ("fp32", "FP64", "FP32"), ("fp16", "FP32", "FP16"), ("uint8", "FP32", "UINT8"), ("int8", "FP32", "INT8"),
        ("bool", "FP32", "BOOL"), (None, "FP32", "FP32"), (None, "INT32", "INT32"), (None, "BYTES", "INT64"),
    ],
)  # fmt: skip
def test_other_models_get_numbers_as_they_are_said_to_be_or_as_the_model_takes_them(
    datatype: str | None, declared: str, expected: str
) -> None:
    payload, data = payload_of(sent_of([[1, 0], [300, -1]], None, datatype), view(m.TensorSpec("x", declared, (-1, 2))))
    (tensor,) = payload.tensors
    assert (tensor.datatype, tensor.shape) == (expected, (2, 2))
    dtype = tensors.DTYPES[expected]
    with np.errstate(over="ignore"):
        wanted = np.array([[1, 0], [300, -1]]).astype(dtype)
    assert data == wanted.tobytes()


def test_parameters_go_to_the_model_but_for_our_own() -> None:
    payload, _ = payload_of(sent_of(PICTURE, index=7, stateless=True, init={"fps": 5}), view(IMAGE))
    assert payload.parameters == {"index": 7, "init": {"fps": 5}}
    assert (payload.form, payload.picture, payload.outputs) == ("tensors", "", [])


@pytest.mark.parametrize("about", [view(runtime="yolo"), view(IMAGE, platform="onnxruntime_yolo")])
def test_a_detector_is_asked_for_its_prediction_and_the_drawn_picture(about: m.ModelView) -> None:
    payload, _ = payload_of(sent_of(PICTURE), about)
    assert (payload.form, payload.picture) == ("prediction", "jpeg")


def test_an_input_is_stateful_unless_it_says_otherwise() -> None:
    assert sent_of(PICTURE).is_stateful
    assert sent_of(PICTURE, stateless=False).is_stateful
    assert not sent_of(PICTURE, stateless=True).is_stateful


# Outputs


def answer_of(value: Any, parameters: dict[str, Any], /, **arrays: Array | bytes) -> Answer:
    described, frames = [], []
    for name, array in arrays.items():
        if isinstance(array, bytes):
            described.append(m.Tensor(name, "UINT8", (2, 4, 3), encoding="jpeg"))
            frames.append(array)
        else:
            described.append(m.Tensor(name, tensors.datatype_of(array), array.shape))
            frames.append(bytes(tensors.to_bytes(array)))
    payload = wire.encode_payload(m.ResultPayload(described, value, parameters))
    return Answer(m.Response(payload=payload), frames)


def test_an_output_has_prediction_picture_and_all_parameters() -> None:
    prediction = np.array([json.dumps({"boxes": [1]})], object)
    found = outputs.given(answer_of(None, {"index": 7, "sound": "x"}, prediction=prediction, picture=PICTURE), {"a": 1})
    assert found.prediction == {"boxes": [1]}
    assert found.picture is not None
    assert np.array_equal(found.picture, PICTURE)
    assert (found.parameters, found.error) == ({"a": 1, "index": 7, "sound": "x"}, None)


def test_a_prediction_is_kept_when_there_is_no_picture() -> None:
    found = outputs.given(answer_of(None, {}, prediction=np.array(['{"n": 1}'], object)), {})
    assert (found.prediction, found.picture) == ({"n": 1}, None)


def test_an_encoded_picture_is_decoded() -> None:
    grey = np.full((2, 4, 3), 100, np.uint8)
    found = outputs.given(answer_of({"boxes": []}, {}, picture=simplejpeg.encode_jpeg(grey, quality=100)), {})
    assert found.prediction == {"boxes": []}
    assert found.picture is not None
    assert np.abs(found.picture.astype(int) - grey).max() < 4


def test_other_tensors_are_listed_by_name() -> None:
    words = np.array([b"a", b"\xff"], object)
    found = outputs.given(answer_of(None, {}, SUM=np.array([[1.5]], np.float32), WORDS=words), {})
    assert found.prediction == {"SUM": [[1.5]], "WORDS": ["a", "\ufffd"]}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (answer_of({}, {}, picture=b"no jpeg"), InternalError),
        (answer_of(None, {}, prediction=np.array([b"{"], object)), ModelError),
        (answer_of(None, {}, prediction=np.array([b"{}", b"{}"], object)), ModelError),
        (Answer(m.Response(), []), InternalError),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error(answer: Answer, kind: type[InferoxyError]) -> None:
    with pytest.raises(kind):
        outputs.given(answer, {})


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (Code.MODEL_NOT_FOUND, "[E001]: x"), (Code.MODEL_UNAVAILABLE, "[E001]: x"), (Code.INSTANCE_LOST, "[E001]: x"),
        (Code.DEADLINE_EXCEEDED, "[E011]: x"), (Code.MODEL_ERROR, "[MODEL_ERROR]: x"),
        (Code.QUEUE_FULL, "[QUEUE_FULL]: x"),
    ],
)  # fmt: skip
def test_errors_have_the_codes_that_clients_know(code: Code, shown: str) -> None:
    found = outputs.failed(InferoxyError("x", code), {"index": 7})
    assert (found.error, found.prediction, found.picture, found.parameters) == (shown, None, None, {"index": 7})
