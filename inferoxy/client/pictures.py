"""What callers hand over as a picture: a path, encoded bytes, an open file, an array or a PIL.Image.

They are told apart and measured by their headers; nothing is decoded here, the instance does that. Pillow is never
imported unless the caller has: only then can a picture be one of its.
"""

import os
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from inferoxy.errors import InvalidRequest
from inferoxy.runtime.exif import picture_orientation

_PILLOW_MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
)
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_JPEG_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
_SWAPS_SIDES = 5  # EXIF orientations from here on have width and height exchanged


class OpenFile(Protocol):
    """A file opened for reading bytes, or anything else that is read so."""

    def read(self) -> bytes:
        """What is left of it."""


class PillowImage(Protocol):
    """A PIL.Image.Image."""

    @property
    def mode(self) -> str:
        """How its pixels are stored."""

    def getexif(self) -> Any:
        """Its EXIF tags."""


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[np.uint8] | OpenFile | PillowImage


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

    An open file is read from where it stands. A Pillow image is taken as it is seen: its EXIF orientation is applied,
    grey and palettes become RGB, transparency is dropped.

    Raises:
        InvalidRequest: It is not a JPEG, PNG or WebP picture, or the array or image is of another kind.
        OSError: The file cannot be read.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, str | os.PathLike):
        return measure(Path(source).read_bytes(), str(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return measure(source if isinstance(source, bytes) else memoryview(source).cast("B"), "picture")
    if _is_pillow(source):
        return _from_pillow(source)
    if callable(getattr(source, "read", None)):
        return _from_file(source)
    raise InvalidRequest(
        "picture: expected a path, bytes, an open file, an array uint8 [height, width, 3] or a PIL.Image, "
        f"found {type(source).__name__}"
    )


def is_at_hand(source: Source) -> bool:
    """Whether `load` neither reads nor decodes, and so takes no time to speak of."""
    return isinstance(source, np.ndarray | bytes | bytearray | memoryview)


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


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and 0 not in array.shape:
        return np.ascontiguousarray(array)
    several = ": give list(array) for several pictures" if array.ndim == 4 else ""
    raise InvalidRequest(
        f"picture: expected an array uint8 [height, width, 3], found {array.dtype} {list(array.shape)}{several}"
    )


def _from_file(file: Any) -> EncodedPicture:
    data = file.read()
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidRequest(
            f"picture: expected a file opened for bytes ('rb'), found one that reads {type(data).__name__}"
        )
    name = getattr(file, "name", "")
    return measure(bytes(data), name if isinstance(name, str) and name else "picture")


def _is_pillow(source: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(source, pillow.Image)


def _from_pillow(image: Any) -> NDArray[np.uint8]:
    if image.mode not in _PILLOW_MODES:
        raise InvalidRequest(f"picture: expected a PIL.Image of 8 bits, such as RGB, found mode {image.mode}")
    from PIL import ImageOps

    try:
        upright = ImageOps.exif_transpose(image)
        return _from_array(np.asarray(upright.convert("RGB")))
    except (ValueError, SyntaxError) as exc:  # how Pillow tells of a closed file, and of a broken PNG
        raise InvalidRequest(f"picture: the PIL.Image cannot be read: {exc}") from exc


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
