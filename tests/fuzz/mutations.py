"""What can be wrong with an input: with its bytes, and with the tree of values that it encodes.

Pure: all chance comes from the Random that is passed.
"""

import copy
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (
    0, 1, -1, 2, 3, 7, 255, 256, -128, 2**15, 2**16, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1, 2**62, 2**63 - 1,
    2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**30, 10**400,
    0.5, -0.0, 1e-320, 3.5e38, 1.8e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
INTEGERS = tuple(number for number in NUMBERS if isinstance(number, int))
TEXTS = (
    "", " ", "0", "1", "-1", "1e999", "true", "null", "nan", "\0", "a\r\nb: c", "ä€😀", "\ud800",
    "../../etc/passwd", "%00", "a" * 257, "a" * 70_000, "INT32", "BYTES", "FP16", "BF16", "BOOL", "UINT64", "image",
    "prediction", "picture", "jpeg",
)  # fmt: skip
WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
OPENERS = (b"[", b'{"a":', b'[{"a":', b"\x91", b"\x81\xa1a", b"\xdd\x00\x00\x00\x01", b"<", b"((((", b"\x0a\xff")
MAX_DEPTH = 20_000
SHALLOW = 60  # what recursive encoders of ours take
LONG = 300_000  # bytes, of runs

Tree = Any


def odd_value(chance: Random) -> Tree:
    """A value that stands where another is expected."""
    kind = chance.randrange(10)
    if kind < 4:
        return chance.choice(NUMBERS)
    if kind < 6:
        return chance.choice(TEXTS)
    if kind == 6:
        return nested(chance.choice(NUMBERS), chance.randint(1, SHALLOW), chance)
    if kind == 7:
        return [chance.choice(NUMBERS)] * chance.choice((0, 1, 2, 5, 400))
    if kind == 8:
        return {text: chance.choice(NUMBERS) for text in chance.sample(TEXTS, chance.randint(0, 3))}
    return chance.choice((None, True, False, b"", b"\xff\x00"))


def odd_like(value: Tree, chance: Random) -> Tree:
    """As a rule an odd value of the same type: it comes further than one that is refused for its type."""
    if chance.random() < 0.35:
        return odd_value(chance)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice(INTEGERS)
    if isinstance(value, str):
        return chance.choice(TEXTS)
    return chance.choice(NUMBERS) if isinstance(value, float) else odd_value(chance)


def nested(value: Tree, depth: int, chance: Random) -> Tree:
    """A value so many lists or objects deep."""
    for _ in range(depth):
        value = [value] if chance.random() < 0.7 else {chance.choice(TEXTS[:8]): value}
    return value


def mutate_tree(tree: Tree, chance: Random, times: int = 1) -> Tree:
    """The tree with something wrong at so many places."""
    holder = [copy.deepcopy(tree)]
    for _ in range(times):
        places: list[tuple[Any, Any]] = []
        _collect(holder, places)
        where, key = chance.choice(places)
        chance.choice(_TREE_CHANGES)(where, key, chance)
        if not holder:
            holder = [None]
    return holder[0]


def _collect(node: Any, places: list[tuple[Any, Any]]) -> None:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        places.append((node, key))
        if isinstance(value, dict | list):
            _collect(value, places)


def _replace(where: Any, key: Any, chance: Random) -> None:
    where[key] = odd_like(where[key], chance)


def _remove(where: Any, key: Any, chance: Random) -> None:
    del where[key]


def _again(where: Any, key: Any, chance: Random) -> None:
    if isinstance(where, list):
        where[key:key] = [copy.deepcopy(where[key]) for _ in range(chance.choice((1, 1, 2, 70)))]
    else:
        where[f"{key}{chance.choice(TEXTS[:6])}"] = copy.deepcopy(where[key])


def _deepen(where: Any, key: Any, chance: Random) -> None:
    where[key] = nested(where[key], chance.choice((1, 1, 2, SHALLOW)), chance)


def _vary(where: Any, key: Any, chance: Random) -> None:
    """Nearly what it was."""
    value = where[key]
    if isinstance(value, bool):
        where[key] = int(value)
    elif isinstance(value, int):
        where[key] = value + chance.choice((-1, 1, -value - 1, value, 2**32, 2**63)) if abs(value) < 2**80 else -value
    elif isinstance(value, float):
        where[key] = int(value) if abs(value) < 1e15 else str(value)
    elif isinstance(value, str):
        at = chance.randint(0, len(value))
        where[key] = value[:at] + chance.choice(TEXTS) + value[at:]
    elif isinstance(value, bytes):
        where[key] = mutate_bytes(value, chance)
    elif isinstance(value, list):
        where[key] = chance.choice((value[::-1], value[:-1], value * 2, dict.fromkeys(map(str, value))))
    elif isinstance(value, dict):
        where[key] = list(value.items()) if chance.random() < 0.5 else list(value)
    else:
        where[key] = odd_value(chance)


def _swap(where: Any, key: Any, chance: Random) -> None:
    other = chance.choice(list(where) if isinstance(where, dict) else range(len(where)))
    where[key], where[other] = where[other], where[key]


_TREE_CHANGES: tuple[Callable[[Any, Any, Random], None], ...] = (
    _replace, _replace, _replace, _vary, _vary, _vary, _remove, _again, _deepen, _swap,
)  # fmt: skip


def mutate_bytes(data: bytes, chance: Random, others: Sequence[bytes] = (), times: int = 1) -> bytes:
    """The bytes with so many things wrong; `others` are what they may be spliced with."""
    for _ in range(times):
        data = chance.choice(_BYTE_CHANGES)(data, chance, others)
    return data


def _flip(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _put_word(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """A length, an offset or a count is another: off by one, huge or negative."""
    size = chance.choice((1, 2, 4, 8))
    at = chance.randint(0, max(0, len(data) - size))
    order: Any = chance.choice(("little", "big"))
    found = int.from_bytes(data[at : at + size], order)
    word = chance.choice(WORDS) if chance.random() < 0.6 else found + chance.choice((-1, 1, len(data)))
    return data[:at] + (word % (1 << 8 * size)).to_bytes(size, order) + data[at + size :]


def _cut(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] if chance.random() < 0.6 else data[:at] + data[at + chance.randint(1, 40) :]


def _insert(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.randbytes(chance.choice((1, 2, 4, 30))) + data[at:]


def _insert_text(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.choice(TEXTS).encode("utf-8", "surrogatepass") + data[at:]


def _stretch(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """A piece of it again and again."""
    at = chance.randint(0, len(data))
    piece = data[at : at + chance.randint(1, 20)]
    times = chance.choice((2, 10, 1_000)) if chance.random() < 0.95 else LONG
    return data[:at] + (piece * times)[:LONG] + data[at:]


def _deep(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Nesting that never ends, or is closed like JSON."""
    depth = chance.choice((10, 500, 1_100, MAX_DEPTH))
    opener = chance.choice(OPENERS)
    closers = {ord("["): b"]", ord("{"): b"}"}
    closer = b"".join(closers[byte] for byte in reversed(opener) if byte in closers)
    at = chance.randint(0, len(data))
    return data[:at] + opener * depth + (b"1" + closer * depth if chance.random() < 0.6 else b"") + data[at:]


def _splice(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others) if others else data
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


_BYTE_CHANGES: tuple[Callable[[bytes, Random, Sequence[bytes]], bytes], ...] = (
    _flip, _flip, _flip, _put_word, _put_word, _put_word, _cut, _cut, _insert, _insert_text, _stretch, _splice, _splice,
    _deep,
)  # fmt: skip


def mutate_parts(parts: Sequence[bytes], chance: Random) -> list[bytes]:
    """The list with one part more, fewer, twice, or in another place."""
    changed = list(parts)
    kind = chance.randrange(4)
    if kind == 0:
        changed.insert(chance.randint(0, len(changed)), chance.randbytes(chance.choice((0, 1, 4, 64))))
    elif changed:
        at = chance.randrange(len(changed))
        if kind == 1:
            del changed[at]
        elif kind == 2:
            changed.insert(at, changed[at])
        else:
            changed.insert(chance.randrange(len(changed)), changed.pop(at))
    return changed
