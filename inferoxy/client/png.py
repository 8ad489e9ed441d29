"""An array as a PNG file whose pixels are stored, not compressed: one memory copy and two checksums.

Pure. For protocols that take pictures only as files; any PNG reader decodes it, and nothing is lost.

Source: PNG (ISO/IEC 15948) 11.2; zlib, RFC 1950; stored blocks, RFC 1951 3.2.4.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT, _RGB = 8, 2
_NO_FILTER = 0  # stands before each row


def stored_png(image: NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file.

    Args:
        image: RGB UINT8 [height, width, 3].
    """
    height, width, _ = image.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _NO_FILTER
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, _EIGHT_BIT, _RGB, 0, 0, 0)
    pixels = zlib.compress(rows.reshape(-1).data, 0)
    return b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))))
