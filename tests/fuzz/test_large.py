"""Much of everything, in bodies that may be so large: refused or served, but soon, and in bounded memory."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from bridges.zmq.admission import Admission
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.tensors import check_outputs
from protos import inference_pb2 as pb
from tests.fuzz import engine
from tests.fuzz.engine import replay
from tests.fuzz.on_grpc import Infers
from tests.fuzz.on_predict import Predict
from tests.fuzz.on_v2 import Infer
from tests.fuzz.target import Input
from tests.fuzz.world import LIMITS

MANY = 100_000
ROW: dict[str, Any] = {"name": "IN", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
WIDE = [2**62] * MANY
PART = b'--a\r\nContent-Disposition: form-data; name="x"; filename="y"'


def v2(model: bytes = b"cold", **content: Any) -> tuple[type[Any], Input]:
    return Infer, [model, b"", b"", json.dumps(content).encode(), b""]


def image(value: Any) -> tuple[type[Any], Input]:
    return Predict, [b"picture", b"", b"application/json", b"", json.dumps({"image": value}).encode()]


def form(body: bytes) -> tuple[type[Any], Input]:
    return Predict, [b"picture", b"", b"multipart/form-data; boundary=a", b"", body]


CASES: dict[str, Callable[[], tuple[type[Any], Input]]] = {
    "inputs": lambda: v2(inputs=[{**ROW, "name": f"i{at}"} for at in range(MANY // 2)]),
    "outputs": lambda: v2(inputs=[ROW], outputs=[{"name": f"o{at}"} for at in range(MANY)]),
    "parameters": lambda: v2(inputs=[ROW], parameters={f"p{at}": at for at in range(MANY)}),
    "dimensions of one": lambda: v2(inputs=[{**ROW, "shape": [1] * MANY, "data": [1]}]),
    "wide dimensions": lambda: v2(inputs=[{**ROW, "shape": WIDE, "data": [1]}]),
    "some wide dimensions": lambda: v2(inputs=[{**ROW, "shape": WIDE[:300], "data": [1]}]),
    "wide dimensions and none": lambda: v2(inputs=[{**ROW, "shape": [*WIDE, 0], "data": []}]),
    "lists in data": lambda: v2(inputs=[{**ROW, "shape": [1, MANY], "data": [[1]] * MANY}]),
    "strings for a picture": lambda: image(["a" * 1_000_000, *["b"] * 30_000]),
    "lists for a picture": lambda: image([[]] * 1_000_000),
    "uneven rows": lambda: image([[[1, 2, 3]] * 400] * 400 + [[1]]),
    "parts": lambda: form((PART + b"\r\n\r\nv\r\n") * MANY + b"--a--\r\n"),
    "nearly boundaries": lambda: form(PART + b"\r\n\r\n" + b"\r\n--" * 5_000_000 + b"\r\n--a--\r\n"),
    "parameters of a header": lambda: form(PART + b'; a="b"' * MANY + b"\r\n\r\nv\r\n--a--\r\n"),
    "backslashes": lambda: form(PART[:-1] + b'\\"' * MANY + b"\r\n\r\nv\r\n--a--\r\n"),
}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these cases are about takes minutes; a second more is a busy machine."""
    monkeypatch.setattr(engine, "HANG_S", 8.0)


@pytest.mark.parametrize("case", CASES)
def test_a_large_body_is_dealt_with_soon(case: str) -> None:
    target, given = CASES[case]()
    assert not replay(target(), given).crashes


@pytest.mark.parametrize("dimensions", [300, MANY])
def test_wide_shapes_are_refused_over_grpc_and_zeromq(dimensions: int) -> None:
    asked = pb.ModelInferRequest(model_name="cold", raw_input_contents=[bytes(16)])
    asked.inputs.add(name="IN", datatype="FP32", shape=WIDE[:dimensions])
    found = replay(Infers(), [asked.SerializeToString()])
    assert (found.refused, found.crashes) == (1, [])
    payload = wire.encode_payload(m.Payload([m.Tensor("IN", "FP32", tuple(WIDE[:dimensions]))]))
    found = replay(_Admitted(), [bytes(payload), bytes(16)])
    assert (found.refused, found.crashes) == (1, [])


def test_an_output_that_is_named_again_behind_many_is_found_soon() -> None:
    found = replay(_Outputs(), [b""])
    assert (found.refused, found.crashes) == (1, [])


class _Admitted:
    name = "admitted"

    def make(self, chance: Any) -> Input:
        return []

    def run(self, given: Input) -> None:
        Admission(LIMITS).admit(m.Request(id=1, model="cold", payload=Raw(given[0])), given[1:])


class _Outputs(_Admitted):
    def run(self, given: Input) -> None:
        names = [f"o{at}" for at in range(MANY)]
        check_outputs([*names, names[-1]])
