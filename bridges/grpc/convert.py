"""Protobuf messages of the Open Inference Protocol to tensors and back.

Pure. What parameters and tensors mean is bridges/v2.py's.
Invariant: whatever a client's message holds, only InvalidRequest or PayloadTooLarge is raised.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bridges import v2, v2_outputs
from bridges.results import Output
from bridges.v2_outputs import Wanted
from bridges.v2_regions import Place, Regions
from inferoxy.errors import InvalidRequest
from inferoxy.messages import ModelView, Tensor, TensorSpec
from inferoxy.tensors import BYTES, DTYPES, count_elements, encode_strings, to_bytes
from protos import inference_pb2 as pb

# Where the typed contents of a datatype stand; FP16 and BF16 have no field.
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


def parameters_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain values.

    Raises:
        InvalidRequest: One has no value.
    """
    plain: dict[str, Any] = {}
    for name, parameter in found.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidRequest(f"parameter {name[:80]!r}: expected a value, found none")
        plain[name] = getattr(parameter, kind)
    return plain


def inputs_of(request: Any, regions: Regions) -> tuple[list[Tensor], list[memoryview]]:
    """The input tensors of a ModelInferRequest, with their bytes; requests.is_bare_end tells whether there may be none.

    Raises:
        InvalidRequest: Raw and typed contents are mixed, do not match the inputs, or are of the wrong type; a place in
            shared memory is none.
        PayloadTooLarge: There is too much in shared memory.
    """
    tensors: list[Tensor] = []
    places: dict[int, Place] = {}
    is_typed = False
    for at, item in enumerate(request.inputs):
        name, given = item.name, item.parameters
        is_typed = is_typed or item.HasField("contents")
        if given:
            place = v2.place_of_input(name, parameters_of(given))
            if place is not None:
                places[at] = place
        tensors.append(Tensor(name, item.datatype, tuple(item.shape)))
    raw = request.raw_input_contents
    if places or not raw:
        return tensors, _frames(request, tensors, places, regions)
    if is_typed:
        raise InvalidRequest("inputs: expected raw_input_contents or contents, found both")
    if len(raw) != len(tensors):
        raise InvalidRequest(f"raw_input_contents: expected {len(tensors)}, one per input, found {len(raw)}")
    return tensors, [memoryview(data) for data in raw]


def wanted_of(request: Any) -> list[Wanted]:
    """The wanted outputs.

    Raises:
        InvalidRequest: One is wanted in a way that makes no sense.
    """
    wanted: list[Wanted] = []
    for item in request.outputs:
        given = item.parameters
        wanted.append(v2_outputs.wanted_of(item.name, parameters_of(given)) if given else Wanted(item.name))
    return wanted


def response_of(
    about: Any, version: str, outputs: Sequence[tuple[Output, bool]], parameters: Mapping[str, Any]
) -> pb.ModelInferResponse:
    """The answer, with all tensors raw; the entry of one in shared memory is empty.

    Args:
        about: Has the `model_name` and `id` of the request.
        version: The one that answered.
        outputs: The tensors, each with whether it lies in shared memory.
        parameters: The model's; those that protobuf has no field for are left out.
    """
    response = pb.ModelInferResponse(model_name=about.model_name, model_version=version, id=about.id)
    for name, value in parameters.items():
        parameter = _parameter(value)
        if parameter is not None:
            response.parameters[name].CopyFrom(parameter)
    add, raw = response.outputs.add, response.raw_output_contents
    for (tensor, data), is_placed in outputs:
        add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        raw.append(b"" if is_placed else bytes(data))
    return response


def metadata_of(view: ModelView, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """What clients see of a model."""
    return pb.ModelMetadataResponse(
        name=view.spec.name,
        versions=versions,
        platform=v2.platform(view),
        inputs=[_metadata(spec) for spec in view.inputs],
        outputs=[_metadata(spec) for spec in view.outputs],
    )


def _frames(request: Any, tensors: Sequence[Tensor], places: Mapping[int, Place], regions: Regions) -> list[memoryview]:
    """The bytes of inputs of which some are not raw."""
    raw = request.raw_input_contents
    expected = len(tensors) - len(places)
    if raw and len(raw) != expected:
        found = f"one per input that is not in shared memory, found {len(raw)}"
        raise InvalidRequest(f"raw_input_contents: expected {expected}, {found}")
    frames: list[memoryview] = []
    rest = iter(raw)
    placed = 0
    for at, (tensor, item) in enumerate(zip(tensors, request.inputs, strict=True)):
        place = places.get(at)
        if (place or raw) and item.HasField("contents"):
            others = "a shared_memory_region" if place else "raw_input_contents"
            raise InvalidRequest(f"input {tensor.name!r}: expected contents or {others}, found both")
        if place:
            frames.append(regions.read(place, placed))
            placed += place.size
        else:
            frames.append(memoryview(next(rest)) if raw else _typed(tensor, item.contents))
    return frames


def _typed(tensor: Tensor, contents: Any) -> memoryview:
    field = _FIELDS.get(tensor.datatype)
    if field is None:
        if tensor.datatype in DTYPES:
            raise InvalidRequest(f"tensor {tensor.name!r}: {tensor.datatype} is sent in raw_input_contents only")
        raise InvalidRequest(
            f"tensor {tensor.name!r}: expected one of {', '.join(DTYPES)} or BYTES, found {tensor.datatype[:20]!r}"
        )
    items = getattr(contents, field)
    expected = count_elements(tensor.name, tensor.shape)
    if len(items) != expected:
        where = f"{field} for {list(tensor.shape)}"
        raise InvalidRequest(f"tensor {tensor.name!r}: expected {expected} elements in {where}, found {len(items)}")
    if tensor.datatype == BYTES:
        return memoryview(encode_strings(items))
    found, dtype = np.array(items), DTYPES[tensor.datatype]
    if dtype.kind in "iu" and found.size:
        limits = np.iinfo(dtype)
        if found.min() < limits.min or found.max() > limits.max:
            raise InvalidRequest(f"tensor {tensor.name!r}: an element is out of the range of {tensor.datatype}")
    return memoryview(to_bytes(found.astype(dtype)))


def _parameter(value: Any) -> pb.InferParameter | None:
    """A plain value as a parameter; None for what protobuf has no field for."""
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value) if value < 2**63 else pb.InferParameter(uint64_param=value)
    if isinstance(value, float):
        return pb.InferParameter(double_param=value)
    return pb.InferParameter(string_param=value) if isinstance(value, str) else None


def _metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
