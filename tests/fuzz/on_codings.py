"""Compressed bodies."""

import zlib
from random import Random

from bridges.rest import coding
from inferoxy.errors import InvalidRequest
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.target import Input
from tests.fuzz.world import Fault

LIMIT_BYTES = 1 << 20
CODINGS = (b"gzip", b"deflate", b" GZIP ", b"identity", b"", b"br", b"gzip, gzip", b"\xff")
PLAIN = (b"", b"{}", b"ab" * 5_000, bytes(LIMIT_BYTES), bytes(LIMIT_BYTES + 1), bytes(LIMIT_BYTES * 40))


class Codings:
    """A Content-Encoding and a body."""

    name = "codings"

    def __init__(self) -> None:
        self._bodies = [_packed(plain, bits) for plain in PLAIN for bits in (zlib.MAX_WBITS, zlib.MAX_WBITS | 16)]

    def make(self, chance: Random) -> Input:
        """See Target."""
        body = chance.choice(self._bodies)
        if chance.random() < 0.7:
            body = mutate_bytes(body, chance, self._bodies, chance.randint(1, 3))
        wish = chance.choice(CODINGS) if chance.random() < 0.2 else CODINGS[body[:2] != b"\x1f\x8b"]
        return [wish, body]

    def run(self, given: Input) -> None:
        """See Target."""
        wish, body = given
        name = coding.coding_of(wish)
        coding.packer(wish)
        if not name:
            raise InvalidRequest("not compressed")
        if len(coding.decode(name, memoryview(body), LIMIT_BYTES)) > LIMIT_BYTES:
            raise Fault("more than the limit came out")


def _packed(plain: bytes, bits: int) -> bytes:
    pack = zlib.compressobj(1, zlib.DEFLATED, bits)
    return pack.compress(plain) + pack.flush()
