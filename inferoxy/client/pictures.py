"""What callers hand over as a picture: a path, encoded bytes or an array, told apart and measured.

Reads only the headers of encoded pictures; nothing is decoded here, the instance does that.
"""

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferoxy.errors import InvalidRequest
from inferoxy.runtime.exif import picture_orientation

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[np.uint8]

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_JPEG_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
_SWAPS_SIDES = 5  # EXIF orientations from here on have width and height exchanged


class EncodedPicture(NamedTuple):
    """A JPEG, PNG or WebP file's bytes, and the size that its header declares, before any EXIF orientation."""

    data: bytes | memoryview
    encoding: str
    width: int
    height: int

    @property
    def seen_size(self) -> tuple[int, int]:
        """Width and height of the picture as it is seen, and as boxes refer to it."""
        is_turned = picture_orientation(memoryview(self.data), self.encoding) >= _SWAPS_SIDES
        return (self.height, self.width) if is_turned else (self.width, self.height)


LoadedPicture = EncodedPicture | NDArray[np.uint8]


def load(source: Source) -> LoadedPicture:
    """The picture as it will travel: encoded as it is, or a contiguous array UINT8 [height, width, 3].

    Raises:
        InvalidRequest: It is not a JPEG, PNG or WebP picture, or the array has another dtype or shape.
        OSError: The file cannot be read.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
            raise InvalidRequest(
                f"picture: expected an array uint8 [height, width, 3], found {source.dtype} {list(source.shape)}"
            )
        return np.ascontiguousarray(source)
    if isinstance(source, str | os.PathLike):
        return measure(Path(source).read_bytes(), str(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return measure(source if isinstance(source, bytes) else memoryview(source).cast("B"), "picture")
    raise InvalidRequest(
        f"picture: expected a path, bytes or an array uint8 [height, width, 3], found {type(source).__name__}"
    )


def measure(data: bytes | memoryview, name: str = "picture") -> EncodedPicture:
    """The encoding and declared size of an encoded picture.

    Raises:
        InvalidRequest: It is none that is known, or its header is broken.
    """
    view = memoryview(data)
    head = bytes(view[:30])
    try:
        if head.startswith(b"\xff\xd8\xff"):
            return EncodedPicture(data, "jpeg", *_jpeg_size(view))
        if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
            return EncodedPicture(data, "png", *struct.unpack(">II", head[16:24]))
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return EncodedPicture(data, "webp", *_webp_size(head))
    except (struct.error, IndexError, ValueError) as exc:
        raise InvalidRequest(f"{name}: the picture's header is cut short or broken") from exc
    found = f"found {len(view)} bytes beginning {head[:8].hex(' ')}" if head else "found nothing"
    raise InvalidRequest(f"{name}: expected a JPEG, PNG or WebP picture, {found}")


def _jpeg_size(view: memoryview) -> tuple[int, int]:
    at = 2
    while True:
        if view[at] != 0xFF:
            raise ValueError("marker expected")
        marker = view[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_ALONE:
            at += 2
        elif marker in _JPEG_SIZES:
            height, width = struct.unpack(">HH", view[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + max(2, int.from_bytes(view[at + 2 : at + 4], "big"))


def _webp_size(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    raise ValueError("unknown WebP chunk")
