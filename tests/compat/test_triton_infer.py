"""Inference by tritonclient in its four forms: every datatype, form of data, option and refusal."""

import json
import math
import threading
import time
from typing import Any

import pytest

from tests.compat.callers import Caller, Raised
from tests.compat.models import BIG, DATATYPES
from tests.compat.questions import ONE, ROW, number, row, status

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    "UINT8": [0, 1, 255],
    "UINT16": [0, 1, 2**16 - 1],
    "UINT32": [0, 1, 2**32 - 1],
    "UINT64": [0, BIG, 2**64 - 1],
    "INT8": [-128, 0, 127],
    "INT16": [-(2**15), 0, 2**15 - 1],
    "INT32": [-(2**31), 0, 2**31 - 1],
    "INT64": [-(2**63), BIG, 2**63 - 1],
    "FP16": [-0.5, 1.5, 65504.0],
    "BF16": [-0.5, 1.5, 3.0],
    "FP32": [0.10000000149011612, -1.1754943508222875e-38, 3.4028234663852886e38],
    "FP64": [0.1, -1e-300, 1.7976931348623157e308],
    "BYTES": ["", "text", "\u00e9\x00\xff"],
}
TEXT = ["", "text", "more text"]  # JSON carries text only
ONLY_BINARY = {"FP16", "BF16"}


def everything(datatypes: tuple[str, ...] = DATATYPES, **form: Any) -> list[dict[str, Any]]:
    values = VALUES | ({"BYTES": TEXT} if form.get("json") else {})
    return [{"name": name, "datatype": name, "shape": [3], "data": values[name], **form} for name in datatypes]


