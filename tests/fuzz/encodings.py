"""Trees of values as bytes, tolerant encoders: what is not allowed is written all the same."""

import json
import struct
from random import Random
from typing import Any

from msgspec import Raw


def to_json(tree: Any, chance: Random) -> bytes:
    """As JSON, with NaN, huge integers and lone surrogates in it where the tree has them."""
    text = json.dumps(tree, default=_json_default, ensure_ascii=chance.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def _json_default(value: Any) -> Any:
    return bytes(value).decode("latin-1")


def to_msgpack(tree: Any) -> bytes:
    """As msgpack. Raw stands for bytes that are encoded already; what does not fit is cut to 64 bits."""
    if isinstance(tree, Raw):
        return bytes(tree)
    if tree is None or isinstance(tree, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[tree]
    if isinstance(tree, int):
        if 0 <= tree < 128:
            return bytes((tree,))
        return b"\xd3" + struct.pack(">q", max(tree, -(2**63))) if tree < 0 else b"\xcf" + (tree % 2**64).to_bytes(8)
    if isinstance(tree, float):
        return b"\xcb" + struct.pack(">d", tree)
    if isinstance(tree, str):
        data = tree.encode("utf-8", "surrogatepass")
        return (bytes((0xA0 | len(data),)) if len(data) < 32 else b"\xdb" + len(data).to_bytes(4)) + data
    if isinstance(tree, bytes):
        return b"\xc6" + len(tree).to_bytes(4) + tree
    if isinstance(tree, dict):
        head = bytes((0x80 | len(tree),)) if len(tree) < 16 else b"\xdf" + len(tree).to_bytes(4)
        return head + b"".join(to_msgpack(key) + to_msgpack(value) for key, value in tree.items())
    if len(tree) < 16:
        head = bytes((0x90 | len(tree),))
    else:
        head = b"\xdc" + len(tree).to_bytes(2) if len(tree) < 2**16 else b"\xdd" + len(tree).to_bytes(4)
    return head + b"".join(map(to_msgpack, tree))
