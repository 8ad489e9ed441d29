"""Protobuf messages of the Open Inference Protocol."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges import v2_regions
from bridges.grpc import convert
from bridges.results import Output
from bridges.v2_outputs import Delivered, Wanted
from bridges.v2_regions import Place, Regions
from inferoxy import messages as m
from inferoxy.errors import InvalidRequest, PayloadTooLarge
from inferoxy.tensors import DTYPES, decode_strings, encode_strings
from protos import inference_pb2 as pb

Input = pb.ModelInferRequest.InferInputTensor
NOWHERE = Regions(is_allowed=False)
FIELDS = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-32768, 32767]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 65535]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]),
    "FP32": ("fp32_contents", [0.5, math.inf]),
    "FP64": ("fp64_contents", [0.1, -1e300]),
}


def typed(datatype: str, shape: list[int], **contents: Any) -> pb.ModelInferRequest:
    item = Input(name="x", datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents))
    return pb.ModelInferRequest(inputs=[item])


def placed(name: str, size: int, **more: Any) -> Any:
    item = Input(name=name, datatype="FP32", shape=[1], **more)
    item.parameters["shared_memory_region"].string_param = "r"
    item.parameters["shared_memory_byte_size"].int64_param = size
    return item


@pytest.mark.parametrize("datatype", FIELDS)
def test_typed_contents_are_the_same_bytes_as_raw_ones(datatype: str) -> None:
    field, items = FIELDS[datatype]
    tensors, frames = convert.inputs_of(typed(datatype, [2], **{field: items}), NOWHERE)
    assert tensors == [m.Tensor("x", datatype, (2,))]
    assert bytes(frames[0]) == np.array(items, DTYPES[datatype]).tobytes()


def test_bytes_contents_stand_behind_their_lengths() -> None:
    _, frames = convert.inputs_of(typed("BYTES", [2], bytes_contents=[b"ab", b""]), NOWHERE)
    assert decode_strings("x", [2], frames[0]).tolist() == [b"ab", b""]


def test_raw_contents_are_not_copied() -> None:
    request = pb.ModelInferRequest(inputs=[Input(name="x", datatype="FP16", shape=[1])], raw_input_contents=[b"\0\0"])
    tensors, frames = convert.inputs_of(request, NOWHERE)
    assert (tensors[0].datatype, bytes(frames[0])) == ("FP16", b"\0\0")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.ModelInferRequest(raw_input_contents=[b""]), "raw_input_contents: expected 0, one per input, found 1"),
        (typed("FP32", [2], fp32_contents=[1.0]), "expected 2 elements in fp32_contents for"),
        (typed("FP32", [1], fp64_contents=[1.0]), "expected 1 elements in fp32_contents .*found 0"),
        (typed("INT8", [1], int_contents=[128]), "out of the range of INT8"),
        (typed("UINT8", [1], uint_contents=[256]), "out of the range of UINT8"),
        (typed("FP16", [1]), "raw_input_contents only"),
        (typed("HALF", [1]), "expected one of BOOL"),
        (typed("FP32", [-1]), "negative dimension"),
        (
            pb.ModelInferRequest(inputs=[Input(name="x"), Input(name="y")], raw_input_contents=[b""]),
            "expected 2, one per input, found 1",
        ),
        (
            pb.ModelInferRequest(inputs=[Input(name="x", contents=pb.InferTensorContents())], raw_input_contents=[b""]),
            "found both",
        ),
        (pb.ModelInferRequest(inputs=[placed("x", 4)]), "'r' is not registered"),
        (pb.ModelInferRequest(inputs=[placed("x", -1)]), "shared_memory_byte_size: expected an integer of 0"),
        (
            pb.ModelInferRequest(inputs=[placed("x", 4, contents=pb.InferTensorContents())]),
            "contents or a shared_memory_region, found both",
        ),
        (
            pb.ModelInferRequest(inputs=[Input(name="x"), placed("y", 4)], raw_input_contents=[b"", b""]),
            "expected 1, one per input that is not in shared memory, found 2",
        ),
    ],
)
def test_wrong_inputs_are_refused(request_: pb.ModelInferRequest, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        convert.inputs_of(request_, NOWHERE)


def test_parameters_are_plain_values() -> None:
    request = pb.ModelInferRequest()
    request.parameters["b"].bool_param = False
    request.parameters["i"].int64_param = -5
    request.parameters["u"].uint64_param = 2**64 - 1
    request.parameters["s"].string_param = "x"
    request.parameters["d"].double_param = 0.5
    assert convert.parameters_of(request.parameters) == {"b": False, "i": -5, "u": 2**64 - 1, "s": "x", "d": 0.5}


def test_parameter_without_a_value_is_refused() -> None:
    request = pb.ModelInferRequest()
    request.parameters["b"].SetInParent()
    with pytest.raises(InvalidRequest, match="'b': expected a value"):
        convert.parameters_of(request.parameters)


def test_answers_are_always_raw() -> None:
    data = encode_strings([b"a"])
    request = pb.ModelInferRequest(model_name="m", id="7")
    outputs = [
        Delivered(Output(m.Tensor("p", "FP32", (1,)), memoryview(b"1234"))),
        Delivered(Output(m.Tensor("q", "BYTES", (1,)), memoryview(data))),
        Delivered(Output(m.Tensor("r", "FP32", (2,)), memoryview(b"12345678")), is_placed=True),
    ]
    response = convert.response_of(request, "3", outputs, {"n": 1, "x": 0.5, "skipped": [1]})
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "7")
    assert list(response.raw_output_contents) == [b"1234", data, b""]
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("p", "FP32", [1]), ("q", "BYTES", [1]), ("r", "FP32", [2]),
    ]  # fmt: skip
    assert set(response.parameters) == {"n", "x"}


def test_outputs_may_be_wanted_as_classes_or_in_shared_memory() -> None:
    request = pb.ModelInferRequest()
    request.outputs.add(name="a")
    request.outputs.add(name="b").parameters["classification"].int64_param = 3
    place = request.outputs.add(name="c").parameters
    place["shared_memory_region"].string_param = "r"
    place["shared_memory_byte_size"].int64_param = 8
    place["shared_memory_offset"].int64_param = 16
    assert convert.wanted_of(request) == [
        Wanted("a"), Wanted("b", classes=3), Wanted("c", place=Place("r", 8, 16)),
    ]  # fmt: skip


def test_inputs_in_shared_memory_are_read_between_raw_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v2_regions, "FOLDER", tmp_path)
    (tmp_path / "object").write_bytes(b"....data")
    regions = Regions(is_allowed=True, limit_bytes=7)
    regions.register("r", "/object", 4, 4)
    request = pb.ModelInferRequest(
        inputs=[Input(name="x"), placed("y", 4), Input(name="z")], raw_input_contents=[b"one", b"three"]
    )
    tensors, frames = convert.inputs_of(request, regions)
    with pytest.raises(PayloadTooLarge, match="at most 7 bytes in one request, found 8"):
        convert.inputs_of(pb.ModelInferRequest(inputs=[placed("x", 4), placed("y", 4)]), regions)
    regions.unregister()
    assert [tensor.name for tensor in tensors] == ["x", "y", "z"]
    assert [bytes(frame) for frame in frames] == [b"one", b"data", b"three"]