def told(found: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(found["outputs"]["TOLD"]["data"][0])
    return answer


def test_every_datatype_goes_there_and_back_unchanged(triton: Caller) -> None:
    found = triton.call("infer", model="everything", inputs=everything())
    for name in DATATYPES:
        output = found["outputs"][f"{name}_OUT"]
        assert (output["datatype"], output["shape"], output["data"]) == (name, [3], VALUES[name])


@pytest.mark.parametrize("answer", ["binary", "json"])
@pytest.mark.parametrize("question", ["binary", "json"])
def test_over_http_data_stands_in_json_or_behind_it_both_ways(http: Caller, question: str, answer: str) -> None:
    inputs = []
    for tensor in everything():
        is_json = question == "json" and tensor["name"] not in ONLY_BINARY
        inputs += everything((tensor["name"],), json=True) if is_json else [tensor]
    outputs: list[dict[str, Any]] = [
        {"name": f"{name}_OUT", "binary": answer == "binary" or name in ONLY_BINARY}
        for name in DATATYPES
        if question == "json" or answer == "binary" or name != "BYTES"
    ]
    found = http.call("infer", model="everything", inputs=inputs, outputs=outputs)["outputs"]
    assert list(found) == [output["name"] for output in outputs]
    for name in (output["name"].removesuffix("_OUT") for output in outputs):
        values = TEXT if name == "BYTES" and question == "json" else VALUES[name]
        assert found[f"{name}_OUT"]["data"] == values, name


def test_over_http_bytes_that_are_no_text_have_no_json_form(http: Caller) -> None:
    outputs = [{"name": "BYTES_OUT", "binary": False}]
    with pytest.raises(Raised, match="BYTES_OUT") as caught:
        http.call("infer", model="everything", inputs=everything(), outputs=outputs)
    assert caught.value.status == "400"


def test_over_http_forms_may_be_mixed_in_one_request(http: Caller) -> None:
    inputs = everything()
    inputs[7] = everything(("INT32",), json=True)[0]
    outputs = [{"name": "INT32_OUT", "binary": True}, {"name": "FP64_OUT", "binary": False}, {"name": "BYTES_OUT"}]
    found = http.call("infer", model="everything", inputs=inputs, outputs=outputs)["outputs"]
    assert {name: output["data"] for name, output in found.items()} == {
        "INT32_OUT": VALUES["INT32"], "FP64_OUT": VALUES["FP64"], "BYTES_OUT": VALUES["BYTES"],
    }  # fmt: skip


def test_empty_tensors_are_tensors(triton: Caller) -> None:
    inputs = [{**tensor, "shape": [0], "data": []} for tensor in everything()]
    found = triton.call("infer", model="everything", inputs=inputs)["outputs"]
    assert all((output["shape"], output["data"]) == ([0], []) for output in found.values())


def test_only_wanted_outputs_are_answered(triton: Caller) -> None:
    both = triton.call("infer", model="scale", inputs=row(1, 2, 3, 4))
    assert both["outputs"].keys() == {"SCALED", "SUM"}
    one = triton.call("infer", model="scale", inputs=row(1, 2, 3, 4), outputs=[{"name": "SUM"}])
    assert {name: output["data"] for name, output in one["outputs"].items()} == {"SUM": [[10.0]]}


def test_the_request_s_id_and_the_model_s_name_and_version_come_back(triton: Caller) -> None:
    found = triton.call("infer", model="scale", inputs=row(1, 2, 3, 4), request_id='a "7" \u00e9/\u2603')
    assert found["id"] == 'a "7" \u00e9/\u2603'
    assert (found["model_name"], found["model_version"]) == ("scale", "1")
    assert triton.call("infer", model="scale", inputs=row(1, 2, 3, 4))["id"] == ""


def test_versions_are_asked_for(triton: Caller) -> None:
    found = [
        triton.call("infer", model="scale", inputs=row(1, 2, 3, 4), model_version=version) for version in ("1", "2")
    ]
    assert [each["outputs"]["SCALED"]["data"] for each in found] == [[[2, 4, 6, 8]], [[3, 6, 9, 12]]]
    assert [each["model_version"] for each in found] == ["1", "2"]


def test_rows_of_a_batch_stay_in_order(triton: Caller) -> None:
    found = triton.call("infer", model="scale", inputs=row(*range(32)))
    assert found["outputs"]["SCALED"]["data"] == [[2.0 * (4 * i + j) for j in range(4)] for i in range(8)]


def test_parameters_reach_the_model_with_their_types(triton: Caller) -> None:
    given = {"text": "a\u00e9", "number": BIG, "negative": -3, "yes": True, "half": 0.5}
    found = told(triton.call("infer", model="told", inputs=number(7), parameters=given))
    assert found == {"in": 7, "parameters": given}
    assert type(found["parameters"]["yes"]) is bool


def test_what_is_for_the_server_does_not_reach_the_model(triton: Caller) -> None:
    found = triton.call(
        "infer", model="told", inputs=number(), priority=1, timeout=20_000_000, sequence_id=5, sequence_start=True,
        request_id="r",
    )  # fmt: skip
    assert told(found)["parameters"] == {}


@pytest.mark.parametrize(("form", "status"), [("http", "503"), ("grpc", "StatusCode.UNAVAILABLE")])
def test_a_request_whose_time_is_over_in_the_queue_is_refused_as_unavailable(
    callers: dict[str, Caller], form: str, status: str
) -> None:
    with callers[form].another() as busy:
        busy.call("infer", model="told", inputs=number())
        slow = {"model": "told", "inputs": number(), "parameters": {"sleep_s": 2.5}}
        occupying = threading.Thread(target=lambda: busy.call("infer", **slow))
        occupying.start()
        time.sleep(0.5)
        began = time.monotonic()
        with pytest.raises(Raised) as caught:
            callers[form].call("infer", model="told", inputs=number(), timeout=100_000)
        assert time.monotonic() - began < 1.5
        occupying.join()
    assert caught.value.status == status


def test_a_grpc_call_s_deadline_is_kept(grpc: Caller) -> None:
    began = time.monotonic()
    with pytest.raises(Raised) as caught:
        grpc.call("infer", model="told", inputs=number(), parameters={"sleep_s": 1.5}, client_timeout=0.3)
    assert caught.value.status == "StatusCode.DEADLINE_EXCEEDED"
    assert time.monotonic() - began < 1.2


def test_cancelled_grpc_calls_leave_the_queue(grpc: Caller) -> None:
    slow = {"model": "told", "inputs": number(), "parameters": {"sleep_s": 0.5}}
    assert grpc.call("cancelled", requests=[slow] * 8) == ["StatusCode.CANCELLED"] * 8
    began = time.monotonic()
    grpc.call("infer", model="told", inputs=number())
    assert time.monotonic() - began < 2.5  # what had begun, not all eight


def test_a_grpc_client_may_send_keepalive_pings(grpc: Caller) -> None:
    assert grpc.call("with_pings", pause_s=1.2, request={"model": "scale", "inputs": [ROW]}) == [True, True]


def test_over_http_query_and_headers_do_no_harm(http: Caller) -> None:
    found = http.call("infer", model="scale", inputs=[ROW], query_params={"a": "b c"}, headers={"X-Own": "1"})
    assert found["outputs"]["SUM"]["data"] == [[10.0]]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_over_http_requests_and_answers_are_compressed(http: Caller, algorithm: str) -> None:
    found = http.call(
        "infer", model="scale", inputs=row(*range(32)), request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )  # fmt: skip
    assert found["outputs"]["SCALED"]["data"][7] == [56.0, 58.0, 60.0, 62.0]
    asked_in_json = [{**row(*range(32))[0], "json": True}]
    found = http.call(
        "infer", model="scale", inputs=asked_in_json, outputs=[{"name": "SUM", "binary": False}],
        request_compression_algorithm=algorithm, response_compression_algorithm=algorithm,
    )  # fmt: skip
    assert found["outputs"]["SUM"]["data"][0] == [6.0]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_over_http_errors_to_compressed_requests_are_readable(http: Caller, algorithm: str) -> None:
    with pytest.raises(Raised, match="nosuch"):
        http.call(
            "infer", model="nosuch", inputs=row(1, 2, 3, 4), request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )  # fmt: skip


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_grpc_messages_are_compressed(grpc: Caller, algorithm: str) -> None:
    found = grpc.call("infer", model="scale", inputs=row(*range(32)), compression_algorithm=algorithm)
    assert found["outputs"]["SUM"]["data"][0] == [6.0]


def test_a_tensor_of_32_mib_goes_there_and_back(triton: Caller) -> None:
    found = triton.call("infer_zeros", model="mirror", name="IN", datatype="FP32", shape=[2**23])
    assert found == {"OUT": [2**23]}


def test_classification_gives_the_best_with_their_places(triton: Caller) -> None:
    inputs = [{"name": "IN", "datatype": "FP32", "shape": [2, 5], "data": [0, 3, 1, 2, -1, 9, 8, 7, 6, 5]}]
    found = triton.call("infer", model="scores", inputs=inputs, outputs=[{"name": "OUT", "classes": 2}])
    output = found["outputs"]["OUT"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert [[(float(v), int(i)) for v, i in (each.split(":")[:2] for each in line)] for line in output["data"]] == [
        [(3.0, 1), (2.0, 3)], [(9.0, 0), (8.0, 1)],
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["http", "grpc"])
def test_the_first_request_of_a_model_s_life_is_classified_by_rows(callers: dict[str, Caller], form: str) -> None:
    inputs = [{"name": "IN", "datatype": "FP32", "shape": [2, 5], "data": list(range(10))}]
    found = callers[form].call("infer", model=f"fresh-{form}", inputs=inputs, outputs=[{"name": "OUT", "classes": 1}])
    assert found["outputs"]["OUT"]["shape"] == [2, 1]


def test_many_requests_at_once_get_their_own_answers(triton: Caller) -> None:
    requests = [{"model": "scale", "inputs": row(n, n, n, n), "request_id": str(n)} for n in range(64)]
    found = triton.call("infer_many", requests=requests)
    assert [(each["id"], each["outputs"]["SUM"]["data"]) for each in found] == [
        (str(n), [[4.0 * n]]) for n in range(64)
    ]


def test_one_bad_request_among_many_harms_no_other(triton: Caller) -> None:
    requests = [
        {"model": "told", "inputs": number(n), "parameters": {"anger": n} if n == 3 else {"n": n}} for n in range(8)
    ]
    found = triton.call("infer_many", requests=requests)
    assert found[3]["raised"] == "InferenceServerException"
    assert "anger 3 \u00e9" in found[3]["message"]
    assert [told(each)["in"] for n, each in enumerate(found) if n != 3] == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("request_", "names", "code", "http_status"),
    [
        ({"model": "nosuch", "inputs": row(1, 2, 3, 4)}, "nosuch", "NOT_FOUND", "404"),
        ({"model": "scale", "inputs": row(1, 2, 3, 4), "model_version": "9"}, "9", "NOT_FOUND", "404"),
        ({"model": "scale", "inputs": []}, "inputs", "INVALID_ARGUMENT", "400"),
        ({"model": "scale", "inputs": [{**ROW, "name": "X"}]}, "X", "INVALID_ARGUMENT", "400"),
        ({"model": "scale", "inputs": [{**ROW, "datatype": "INT32"}]}, "INT32", "INVALID_ARGUMENT", "400"),
        ({"model": "scale", "inputs": [{**ROW, "shape": [4]}]}, "IN", "INVALID_ARGUMENT", "400"),
        ({"model": "scale", "inputs": [{**ROW, "shape": [2, 2]}]}, "IN", "INVALID_ARGUMENT", "400"),
        ({"model": "scale", "inputs": row(*range(36))}, "9", "INVALID_ARGUMENT", "400"),
        ({"model": "scale", "inputs": row(1, 2, 3, 4) * 2}, "IN", "INVALID_ARGUMENT", "400"),
        ({"model": "scale", "inputs": row(1, 2, 3, 4), "outputs": [{"name": "X"}]}, "X", "INVALID_ARGUMENT", "400"),
        ({"model": "told", "inputs": number(), "parameters": {"anger": 1}}, "anger 1 \u00e9", "INTERNAL", "500"),
        ({"model": "repeat", "inputs": [{**ONE, "shape": [2], "data": [1, 2]}]}, "repeat", "UNIMPLEMENTED", "501"),
    ],
    ids=[
        "model", "version", "no input", "input's name", "datatype", "dimensions", "shape", "batch too large",
        "input twice", "output's name", "model raises", "decoupled model",
    ],
)  # fmt: skip
def test_a_refusal_has_a_text_and_the_status_these_clients_expect(
    triton: Caller, request_: dict[str, Any], names: str, code: str, http_status: str
) -> None:
    with pytest.raises(Raised) as caught:
        triton.call("infer", **request_)
    assert caught.value.kind == "InferenceServerException"
    assert names in caught.value.message
    assert caught.value.status == status(triton, code, http_status)
    assert triton.call("infer", model="scale", inputs=row(1, 1, 1, 1))["outputs"]["SUM"]["data"] == [[4.0]]


def test_numbers_that_json_does_not_have_come_back(triton: Caller) -> None:
    inputs = row(math.inf, -math.inf, math.nan, 1)
    found = triton.call("infer", model="scale", inputs=inputs)
    first, second, third, fourth = found["outputs"]["SCALED"]["data"][0]
    assert (first, second, fourth) == (math.inf, -math.inf, 2)
    assert math.isnan(third)


def test_over_http_numbers_that_json_does_not_have_are_null(http: Caller) -> None:
    inputs = row(math.inf, -math.inf, math.nan, 1)
    found = http.call("infer", model="scale", inputs=inputs, outputs=[{"name": "SCALED", "binary": False}])
    *none, two = found["outputs"]["SCALED"]["data"][0]
    assert two == 2
    assert all(map(math.isnan, none))
