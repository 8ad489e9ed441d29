"""pytriton's clients over HTTP and gRPC, which go by the model's configuration."""

import json
from collections.abc import Iterator

import pytest

from tests.compat.callers import Caller, Raised
from tests.integration.stack import Stack


@pytest.fixture(scope="module")
def forms(stack: Stack) -> Iterator[dict[str, Caller]]:
    with (
        Caller("pytriton_client.py", "http", stack.rest_url) as http,
        Caller("pytriton_client.py", "grpc", f"grpc://{stack.grpc_address}") as grpc,
    ):
        yield {"http": http, "grpc": grpc}


@pytest.fixture(params=("http", "grpc"))
def pytriton(request: pytest.FixtureRequest, forms: dict[str, Caller]) -> Caller:
    return forms[request.param]


def test_pytriton_adds_and_takes_off_the_batch_axis(pytriton: Caller) -> None:
    found = pytriton.call("model_client")
    assert (found["batching"], found["max_batch_size"], found["inputs"]) == (True, 8, [["IN", [4]]])
    assert found["sample"] == found["named"] == {"SCALED": [2, 4, 6, 8], "SUM": [10]}
    assert found["batch"] == {"SCALED": [[2, 4, 6, 8], [10, 12, 14, 16]], "SUM": [[10], [26]]}
    assert found["second version"]["SCALED"] == [3, 6, 9, 12]


def test_pytriton_sends_unbatched_requests_with_parameters(pytriton: Caller) -> None:
    given = {"text": "x", "number": 3, "yes": True}
    found = pytriton.call("unbatched", values=[5], parameters=given)
    assert found["batching"] is False
    assert json.loads(found["told"][0]) == {"in": 5, "parameters": given}


def test_pytriton_sends_strings(pytriton: Caller) -> None:
    assert pytriton.call("strings", words=["a", "bc"]) == {"UPPER": ["A", "BC"], "LENGTH": [1, 2]}


def test_pytriton_loads_waits_for_and_unloads_a_model(pytriton: Caller) -> None:
    assert pytriton.call("load_and_unload", model="scores") is None


def test_pytriton_says_that_a_model_is_unavailable(pytriton: Caller) -> None:
    with pytest.raises(Raised) as caught:
        pytriton.call("unknown")
    assert caught.value.kind in ("PyTritonClientModelUnavailableError", "PyTritonClientTimeoutError")


def test_pytriton_hands_the_server_s_text_on(pytriton: Caller) -> None:
    with pytest.raises(Raised, match="IN") as caught:
        pytriton.call("wrong")
    assert caught.value.kind == "PyTritonClientInferenceServerError"


def test_pytriton_s_futures_get_their_own_answers(forms: dict[str, Caller]) -> None:
    # Over gRPC its worker threads lose the scheme of the address, and speak HTTP to that port.
    assert forms["http"].call("futures", count=40) == [[4.0 * n] for n in range(40)]


def test_pytriton_s_asyncio_client_gets_its_own_answers(pytriton: Caller) -> None:
    assert pytriton.call("asyncio_client", count=40) == [*([4.0 * n] for n in range(40)), [[10], [10]]]


def test_pytriton_s_decoupled_client_gets_every_answer(forms: dict[str, Caller]) -> None:
    assert forms["grpc"].call("decoupled", values=[3, 1, 2]) == [[3], [1], [2]]


def test_pytriton_s_decoupled_asyncio_client_gets_every_answer(forms: dict[str, Caller]) -> None:
    assert forms["grpc"].call("decoupled_asyncio", values=[3, 1, 2]) == [[3], [1], [2]]
