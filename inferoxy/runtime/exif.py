"""Which way up a picture is: the EXIF orientation, read from the file's own bytes.

Pure. Source: EXIF 2.32 section 4.6 (TIFF tag 0x0112), JPEG marker syntax of ITU-T T.81 annex B, PNG (ISO/IEC 15948)
chunk eXIf, WebP container of RFC 9649.
"""

from typing import Literal

UPRIGHT = 1
_ORIENTATION = 0x0112
_SOS, _APP1 = 0xDA, 0xE1
_PREFIX = b"Exif\0\0"
_MAX_CHUNKS = 10_000
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}


def picture_orientation(data: memoryview, encoding: str) -> int:
    """The same as `jpeg_orientation` for any encoding that a picture may travel in: jpeg, png or webp."""
    if encoding == "jpeg":
        return jpeg_orientation(data)
    block = _png_chunk(data) if encoding == "png" else _webp_chunk(data)
    if block is None:
        return UPRIGHT
    return _orientation(block[len(_PREFIX) :] if block[: len(_PREFIX)] == _PREFIX else block)


def jpeg_orientation(data: memoryview) -> int:
    """1 (upright) to 8; 1 where there is none or it cannot be understood."""
    segment = _exif_segment(data)
    return UPRIGHT if segment is None else _orientation(segment)


def _exif_segment(data: memoryview) -> memoryview | None:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _SOS:
            return None
        if marker == _APP1 and bytes(data[at + 4 : at + 10]) == _PREFIX:
            return data[at + 10 : at + 2 + size]
        at += 2 + size
    return None


def _png_chunk(data: memoryview) -> memoryview | None:
    at = 8
    for _ in range(_MAX_CHUNKS):
        size, kind = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        if kind == b"eXIf":
            return data[at + 8 : at + 8 + size]
        at += 12 + size
        if at + 12 > len(data):
            return None
    return None


def _webp_chunk(data: memoryview) -> memoryview | None:
    at = 12
    for _ in range(_MAX_CHUNKS):
        kind, size = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"EXIF":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
        if at + 8 > len(data):
            return None
    return None


def _orientation(tiff: memoryview) -> int:
    order = _ORDERS.get(bytes(tiff[:4]))
    if order is None:
        return UPRIGHT
    directory = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[directory : directory + 2], order)
    for index in range(min(count, 512)):
        entry = tiff[directory + 2 + 12 * index : directory + 14 + 12 * index]
        if len(entry) < 12:
            return UPRIGHT
        if int.from_bytes(entry[:2], order) == _ORIENTATION:
            value = int.from_bytes(entry[8:10], order)
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
