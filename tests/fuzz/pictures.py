"""Encoded pictures to begin with, and what is done to them that only a picture can suffer."""

import io
import struct
import zlib
from collections.abc import Callable
from random import Random

from PIL import Image

from tests.fuzz.mutations import WORDS, mutate_bytes

SIZES = ((1, 1), (16, 12), (33, 7))
ORIENTATION = 0x0112
SIGNATURE = 8  # bytes of a PNG's
_HEADER = 12  # bytes of RIFF, size and WEBP


def corpus() -> list[bytes]:
    """Small pictures of all kinds that we read."""
    made: list[bytes] = []
    for size in SIZES:
        picture = Image.linear_gradient("L").resize(size)
        turned = Image.Exif()
        turned[ORIENTATION] = 6
        for mode in ("RGB", "L", "CMYK"):
            made += [_saved(picture.convert(mode), "JPEG"), _saved(picture.convert(mode), "JPEG", progressive=True)]
        made.append(_saved(picture.convert("RGB"), "JPEG", exif=turned, subsampling=0, restart_marker_blocks=1))
        made += [_saved(picture.convert(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")]
        made.append(_saved(picture.convert("RGB"), "PNG", exif=turned))
        made += [_saved(picture.convert("RGB"), "WEBP"), _saved(picture.convert("RGBA"), "WEBP", lossless=True)]
        made.append(_saved(picture.convert("RGB"), "WEBP", exif=turned))
    return made


def _saved(picture: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)  # type: ignore[arg-type]
    return out.getvalue()


def mutate_picture(data: bytes, chance: Random, others: list[bytes]) -> bytes:
    """The picture with something wrong: its bytes, a segment's or chunk's length, its sides, the order of its parts."""
    if chance.random() < 0.4:
        return mutate_bytes(data, chance, others, chance.randint(1, 3))
    if data.startswith(b"\xff\xd8"):
        return _mutate_parts(data, 2, _segment, _segment_of, chance)
    if data.startswith(b"\x89PNG"):
        return _mutate_parts(data, SIGNATURE, _chunk, _chunk_of, chance)
    if data.startswith(b"RIFF"):
        return _mutate_parts(data, _HEADER, _riff, _riff_of, chance)
    return mutate_bytes(data, chance, others)


def _mutate_parts(
    data: bytes,
    start: int,
    read: Callable[[bytes, int], tuple[bytes, bytes, int]],
    write: Callable[[bytes, bytes, int], bytes],
    chance: Random,
) -> bytes:
    """Take it apart behind its signature, do something to a part, and put it together again with lengths that fit."""
    parts, at = [], start
    while at < len(data):
        name, body, at = read(data, at)
        parts.append((name, body, len(body)))
    if not parts:
        return data
    which = chance.randrange(len(parts))
    name, body, size = parts[which]
    kind = chance.randrange(7)
    if kind == 0:
        parts[which] = (name, mutate_bytes(body, chance), size)  # its length does not fit
    elif kind <= 2:
        changed = mutate_bytes(body, chance)
        parts[which] = (name, changed, len(changed))
    elif kind == 3:
        parts[which] = (name, body, chance.choice((0, 1, size - 1, size + 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)))
    elif kind == 4:
        parts.insert(chance.randrange(len(parts) + 1), parts[which])
    elif kind == 5:
        del parts[which]
    else:
        at = chance.randint(0, max(0, len(body) - 4))
        parts[which] = (name, body[:at] + struct.pack(">I", chance.choice(WORDS) & 0xFFFFFFFF) + body[at + 4 :], size)
    return data[:start] + b"".join(write(*part) for part in parts)


def _segment(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    """A JPEG marker and its segment; of a scan all that is behind it."""
    marker = data[at : at + 2]
    if marker == b"\xff\xda":
        return marker, data[at + 4 :], len(data)
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return marker, data[at + 4 : end], max(end, at + 2)


def _segment_of(marker: bytes, body: bytes, size: int) -> bytes:
    length = 12 if marker == b"\xff\xda" else size + 2
    return marker + (length & 0xFFFF).to_bytes(2, "big") + body


def _chunk(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    end = at + 12 + int.from_bytes(data[at : at + 4], "big")
    return data[at + 4 : at + 8], data[at + 8 : end - 4], end


def _chunk_of(name: bytes, body: bytes, size: int) -> bytes:
    return (size & 0xFFFFFFFF).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def _riff(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    return data[at : at + 4], data[at + 8 : at + 8 + size], at + 8 + size + size % 2


def _riff_of(name: bytes, body: bytes, size: int) -> bytes:
    return name + (size & 0xFFFFFFFF).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)
