"""KServe's inference clients over REST and gRPC."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compat.callers import Caller, Raised
from tests.compat.models import BIG
from tests.integration.stack import Stack

ROWS = [{"name": "IN", "datatype": "FP32", "shape": [2, 4], "data": [1, 2, 3, 4, 5, 6, 7, 8]}]
SUMS = {"datatype": "FP32", "shape": [2, 1], "data": [[10], [26]]}
NUMBER = {"name": "IN", "datatype": "INT32", "shape": [1], "data": [3]}


@pytest.fixture(scope="module")
def forms(stack: Stack) -> Iterator[dict[str, Caller]]:
    with (
        Caller("kserve_client.py", "rest", stack.rest_url) as rest,
        Caller("kserve_client.py", "grpc", stack.grpc_address) as grpc,
    ):
        yield {"rest": rest, "grpc": grpc}


@pytest.fixture(params=("rest", "grpc"))
def kserve(request: pytest.FixtureRequest, forms: dict[str, Caller]) -> Caller:
    return forms[request.param]


def test_kserve_finds_the_server_live_and_ready(kserve: Caller) -> None:
    assert kserve.call("health") == [True, True]


def test_kserve_finds_a_model_ready(kserve: Caller) -> None:
    assert kserve.call("is_model_ready", model="scale") is True


def test_kserve_learns_that_a_model_is_not_there(kserve: Caller) -> None:
    found = kserve.attempt("is_model_ready", model="nosuch")
    assert found is False or found.status in ("404", "StatusCode.NOT_FOUND")


@pytest.mark.parametrize("binary_outputs", [True, False])
@pytest.mark.parametrize("binary", [True, False])
def test_kserve_gets_its_answers(kserve: Caller, binary: bool, binary_outputs: bool) -> None:
    # Over gRPC this client leaves its parameters `binary_data` and `binary_data_size` in.
    found = kserve.call(
        "infer", model="scale", inputs=ROWS, binary=binary, outputs=["SUM"], binary_outputs=binary_outputs,
        request_id="k-1",
    )  # fmt: skip
    version = "1" if kserve.is_grpc else None  # over REST this client does not read it
    assert found == {"id": "k-1", "model": "scale", "version": version, "outputs": {"SUM": SUMS}}


def test_kserve_gets_all_outputs_when_it_names_none(kserve: Caller) -> None:
    assert kserve.call("infer", model="scale", inputs=ROWS, binary=False)["outputs"].keys() == {"SCALED", "SUM"}


def test_kserve_sends_strings(kserve: Caller) -> None:
    words = [{"name": "WORDS", "datatype": "BYTES", "shape": [2], "data": ["one", "two"]}]
    for binary in (True, False):
        found = kserve.call("infer", model="words", inputs=words, binary=binary)["outputs"]
        assert found["LENGTH"]["data"] == [3, 3]
        assert found["UPPER"]["shape"] == [2]


def test_kserve_s_parameters_reach_the_model(kserve: Caller) -> None:
    given: dict[str, Any] = {"text": "x", "number": BIG, "yes": True}
    found = kserve.call("infer", model="told", inputs=[NUMBER], parameters=given)
    told = found["outputs"]["TOLD"]["data"][0]
    assert json.loads(told)["parameters"] == given


def test_kserve_runs_a_sequence(kserve: Caller) -> None:
    sums = []
    for start, end in ((True, False), (False, False), (False, True)):
        parameters = {"sequence_id": 4711, "sequence_start": start, "sequence_end": end}
        found = kserve.call("infer", model="sums", inputs=[NUMBER], parameters=parameters)
        sums.append(found["outputs"]["SUM"]["data"][0])
    assert sums == [3, 6, 9]


@pytest.mark.parametrize(
    ("model", "inputs", "text", "statuses"),
    [
        ("nosuch", ROWS, "nosuch", ("404", "StatusCode.NOT_FOUND")),
        ("scale", [NUMBER], "IN", ("400", "StatusCode.INVALID_ARGUMENT")),
    ],
    ids=["model", "datatype"],
)
def test_kserve_shows_the_server_s_text(
    kserve: Caller, model: str, inputs: list[Any], text: str, statuses: tuple[str, str]
) -> None:
    with pytest.raises(Raised, match=text) as caught:
        kserve.call("infer", model=model, inputs=inputs)
    assert caught.value.status in statuses
