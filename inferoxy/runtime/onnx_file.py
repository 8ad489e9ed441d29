"""Read the metadata of an ONNX file without loading the model.

A ModelProto is a protobuf message; only its top level is walked, and the graph, which is nearly all of the file, is
skipped over. Source: onnx.proto (metadata_props = 14 of StringStringEntryProto) and the protobuf wire format.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from inferoxy.errors import ModelUnavailable

METADATA_PROPS = 14
KEY, VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
MAX_PROPERTY_BYTES = 16 * 1024 * 1024


def read_metadata(path: Path) -> dict[str, str]:
    """The model's metadata properties, such as names, stride and task.

    Raises:
        ModelUnavailable: It cannot be read or is no ONNX file.
    """
    metadata = {}
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            for entry in _fields(file, size, METADATA_PROPS):
                parts = {
                    number: next(_fields(BytesIO(entry), len(entry), number), b"").decode() for number in (KEY, VALUE)
                }
                metadata[parts[KEY]] = parts[VALUE]
    except OSError as exc:
        raise ModelUnavailable(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise ModelUnavailable(f"{path}: not an ONNX file: {exc}") from exc
    return metadata


def _fields(file: BinaryIO, size: int, wanted: int) -> Iterator[bytes]:
    """The content of every length-delimited field with this number.

    Raises:
        ValueError: It is no protobuf message.
    """
    while file.tell() < size:
        tag = _varint(file)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _varint(file)
            continue
        if kind not in (_FIXED64, _BYTES, _FIXED32):
            raise ValueError(f"wire type {kind} at byte {file.tell()}")
        length = _varint(file) if kind == _BYTES else 8 if kind == _FIXED64 else 4
        if length > size - file.tell():
            raise ValueError(f"field {number} is longer than the {size} bytes there are")
        if number == wanted and kind == _BYTES:
            if length > MAX_PROPERTY_BYTES:
                raise ValueError(f"a property of {length} bytes")
            yield file.read(length)
        else:
            file.seek(length, 1)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("the file ends in the middle of a field")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError(f"a number of more than 64 bits at byte {file.tell()}")
