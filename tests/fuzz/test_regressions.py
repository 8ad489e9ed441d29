"""What was found by fuzzing, each as one small case."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from bridges.grpc.infer import Infer
from bridges.legacy.unpickling import loads
from bridges.rest.handlers import Handlers
from bridges.v2_regions import FOLDER, Place, Regions
from bridges.zmq.admission import Admission
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import InvalidRequest, PayloadTooLarge
from protos import inference_pb2 as pb
from tests.fuzz.engine import Tally, replay
from tests.fuzz.on_grpc import Context
from tests.fuzz.on_pickles import Pickles
from tests.fuzz.on_predict import Predict
from tests.fuzz.world import LIMITS, World

ONCE = "OUT.*expected once, found"
SPARSE_BYTES = 1 << 40
LIMIT_BYTES = 1 << 26
PROTOCOL = b"\x80\x04"
TEXT = b"X" + (4 << 20).to_bytes(4, "little") + b"a" * (4 << 20)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture
def sparse() -> Any:
    """A shared-memory object that is nearly all hole."""
    path = FOLDER / f"inferoxy-sparse-{os.getpid()}"
    path.touch()
    os.truncate(path, SPARSE_BYTES)
    yield path
    path.unlink()


def test_an_output_cannot_be_wanted_twice_over_rest(world: World) -> None:
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "OUT"}] * 1_000}).encode()
    handlers = Handlers(world.models, lambda: True, LIMITS)
    with pytest.raises(InvalidRequest, match=ONCE):
        handlers.v2.infer("rows", "", {}, memoryview(body), "r")


def test_an_output_cannot_be_wanted_twice_over_grpc(world: World) -> None:
    asked = pb.ModelInferRequest(model_name="rows", raw_input_contents=[bytes(16)])
    asked.inputs.add(name="IN", datatype="FP32", shape=[1, 4])
    for _ in range(1_000):
        asked.outputs.add(name="OUT")
    with pytest.raises(InvalidRequest, match=ONCE):
        Infer(world.models, LIMITS, Regions(is_allowed=False)).ask(asked, Context(), "r")


def test_an_output_cannot_be_wanted_twice_over_zeromq() -> None:
    payload = m.Payload([m.Tensor("IN", "FP32", (1, 4))], outputs=["OUT"] * 1_000)
    request = m.Request(id=1, model="rows", payload=wire.encode_payload(payload))
    with pytest.raises(InvalidRequest, match=ONCE):
        Admission(LIMITS).admit(request, [bytes(16)])


def test_a_sparse_object_is_not_read_beyond_the_limit_of_a_body(sparse: Path) -> None:
    regions = Regions(is_allowed=True, limit_bytes=LIMIT_BYTES)
    regions.register("r", sparse.name, 0, SPARSE_BYTES)
    try:
        with pytest.raises(PayloadTooLarge):
            regions.read(Place("r", SPARSE_BYTES, 0))
    finally:
        regions.unregister()


@pytest.mark.parametrize("body", [b'{"image": "\xff"}', b'{"images": ["\xff"]}', b'{"image": [[[1, \xff, 2]]]}'])
def test_a_picture_in_json_that_is_no_text_is_refused(body: bytes) -> None:
    given = [b"picture", b"", b"application/json", b"", body]
    found = replay(Predict(), given)
    assert (found.refused, found.crashes) == (1, [])


@pytest.mark.parametrize("times", [24, 60])
def test_a_pickle_that_doubles_a_value_is_refused_at_once(times: int) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequest):
        loads(PROTOCOL + b")" + b"2\x86" * times + b"\x8c\x01a\x93.", LIMIT_BYTES)
    assert time.monotonic() - began < 1.0


def test_a_pickle_nested_deep_where_a_name_or_shape_belongs_is_refused() -> None:
    deep = b")" + b"\x85" * 200_000
    shape = b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n\x8c\x02u1\x85R" + deep + b"\x8c\x01CtR."
    for program in (deep + b"\x8c\x01a\x93.", b"\x8c\x01a" + deep + b"\x93.", shape):
        with pytest.raises(InvalidRequest):
            loads(PROTOCOL + program, LIMIT_BYTES)


def test_a_pickle_cannot_have_more_made_than_its_limit() -> None:
    call = b"h\x01h\x00h\x02\x86R"
    program = TEXT + b"q\x000c_codecs\nencode\nq\x010\x8c\x06latin1q\x020(" + call * 300 + b"l."
    found: Tally = replay(Pickles(), [PROTOCOL + program])
    assert (found.refused, found.crashes) == (1, [])
