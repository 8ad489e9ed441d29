"""Encoded pictures for tests."""

import io
import struct
import zlib

from PIL import Image


def encoded(form: str, width: int = 64, height: int = 48, **options: object) -> bytes:
    """A picture file with a gradient in it; `form` is JPEG, PNG or WEBP."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes that claims to be so large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0" * 32
