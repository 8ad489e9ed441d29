"""Content codings: compressed bodies in, compressed inference answers out.

Pure, and slow for large bodies: callers run it in a thread.
Invariant: what is decoded is never longer than the limit, whatever was sent.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from functools import partial

from bridges.rest.answers import HttpAnswer, Part
from inferoxy.errors import Code, InferoxyError, InvalidRequest, PayloadTooLarge

ACCEPTED = ("gzip", "deflate")
LEVEL = 1  # tensors hardly become smaller with more
_PIECE_BYTES = 1 << 20
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}  # deflate is the zlib form (RFC 9110)
_WISHES = {name.encode(): name for name in ACCEPTED}
_LENGTH = re.compile(rb"content-length: \d+\r\n")


def coding_of(content_encoding: bytes) -> str:
    """The coding of a request's body; empty: none.

    Raises:
        InferoxyError: UNSUPPORTED_MEDIA_TYPE, it is none that is known.
    """
    name = content_encoding.strip().lower().decode("latin-1")
    if name in ("", "identity"):
        return ""
    if name not in ACCEPTED:
        why = f"Content-Encoding: expected {' or '.join(ACCEPTED)}, found {name[:40]}"
        raise InferoxyError(why, Code.UNSUPPORTED_MEDIA_TYPE)
    return name


def decode(coding: str, body: memoryview, limit: int) -> memoryview:
    """The body as it was before it was compressed.

    Raises:
        InvalidRequest: It is not of this coding, cut short, or has something behind its end.
        PayloadTooLarge: It is longer than `limit` bytes.
    """
    unpack = zlib.decompressobj(_WINDOW_BITS[coding])
    parts: list[bytes] = []
    size, rest = 0, bytes(body)
    try:
        while not unpack.eof:
            part = unpack.decompress(rest, _PIECE_BYTES)
            rest = unpack.unconsumed_tail
            size += len(part)
            if size > limit:
                raise PayloadTooLarge(f"body: expected at most {limit} bytes when decompressed, found more")
            parts.append(part)
            if not part and not rest and not unpack.eof:
                raise InvalidRequest(f"body: expected {coding} data to its end, found it cut short")
    except zlib.error as exc:
        raise InvalidRequest(f"body: expected {coding} data by Content-Encoding, found something else ({exc})") from exc
    if unpack.unused_data:
        raise InvalidRequest(f"body: expected nothing behind the {coding} data, found {len(unpack.unused_data)} bytes")
    return memoryview(b"".join(parts))


def packer(accept_encoding: bytes) -> Callable[[HttpAnswer], HttpAnswer] | None:
    """What compresses an answer as the client wishes; None: it is sent as it is.

    Only a header that names one coding is a wish. A list of several is what HTTP libraries send by themselves, and
    compressing tensors takes longer than sending them.
    """
    wish = _WISHES.get(accept_encoding)
    return None if wish is None else partial(_packed, wish)


def _packed(coding: str, answer: HttpAnswer) -> HttpAnswer:
    pack = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW_BITS[coding])
    parts: Sequence[Part] = [*(pack.compress(part) for part in answer.parts), pack.flush()]
    body = b"".join(parts)
    lines = _LENGTH.sub(b"content-length: %d\r\n" % len(body), answer.lines, count=1)
    return HttpAnswer(answer.status, lines, [body]).with_header(b"content-encoding", coding.encode())
