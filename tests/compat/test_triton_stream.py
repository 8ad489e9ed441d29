"""ModelStreamInfer by tritonclient.grpc (callbacks) and tritonclient.grpc.aio (iterators).

Only the former can ask for a mark on the last answer.
"""

import json
import time
from typing import Any

import pytest

from tests.compat.callers import Caller


def repeat(values: list[int], request_id: str = "", **options: Any) -> dict[str, Any]:
    inputs = [{"name": "IN", "datatype": "INT32", "shape": [len(values)], "data": values}]
    return {"model": "repeat", "inputs": inputs, "request_id": request_id, **options}


def number(model: str, value: int, request_id: str, **options: Any) -> dict[str, Any]:
    inputs = [{"name": "IN", "datatype": "INT32", "shape": [1], "data": [value]}]
    return {"model": model, "inputs": inputs, "request_id": request_id, **options}


def outs(answers: list[dict[str, Any]], request_id: str) -> list[int]:
    return [a["outputs"]["OUT"]["data"][0] for a in answers if a.get("id") == request_id and a["outputs"]]


def test_a_decoupled_model_answers_as_often_as_it_likes(grpc: Caller) -> None:
    found = grpc.call("stream", requests=[repeat([1, 2, 3], "a")], answers=3)
    assert outs(found, "a") == [1, 2, 3]


def test_the_last_answer_is_marked_for_those_who_ask(callers: dict[str, Caller]) -> None:
    request = repeat([7, 8], "a", enable_empty_final_response=True)
    found = callers["grpc"].call("stream", requests=[request], answers=-1)
    assert [a["parameters"].get("triton_final_response") for a in found] == [False, False, True]
    assert outs(found, "a") == [7, 8]
    assert found[-1]["id"] == "a"
    assert found[-1]["outputs"] == {}


def test_no_answer_at_all_is_only_the_mark(callers: dict[str, Caller]) -> None:
    found = callers["grpc"].call("stream", requests=[repeat([], "a", enable_empty_final_response=True)], answers=1)
    assert (found[0]["outputs"], found[0]["parameters"]["triton_final_response"]) == ({}, True)


def test_half_closing_waits_for_all_answers(grpc: Caller) -> None:
    requests = [repeat([n, n + 10], str(n), parameters={"sleep_s": 0.05}) for n in range(4)]
    found = grpc.call("stream", requests=requests, answers=-1)
    assert len(found) == 8
    for n in range(4):
        assert outs(found, str(n)) == [n, n + 10]


def test_an_ordinary_model_answers_once_on_a_stream(grpc: Caller) -> None:
    found = grpc.call("stream", requests=[number("told", n, str(n), parameters={"n": n}) for n in range(5)], answers=-1)
    told = {a["id"]: json.loads(a["outputs"]["TOLD"]["data"][0]) for a in found}
    assert told == {str(n): {"in": n, "parameters": {"n": n}} for n in range(5)}


def test_an_ordinary_model_s_answer_is_marked_as_the_last_for_those_who_ask(callers: dict[str, Caller]) -> None:
    found = callers["grpc"].call(
        "stream", requests=[number("told", 1, "a", enable_empty_final_response=True)], answers=-1
    )
    assert found[-1]["parameters"]["triton_final_response"] is True
    assert [a["id"] for a in found] == ["a"] * len(found)
    assert sum(bool(a["outputs"]) for a in found) == 1


def test_a_bad_request_is_answered_in_the_stream_which_goes_on(grpc: Caller) -> None:
    requests = [
        number("told", 1, "good"),
        number("nosuch", 2, "bad"),
        {**number("told", 3, "wrong"), "inputs": []},
        number("told", 4, "angry", parameters={"anger": 9}),
        number("told", 5, "good too"),
    ]
    found = grpc.call("stream", requests=requests, answers=-1)
    assert len(found) == 5
    assert {a["id"] for a in found if "raised" not in a} == {"good", "good too"}
    texts = " | ".join(a["message"] for a in found if "raised" in a)
    assert "nosuch" in texts
    assert "inputs" in texts
    assert "anger 9" in texts


def test_an_error_after_some_answers_ends_the_request_only(grpc: Caller) -> None:
    requests = [repeat([1, 2, 3], "a", parameters={"fail_after": 2}), repeat([5], "b")]
    found = grpc.call("stream", requests=requests, answers=-1)
    assert outs([a for a in found if "raised" not in a], "a") == [1, 2]
    assert outs([a for a in found if "raised" not in a], "b") == [5]
    [message] = [a["message"] for a in found if "raised" in a]
    assert message.endswith("failed after 2")


@pytest.mark.parametrize("sequence_id", [77, 2**53 + 1, "stream"], ids=str)
def test_steps_of_a_sequence_run_and_answer_in_the_order_sent(grpc: Caller, sequence_id: int | str) -> None:
    requests = [
        number("sums", n, str(n), sequence_id=sequence_id, sequence_start=n == 1, sequence_end=n == 50)
        for n in range(1, 51)
    ]
    found = grpc.call("stream", requests=requests, answers=-1)
    assert [a["id"] for a in found] == [str(n) for n in range(1, 51)]
    assert [a["outputs"]["SUM"]["data"][0] for a in found] == [n * (n + 1) // 2 for n in range(1, 51)]


def test_sequences_on_one_stream_do_not_mix(grpc: Caller) -> None:
    requests = [
        number("sums", 10**s, f"{s} {n}", sequence_id=900 + s, sequence_start=n == 1, sequence_end=n == 6)
        for n in range(1, 7)
        for s in range(3)
    ]
    found = grpc.call("stream", requests=requests, answers=-1)
    for s in range(3):
        mine = [a for a in found if a["id"].startswith(f"{s} ")]
        assert [a["outputs"]["SUM"]["data"][0] for a in mine] == [n * 10**s for n in range(1, 7)]


def test_a_cancelled_stream_takes_back_what_has_not_begun(grpc: Caller) -> None:
    requests = [repeat([n], str(n), parameters={"sleep_s": 0.4}) for n in range(12)]
    found = grpc.call("stream", requests=requests, answers=1, cancel=True)
    assert outs(found, "0") == [0]
    began = time.monotonic()
    assert outs(grpc.call("stream", requests=[repeat([99], "after")], answers=1), "after") == [99]
    assert time.monotonic() - began < 2.5


def test_a_stream_takes_many_requests(grpc: Caller) -> None:
    requests = [number("told", n, str(n)) for n in range(600)]
    found = grpc.call("stream", requests=requests, answers=-1)
    assert sorted(int(a["id"]) for a in found) == list(range(600))
