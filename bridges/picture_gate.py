"""Look at an encoded picture before it is accepted: what format it is, and how large it claims to be.

Pure. Reads headers alone; decoding, and with it the discovery of a truncated picture, is the instance's.
Invariants: nothing is allocated in proportion to what a picture claims; whatever the bytes are, only InvalidRequest
or PayloadTooLarge is raised.

Source: PNG (ISO/IEC 15948) 11.2.2; WebP container, RFC 9649 section 2; JPEG headers are read by libjpeg-turbo.
"""

import struct
from typing import Any, NamedTuple

import simplejpeg

from inferoxy.config import LimitSettings
from inferoxy.errors import InvalidRequest, PayloadTooLarge
from inferoxy.messages import Tensor
from inferoxy.runtime.exif import jpeg_orientation

FORMATS = "JPEG, PNG or WebP"
ENCODINGS = ("jpeg", "png", "webp")
_JPEG, _PNG, _RIFF, _WEBP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"WEBP"
_HEAD_BYTES = 40  # enough for the fixed headers of PNG and WebP
_EXIF_WITHIN_BYTES = 131_072  # where EXIF stands in every real file; bounds the search in a hostile one
_SWAPS_SIDES = 5  # EXIF orientations from here on exchange width and height


class Picture(NamedTuple):
    """What an encoded picture says of itself; its sides as they are once EXIF orientation has been applied."""

    encoding: str
    width: int
    height: int

    def tensor(self, name: str = "") -> Tensor:
        """The tensor that stands for it on our wire."""
        return Tensor(name, "UINT8", (self.height, self.width, 3), encoding=self.encoding)


def sniff(data: Any) -> str:
    """The encoding that the first bytes announce; empty when it is none of ours."""
    head = bytes(memoryview(data)[:12])
    if head.startswith(_JPEG):
        return "jpeg"
    if head.startswith(_PNG):
        return "png"
    if head.startswith(_RIFF) and head[8:] == _WEBP:
        return "webp"
    return ""


def examine(data: Any, limits: LimitSettings, what: str = "picture") -> Picture:
    """The format and declared size of an encoded picture that may be accepted.

    Args:
        data: The encoded bytes.
        limits: What sizes are accepted.
        what: How messages call it.

    Raises:
        InvalidRequest: Empty, of another format, or its header cannot be read.
        PayloadTooLarge: It claims more pixels than the limits allow.
    """
    encoding = sniff(data)
    if not encoding:
        if not len(data):
            raise InvalidRequest(f"{what}: expected {FORMATS} bytes, found none")
        head = bytes(memoryview(data)[:8]).hex(" ")
        raise InvalidRequest(f"{what}: expected {FORMATS}, found bytes that begin with {head}")
    try:
        width, height = _SIZES[encoding](data)
    except (ValueError, struct.error) as exc:
        raise InvalidRequest(f"{what}: expected a readable {encoding} header, found a damaged one ({exc})") from exc
    check_size(width, height, limits, what)
    return Picture(encoding, width, height)


def check_size(width: int, height: int, limits: LimitSettings, what: str = "picture") -> None:
    """Compare a picture's size with the limits.

    Raises:
        InvalidRequest: It has no pixels.
        PayloadTooLarge: It has too many.
    """
    if width < 1 or height < 1:
        raise InvalidRequest(f"{what}: expected at least 1 pixel a side, found {width}x{height}")
    if max(width, height) > limits.picture_side:
        raise PayloadTooLarge(f"{what}: expected at most {limits.picture_side} pixels a side, found {width}x{height}")
    if width * height > limits.picture_pixels:
        raise PayloadTooLarge(
            f"{what}: expected at most {limits.picture_pixels} pixels, found {width}x{height} = {width * height}"
        )


def _jpeg_size(data: Any) -> tuple[int, int]:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except KeyError as exc:  # its word for a header without a subsampling it knows
        raise ValueError("no frame header") from exc
    is_turned = jpeg_orientation(memoryview(data)[:_EXIF_WITHIN_BYTES]) >= _SWAPS_SIDES
    return (height, width) if is_turned else (width, height)


def _png_size(data: Any) -> tuple[int, int]:
    length, kind, width, height = struct.unpack_from(">I4sII", memoryview(data)[:_HEAD_BYTES], 8)
    if kind != b"IHDR" or length != 13:
        raise ValueError("the first chunk is not IHDR")
    return width, height


def _webp_size(data: Any) -> tuple[int, int]:
    head = bytes(memoryview(data)[:_HEAD_BYTES])
    kind, body = head[12:16], head[20:]
    if kind == b"VP8X":
        if len(body) < 10:
            raise ValueError("VP8X is cut short")
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        if len(body) < 5 or body[0] != 0x2F:
            raise ValueError("VP8L has no signature")
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        if len(body) < 10 or body[3:6] != b"\x9d\x01\x2a":
            raise ValueError("VP8 has no key frame")
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(f"unknown chunk {kind!r}")


_SIZES = {"jpeg": _jpeg_size, "png": _png_size, "webp": _webp_size}
