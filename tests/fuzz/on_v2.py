"""Requests of the Open Inference Protocol over HTTP, and the answers to them."""

from random import Random
from typing import Any

from bridges.rest.v2_body import HEADER_LENGTH
from inferoxy.tensors import DTYPES, encode_strings
from tests.fuzz.encodings import to_json
from tests.fuzz.mutations import TEXTS, WORDS, mutate_bytes, mutate_tree
from tests.fuzz.pictures import corpus, mutate_picture
from tests.fuzz.rest import Rest
from tests.fuzz.target import Input
from tests.fuzz.world import KINDS

Tree = dict[str, Any]
Case = tuple[bytes, Tree, bytes]  # model, JSON part, binary part
CODINGS = (b"gzip, deflate", b"gzip", b"deflate", b"")  # as the binary part's size chooses
MODELS = (b"rows", b"kinds", b"words", b"picture", b"sum", b"cold", b"nothing")


class Infer:
    """A request with JSON and binary tensors."""

    name = "v2"

    def __init__(self) -> None:
        self._rest = Rest()
        self._pictures = corpus()
        self._cases = [*_plain_cases(), *_kind_cases(), *_picture_cases(self._pictures)]

    def make(self, chance: Random) -> Input:
        """See Target. The parts are model, version, Inference-Header-Content-Length, JSON part and binary part."""
        model, tree, blob = chance.choice(self._cases)
        scope = chance.random()
        if scope < 0.75:
            tree = mutate_tree(tree, chance, chance.choice((1, 1, 1, 2, 3)))
        head = to_json(tree, chance)
        if chance.random() < 0.2:
            head = mutate_bytes(head, chance, times=chance.randint(1, 2))
        if blob and chance.random() < 0.2:
            blob = mutate_picture(blob, chance, self._pictures)
        length = str(len(head)).encode() if blob or chance.random() < 0.2 else b""
        if chance.random() < 0.05:
            length = chance.choice((b"-1", b"0", b"+5", b"1e3", b"\xb2", b" 5", str(chance.choice(WORDS)).encode()))
        version = chance.choice((b"", b"1"))
        if chance.random() < 0.03:
            version = chance.choice(TEXTS).encode("utf-8", "surrogatepass")
        model = chance.choice(MODELS) if chance.random() < 0.03 else model
        return [model, version, length, head, blob]

    def run(self, given: Input) -> None:
        """See Target."""
        model, version, length, head, blob = given
        headers = {HEADER_LENGTH: length, b"accept-encoding": CODINGS[len(blob) % len(CODINGS)]}
        if not length:
            del headers[HEADER_LENGTH]
        body = memoryview(head + blob)
        handlers = self._rest.handlers.v2
        for _ in range(2):  # the second time it is known already
            exchange = handlers.infer(model.decode(), version.decode("latin-1"), headers, body, "r-1")
            self._rest.answer(exchange)


def tensor(name: str, datatype: str, shape: list[int], data: Any = None, size: int | None = None, **more: Any) -> Tree:
    """An input, with its data or the size of its binary data."""
    made: Tree = {"name": name, "datatype": datatype, "shape": shape, "parameters": dict(more)}
    if size is not None:
        made["parameters"]["binary_data_size"] = size
    else:
        made["data"] = data
    return made


def _plain_cases() -> list[Case]:
    rows = tensor("IN", "FP32", [1, 4], [1.5, -2, 3e10, 0])
    flags = {"binary_data_output": True, "priority": 2, "timeout": 1_000_000}
    words = encode_strings([b"ab", b"", "ä".encode()])
    step = {"sequence_id": 5, "sequence_start": True, "sequence_end": False}
    numbers = tensor("IN", "INT32", [2], [1, 2])
    return [
        (b"rows", {"id": "1", "inputs": [rows]}, b""),
        (b"rows", {"inputs": [tensor("IN", "FP32", [2, 4], [[1, 2, 3, 4], [5, 6, 7, 8]])], "parameters": flags}, b""),
        (b"rows", {"inputs": [tensor("IN", "FP32", [2, 4], size=32)], "parameters": flags}, bytes(32)),
        (b"rows", {"inputs": [tensor("IN", "FP32", [600, 4], size=9_600)], "outputs": [{"name": "OUT"}]}, bytes(9_600)),
        (b"rows", {"inputs": [rows], "outputs": [{"name": "OUT", "parameters": {"binary_data": True}}]}, b""),
        (b"rows", {"inputs": [rows], "outputs": [{"name": "OUT", "parameters": {"classification": 2}}]}, b""),
        (
            b"words",
            {"inputs": [tensor("WORDS", "BYTES", [3], ["a", "ü", ""])], "outputs": [{"name": "WORDS_OUT"}]},
            b"",
        ),
        (b"words", {"inputs": [tensor("WORDS", "BYTES", [3], size=len(words))], "parameters": {"a": [{}]}}, words),
        (b"cold", {"inputs": [rows], "parameters": {"x": 1.5}}, b""),
        (b"sum", {"inputs": [numbers], "parameters": step}, b""),
        (b"sum", {"inputs": [numbers], "parameters": step | {"sequence_id": "cam", "sequence_end": True}}, b""),
        (b"sum", {"inputs": [], "parameters": {"sequence_id": 5, "sequence_end": True}}, b""),
        (b"rows", {"inputs": [_placed("IN", "FP32", [1, 4])], "outputs": [{"name": "OUT"}]}, b""),
    ]


def _placed(name: str, datatype: str, shape: list[int]) -> Tree:
    """An input in shared memory."""
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 16, "shared_memory_offset": 0}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": place}


def _kind_cases() -> list[Case]:
    """All datatypes at once, in JSON and in binary."""
    items = {"BOOL": [True, False], "BYTES": ["a", "b"]}
    sizes = {kind: 2 * dtype.itemsize for kind, dtype in DTYPES.items()} | {"BYTES": 10}
    inputs = [tensor(kind, kind, [2], items.get(kind, [1, 2])) for kind in KINDS]
    binary = [tensor(kind, kind, [2], size=sizes[kind]) for kind in KINDS]
    blob = b"".join(encode_strings([b"a", b"b"]) if kind == "BYTES" else bytes(sizes[kind]) for kind in KINDS)
    wanted = [{"name": f"{kind}_OUT", "parameters": {"binary_data": at % 2 == 0}} for at, kind in enumerate(KINDS)]
    return [
        (b"kinds", {"inputs": inputs, "outputs": wanted}, b""),
        (b"kinds", {"inputs": inputs, "parameters": {"binary_data_output": True}}, b""),
        (b"kinds", {"inputs": binary}, blob),
    ]


def _picture_cases(pictures: list[bytes]) -> list[Case]:
    raw = tensor("image", "UINT8", [1, 2, 3, 3], size=18)
    wanted = [{"name": "prediction"}, {"name": "picture"}]
    made: list[Case] = [
        (b"picture", {"inputs": [raw], "outputs": wanted, "parameters": {"draw": "png"}}, bytes(18)),
        (b"picture", {"inputs": [tensor("image", "UINT8", [1, 1, 3], [1, 2, 3])]}, b""),
    ]
    for picture in pictures:
        blob = encode_strings([picture])
        made.append((b"picture", {"inputs": [tensor("", "BYTES", [1], size=len(blob))], "outputs": wanted[:1]}, blob))
    return made
