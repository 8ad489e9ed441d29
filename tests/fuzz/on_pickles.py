"""Pickles as clients of the first Inferoxy send them, and what can be said in the language that pickles are."""

import pickle
import pickletools
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np

from bridges.legacy.unpickling import loads
from tests.fuzz.mutations import NUMBERS, TEXTS, mutate_bytes
from tests.fuzz.target import Input

LIMIT_BYTES = 1 << 22
LONG = 200_000  # bytes, of a text that is named again and again
MANY = 4_000
# Whole instructions that are put between others: values, groups, and values out of the values before them.
PIECES = (
    b"N", b"\x88", b"K\x05", b"J\xff\xff\xff\xff", b"\x8a\x09" + b"\xff" * 9, b"G\x7f\xf8" + bytes(6), b"]", b"}",
    b")", b"(", b"\x8c\x01a", b"C\x02ab", b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"l", b"d", b"0",
    b"1", b"2", b"R", b"b", b"\x93", b"\x94", b"h\x00", b"h\x01", b"q\x00", b"cos\nsystem\n", b"cbuiltins\neval\n",
    b"cnumpy\ndtype\n",
    b"cnumpy.core.multiarray\nscalar\n", b"cnumpy._core.numeric\n_frombuffer\n", b"c_codecs\nencode\n",
    b"\x95" + b"\xff" * 8,
)  # fmt: skip
GROWTH = (b"2\x86", b"\x85", b"2l", b"2a", b"2\x87", b"(22t", b"]2a")  # one value becomes another, larger or deeper


class Pickles:
    """One pickle."""

    name = "pickles"

    def __init__(self) -> None:
        self._programs = [_instructions(data) for data in _corpus()]

    def make(self, chance: Random) -> Input:
        """See Target."""
        program = list(chance.choice(self._programs))
        for _ in range(chance.choice((0, 1, 1, 2, 3))):
            at = chance.randrange(len(program))
            kind = chance.randrange(8)
            if kind == 0:
                del program[at]
            elif kind == 1:
                program.insert(at, program[chance.randrange(len(program))])
            elif kind == 2:
                program[at] = mutate_bytes(program[at], chance)
            elif kind == 3:
                other = chance.choice(self._programs)
                program[at:at] = other[chance.randrange(len(other)) :][: chance.randint(1, 6)]
            elif kind == 4:
                program.insert(at, chance.choice(GROWTH) * chance.choice((3, 40, MANY)))
            elif kind == 5:
                program.insert(at, _repeated_call(chance))
            else:
                program.insert(at, chance.choice(PIECES))
            program = program or [b"."]
        data = b"".join(program)
        return [mutate_bytes(data, chance) if chance.random() < 0.15 else data]

    def run(self, given: Input) -> None:
        """See Target."""
        loads(given[0], LIMIT_BYTES)


def _instructions(data: bytes) -> list[bytes]:
    starts = [*(at for _, _, at in pickletools.genops(data) if at is not None), len(data)]
    return [data[start:stop] for start, stop in pairwise(starts)]


def _repeated_call(chance: Random) -> bytes:
    """A function called again and again with one large argument."""
    text = b"X" + LONG.to_bytes(4, "little") + b"a" * LONG
    keep = text + b"q\xf00c_codecs\nencode\nq\xf10\x8c\x06latin1q\xf20("
    return keep + b"h\xf1h\xf0h\xf2\x86R" * chance.choice((2, 100, MANY)) + b"l"


def _corpus() -> list[bytes]:
    """Pickles of what clients send, in every protocol."""
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    arrays: list[Any] = [
        picture, np.asfortranarray(picture), picture.transpose(1, 0, 2), np.arange(3, dtype=">f4"), np.bool_(True),
        np.float16(0.5), np.zeros((0, 3)), np.array(7),
    ]  # fmt: skip
    shared = [1, 2, 3]
    values: list[Any] = [
        {
            "source_id": "camera-1",
            "model": "detector",
            "inputs": [{"data": picture, "shape": [2, 4, 3], "datatype": "uint8", "parameters": {"stateless": True}}],
        },
        {"source_id": "é", "inputs": [{"data": shared, "parameters": {"a": shared, "b": (1, 2.5, None, b"x")}}]},
        [*arrays],
        {"numbers": [n for n in NUMBERS if abs(n) < 2**63], "texts": [t for t in TEXTS if t.isascii()][:12]},
        {"bytes": b"ab" * 200, "array": bytearray(b"cd"), "nested": [[[({},)]]]},
    ]
    return [pickle.dumps(value, protocol) for value in values for protocol in range(6)]
