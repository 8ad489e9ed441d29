"""Tensors in JSON: the `data` of the Open Inference Protocol to bytes and back.

Pure. JSON holds BOOL as true/false, BYTES as strings, everything else as numbers; lists may be flat or nested in the
tensor's shape. BF16 and FP16 are rounded from numbers.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from inferoxy.errors import InvalidRequest
from inferoxy.messages import Tensor
from inferoxy.tensors import BYTES, DTYPES, Array, count_elements, decode_strings, encode_strings, from_bytes, to_bytes

_FLOATS = {"FP16", "FP32", "FP64", "BF16"}
_FLAT: dict[str, msgspec.json.Decoder[Any]] = {
    "float": msgspec.json.Decoder(list[float]),
    "int": msgspec.json.Decoder(list[int]),
    "bool": msgspec.json.Decoder(list[bool]),
    "str": msgspec.json.Decoder(list[str]),
}
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_KINDS = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}


def decode(name: str, datatype: str, shape: Sequence[int], data: msgspec.Raw) -> bytes | memoryview:
    """The bytes of a tensor given as JSON.

    Raises:
        InvalidRequest: The datatype is unknown, or an element is of another type, out of range or missing.
    """
    if datatype != BYTES and datatype not in DTYPES:
        raise InvalidRequest(f"tensor {name!r}: expected one of {', '.join(DTYPES)} or BYTES, found {datatype[:20]!r}")
    kind = _kind(datatype)
    try:
        items = _FLAT[kind].decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        items = _flatten(name, datatype, kind, data)
    expected = count_elements(name, shape)
    if len(items) != expected:
        raise InvalidRequest(f"tensor {name!r}: expected {expected} elements for {list(shape)}, found {len(items)}")
    if datatype == BYTES:
        return encode_strings(items)
    try:
        with np.errstate(over="ignore"):  # too large for FP32 is infinity, as everywhere
            array = np.array(items, np.float32 if datatype == "BF16" else DTYPES[datatype])
    except OverflowError as exc:
        raise InvalidRequest(f"tensor {name!r}: an element is out of the range of {datatype}") from exc
    return to_bytes(_round_to_bf16(array) if datatype == "BF16" else array)


def encode(tensor: Tensor, data: memoryview) -> list[Any]:
    """The elements of a tensor as a flat list that JSON can hold.

    Raises:
        InvalidRequest: A BYTES element is not UTF-8 text.
    """
    if tensor.datatype == BYTES:
        try:
            return [item.decode() for item in decode_strings(tensor.name, tensor.shape, data).ravel().tolist()]
        except UnicodeDecodeError as exc:
            raise InvalidRequest(f"output {tensor.name!r}: not UTF-8 text, ask for it with binary_data: true") from exc
    array = from_bytes(tensor.name, tensor.datatype, tensor.shape, data)
    if tensor.datatype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    items: list[Any] = array.ravel().tolist()
    return items


def _kind(datatype: str) -> str:
    if datatype in _FLOATS:
        return "float"
    return {"BOOL": "bool", BYTES: "str"}.get(datatype, "int")


def _flatten(name: str, datatype: str, kind: str, data: msgspec.Raw) -> list[Any]:
    """The leaves of nested lists, in order."""
    try:
        level = _ANY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"tensor {name!r}: data is not valid JSON: {exc}") from exc
    if not isinstance(level, list):
        raise InvalidRequest(f"tensor {name!r}: expected a list of {datatype} elements, found {type(level).__name__}")
    while level and all(type(item) is list for item in level):
        if len({len(item) for item in level}) > 1:
            raise InvalidRequest(f"tensor {name!r}: expected nested lists of equal lengths, found different ones")
        level = [leaf for item in level for leaf in item]
    for leaf in level:
        if type(leaf) not in _KINDS[kind]:
            found = "null" if leaf is None else type(leaf).__name__
            raise InvalidRequest(f"tensor {name!r}: expected {datatype} elements, found {found}")
    return level


def _round_to_bf16(array: Array) -> Array:
    """FP32 to the bits of BF16, to nearest even; NaN stays NaN."""
    bits = array.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
