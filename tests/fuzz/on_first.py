"""`POST /infer` of the first Inferoxy, up to its answer."""

from random import Random
from typing import Any, cast

import msgspec

from bridges.legacy.calls import Calls
from bridges.legacy.outputs import Given, failed
from bridges.link import Link
from bridges.rest import first
from inferoxy.errors import InferoxyError, InvalidRequest
from tests.fuzz.encodings import to_json
from tests.fuzz.links import WorldLink
from tests.fuzz.mutations import mutate_bytes, mutate_tree
from tests.fuzz.target import Input
from tests.fuzz.world import LIMITS, Fault

PICTURE = {"data": list(range(18)), "shape": [2, 3, 3], "datatype": "uint8", "parameters": {"stateless": True}}
CASES: tuple[dict[str, Any], ...] = (
    {"source_id": "camera", "model": "picture", "inputs": [PICTURE]},
    {"source_id": "camera", "model": "picture", "inputs": [{**PICTURE, "parameters": {"init": {"a": 1}}}, PICTURE]},
    {"source_id": "s", "model": "rows", "inputs": [{"data": [[1.5, 2, 3, 4]], "datatype": "fp32", "parameters": {}}]},
    {"source_id": "s", "model": "sum", "inputs": [{"data": [1, 2], "parameters": {}}, {"data": [3], "parameters": {}}]},
    {"source_id": "s", "model": "words", "inputs": [{"data": [True, False], "datatype": "bool", "parameters": {}}]},
    {"source_id": "s", "model": "cold", "inputs": [{"data": [[[0, 1, 2]]], "parameters": {"a": [1, None]}}]},
)


class First:
    """One body."""

    name = "first"

    def __init__(self) -> None:
        self._link = WorldLink()
        self._calls = Calls(cast(Link, self._link), LIMITS)

    def make(self, chance: Random) -> Input:
        """See Target."""
        tree = mutate_tree(chance.choice(CASES), chance, chance.choice((0, 1, 1, 2, 3)))
        body = to_json(tree, chance)
        return [mutate_bytes(body, chance, times=chance.randint(1, 2)) if chance.random() < 0.25 else body]

    def run(self, given: Input) -> None:
        """See Target. An input's error stands in its output, and counts as a refusal of the whole."""
        try:
            body = first.read_body(memoryview(given[0]))
        except first.Unprocessable as exc:
            msgspec.json.decode(b"".join(first.unprocessable(exc, "r-1").parts))
            raise InvalidRequest("422") from exc
        outputs: list[Given] = []
        ended = 0

        def on_output(output: Given | None, is_last: bool) -> None:
            nonlocal ended
            ended += is_last
            if output is not None:
                outputs.append(output)

        for sent in body.inputs:
            try:
                self._calls.begin(body.source_id, body.model, sent.sent(), "r-1", on_output)
            except InferoxyError as exc:
                on_output(failed(exc, sent.parameters), True)
            self._link.deliver()
        if ended != len(body.inputs):
            raise Fault(f"{ended} of {len(body.inputs)} inputs were answered")
        answered = b"".join(first.answer_parts(body, [first.encode_output(output) for output in outputs]))
        msgspec.json.decode(answered, type=_Answer)
        errors = [output.error for output in outputs if output.error is not None]
        if errors:
            raise InvalidRequest(errors[0])


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    shape: list[int] | None
    datatype: str | None
    data: list[int] | None
    output: Any
    parameters: dict[str, Any]
    error: str | None


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    source_id: str
    outputs: list[_Output]
