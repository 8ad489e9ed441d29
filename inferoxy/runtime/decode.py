"""Encoded pictures to RGB UINT8 arrays [height, width, 3], and back.

The only importer of simplejpeg here. Runs in pool threads; the decoders give up the interpreter lock. What a picture
claims to be was checked by the bridge before it was accepted; here the file's real size is compared with that claim
before anything of that size is allocated.
Invariant: a picture that ends early is an error, never a half grey array.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg

from inferoxy.errors import InvalidRequest, ModelError
from inferoxy.runtime.exif import UPRIGHT, jpeg_orientation
from inferoxy.runtime.sdk import Array

JPEG_QUALITY = 90
NAMES = {"jpeg": "JPEG", "png": "PNG", "webp": "WebP"}
MAX_PNG_CHUNKS = 65_536
_TOLERATED = "extraneous bytes before marker"  # what many cameras write between segments; the picture is whole
_EOI = b"\xff\xd9"
_SWAPS_SIDES = 5  # EXIF orientations from here on have height and width exchanged

cv2.setNumThreads(1)  # pictures run beside each other in the pool; threads within one would only contend
cv2.utils.logging.setLogLevel(0)  # what is wrong with a picture is told to the caller, not to the log


def decode_picture(data: memoryview | bytes, encoding: str, declared: Sequence[int] = ()) -> Array:
    """Decode one picture; EXIF orientation is applied, transparency dropped, 16 bits reduced to 8.

    Args:
        data: The file's bytes.
        encoding: jpeg, png or webp.
        declared: [height, width, 3] as the request says, before or after orientation; empty: not compared.

    Returns:
        RGB UINT8 [height, width, 3], writable.

    Raises:
        InvalidRequest: It is no such picture, ends early, is corrupt or has another size than declared.
    """
    view = memoryview(data)
    found = sniff(view)
    if encoding not in NAMES:
        raise InvalidRequest(f"picture: expected encoding {', '.join(NAMES)}, found {encoding!r}")
    if found != encoding:
        raise InvalidRequest(f"picture: expected {NAMES[encoding]}, found {NAMES.get(found, 'something else')}")
    image = _decode_jpeg(view, declared) if encoding == "jpeg" else _decode_other(view, encoding, declared)
    if declared and tuple(declared) not in (image.shape, (image.shape[1], image.shape[0], 3)):
        raise InvalidRequest(f"picture: expected {list(declared)} as declared, found {list(image.shape)}")
    return image


def sniff(data: memoryview) -> str:
    """The encoding that the first bytes show, or an empty string."""
    head = bytes(data[:12])
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if head.startswith(b"RIFF") and head.endswith(b"WEBP") else ""


def encode_picture(image: Array, encoding: str) -> bytes:
    """Encode a picture that a model has drawn.

    Args:
        image: RGB UINT8 [height, width, 3].
        encoding: jpeg or png.

    Raises:
        ModelError: The array is not such a picture.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ModelError(f"picture: expected uint8 [height, width, 3], found {image.dtype} {list(image.shape)}")
    if encoding == "jpeg":
        encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), JPEG_QUALITY, "RGB", "420")
        return encoded
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _decode_jpeg(view: memoryview, declared: Sequence[int]) -> Array:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(view, strict=False)
        _check_declared(height, width, declared)
        image = _decode_jpeg_pixels(view, colorspace)
    except (ValueError, KeyError) as exc:  # KeyError: simplejpeg's for a chroma subsampling it does not know
        short = "premature" in str(exc).lower() or _EOI not in bytes(view[-64:])
        raise InvalidRequest(f"picture: {'truncated' if short else 'corrupt'} JPEG: {exc}") from exc
    orientation = jpeg_orientation(view)
    return image if orientation == UPRIGHT else _turn(image, orientation)


def _decode_jpeg_pixels(view: memoryview, colorspace: str) -> Array:
    wanted = "CMYK" if colorspace in ("CMYK", "YCCK") else "RGB"
    try:
        image: Array = simplejpeg.decode_jpeg(view, wanted)
    except ValueError as exc:
        if _TOLERATED not in str(exc) or not bytes(view).rstrip(b"\0").endswith(_EOI):
            raise
        image = simplejpeg.decode_jpeg(view, wanted, strict=False)
    return image if wanted == "RGB" else _cmyk_to_rgb(image, inverted=b"Adobe" in bytes(view[:4096]))


def _cmyk_to_rgb(cmyk: Array, inverted: bool) -> Array:
    """Adobe writes CMYK inverted, 255 for no ink; others do not."""
    ink = cmyk if inverted else 255 - cmyk
    return np.ascontiguousarray((ink[..., :3].astype(np.uint16) * ink[..., 3:] + 127) // 255, np.uint8)


def _decode_other(view: memoryview, encoding: str, declared: Sequence[int]) -> Array:
    name = NAMES[encoding]
    try:
        height, width = _png_size(view) if encoding == "png" else _webp_size(view)
    except IndexError as exc:
        raise InvalidRequest(f"picture: truncated {name}: the header ends after {len(view)} bytes") from exc
    _check_declared(height, width, declared)
    if encoding == "png":
        _check_png_chunks(view)
    try:
        image = cv2.imdecode(np.frombuffer(view, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as exc:
        raise InvalidRequest(f"picture: corrupt {name}: {exc.err}") from exc
    if image is None:
        raise InvalidRequest(f"picture: truncated or corrupt {name} of {len(view)} bytes, {width} x {height} pixels")
    return image


def _check_declared(height: int, width: int, declared: Sequence[int]) -> None:
    if declared and tuple(declared) not in ((height, width, 3), (width, height, 3)):
        raise InvalidRequest(f"picture: expected {list(declared)} as declared, found {[height, width, 3]}")


def _png_size(view: memoryview) -> tuple[int, int]:
    if len(view) < 24:
        raise IndexError
    return int.from_bytes(view[20:24], "big"), int.from_bytes(view[16:20], "big")


def _check_png_chunks(view: memoryview) -> None:
    """Follow the chunks to IEND: the decoder would allocate whatever length a chunk claims before it reads it."""
    at = 8
    for _ in range(MAX_PNG_CHUNKS):
        if at + 12 > len(view):
            break
        at, kind = at + 12 + int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        if kind == b"IEND" and at <= len(view):
            return
    raise InvalidRequest(f"picture: truncated or corrupt PNG: its chunks do not end within its {len(view)} bytes")


def _webp_size(view: memoryview) -> tuple[int, int]:
    """Height and width from the first chunk. Source: RFC 9649."""
    if len(view) < 30:
        raise IndexError
    chunk = bytes(view[12:16])
    if chunk == b"VP8X":
        return 1 + int.from_bytes(view[27:30], "little"), 1 + int.from_bytes(view[24:27], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(view[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    return int.from_bytes(view[28:30], "little") & 0x3FFF, int.from_bytes(view[26:28], "little") & 0x3FFF


def _turn(image: Array, orientation: int) -> Array:
    """Undo an EXIF orientation of 2 to 8."""
    if orientation >= _SWAPS_SIDES:
        image = cv2.transpose(image)
        flip = {6: 1, 7: -1, 8: 0}.get(orientation)  # 5 is the transposition alone
    else:
        flip = {2: 1, 3: -1, 4: 0}[orientation]
    return image if flip is None else cv2.flip(image, flip)
