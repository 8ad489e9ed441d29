"""What tritonclient, in its four forms, learns of the server and its models.

The gRPC forms give protobuf as JSON: 64-bit numbers as text, and nothing where a value is its type's default.
"""

from typing import Any

import httpx
import pytest

from tests.compat.callers import Caller, Raised
from tests.compat.models import DATATYPES, SOURCES
from tests.integration.stack import Stack, wait_until

DURATIONS = (
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
)  # fmt: skip
NOT_FOUND = {"http": "404", "grpc": "StatusCode.NOT_FOUND"}
ONES = [{"name": "IN", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]


def form(triton: Caller) -> str:
    return "grpc" if triton.is_grpc else "http"


def config(triton: Caller, model: str, version: str = "") -> dict[str, Any]:
    found: dict[str, Any] = triton.call("ask", method="get_model_config", model_name=model, model_version=version)
    return found["config"] if triton.is_grpc else found


def numbers(values: list[Any]) -> list[int]:
    return [int(value) for value in values]


def tensors(found: list[dict[str, Any]]) -> dict[str, tuple[str, list[int]]]:
    return {each["name"]: (each["datatype"], numbers(each["shape"])) for each in found}


def test_the_server_is_live_and_ready(triton: Caller) -> None:
    assert triton.call("ask", method="is_server_live") is True
    assert triton.call("ask", method="is_server_ready") is True


def test_a_model_is_ready_and_an_unknown_one_or_version_is_not(triton: Caller) -> None:
    assert triton.call("ask", method="is_model_ready", model_name="scale") is True
    assert triton.call("ask", method="is_model_ready", model_name="scale", model_version="2") is True
    assert not ready(triton, "nosuch", "")
    assert not ready(triton, "scale", "9")


def ready(triton: Caller, model: str, version: str) -> bool:
    found = triton.attempt("ask", method="is_model_ready", model_name=model, model_version=version)
    if isinstance(found, Raised):  # over gRPC either is right
        assert found.status == NOT_FOUND["grpc"]
    return found is True


def test_the_server_says_what_it_is(triton: Caller) -> None:
    found = triton.call("ask", method="get_server_metadata")
    assert found["name"] == "inferoxy"
    assert found["version"]
    assert {
        "binary_tensor_data", "parameters", "statistics", "model_configuration", "model_repository", "sequence",
        "system_shared_memory", "classification",
    } <= set(found["extensions"])  # fmt: skip
    assert "cuda_shared_memory" not in found["extensions"]


def test_metadata_name_inputs_outputs_and_versions_with_the_batch_axis(triton: Caller) -> None:
    found = triton.call("ask", method="get_model_metadata", model_name="scale")
    assert found["name"] == "scale"
    assert sorted(found["versions"]) == ["1", "2"]
    assert found["platform"]
    assert tensors(found["inputs"]) == {"IN": ("FP32", [-1, 4])}
    assert tensors(found["outputs"]) == {"SCALED": ("FP32", [-1, 4]), "SUM": ("FP32", [-1, 1])}


def test_metadata_has_every_datatype(triton: Caller) -> None:
    found = triton.call("ask", method="get_model_metadata", model_name="everything", model_version="1")
    assert tensors(found["inputs"]) == {datatype: (datatype, [-1]) for datatype in DATATYPES}


def test_metadata_of_an_unknown_model_is_not_found(triton: Caller) -> None:
    with pytest.raises(Raised, match="Request for unknown model: 'nosuch'") as caught:
        triton.call("ask", method="get_model_metadata", model_name="nosuch")
    assert caught.value.status == NOT_FOUND[form(triton)]


def test_a_batched_model_s_config_leaves_the_batch_axis_out(triton: Caller) -> None:
    found = config(triton, "scale")
    assert found["name"] == "scale"
    assert found["max_batch_size"] == 8
    assert [(each["name"], each["data_type"], numbers(each["dims"])) for each in found["input"]] == [
        ("IN", "TYPE_FP32", [4])
    ]
    assert {each["name"]: numbers(each["dims"]) for each in found["output"]} == {"SCALED": [4], "SUM": [1]}
    assert "dynamic_batching" in found
    assert "sequence_batching" not in found
    assert "ensemble_scheduling" not in found


def test_an_unbatched_model_s_config_has_all_dimensions_and_every_datatype(triton: Caller) -> None:
    found = config(triton, "everything")
    assert found.get("max_batch_size", 0) == 0
    assert {each["data_type"] for each in found["input"]} == {
        f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}" for datatype in DATATYPES
    }
    assert all(numbers(each["dims"]) == [-1] for each in found["input"])


def test_a_sequence_model_says_so_by_presence(triton: Caller) -> None:
    found = config(triton, "sums")
    assert "sequence_batching" in found
    assert int(found["sequence_batching"]["max_sequence_idle_microseconds"]) == 30_000_000
    assert "dynamic_batching" not in found


def test_a_decoupled_model_says_so(triton: Caller) -> None:
    assert config(triton, "repeat")["model_transaction_policy"]["decoupled"] is True
    assert not config(triton, "scale").get("model_transaction_policy", {}).get("decoupled", False)


def test_a_version_s_config_is_asked_for_by_version(triton: Caller) -> None:
    assert config(triton, "scale", "2")["max_batch_size"] == 8
    with pytest.raises(Raised) as caught:
        config(triton, "scale", "9")
    assert caught.value.status == NOT_FOUND[form(triton)]


def test_a_picture_model_has_an_input_and_named_outputs(triton: Caller) -> None:
    found = triton.call("ask", method="get_model_metadata", model_name="detector")
    [(name, (datatype, shape))] = tensors(found["inputs"]).items()
    assert name
    assert (datatype, shape) in (("UINT8", [-1, -1, 3]), ("BYTES", [1]))
    assert {"boxes", "scores", "class_ids"} <= tensors(found["outputs"]).keys()


def statistics(triton: Caller, model: str = "", version: str = "") -> list[dict[str, Any]]:
    found = triton.call("ask", method="get_inference_statistics", model_name=model, model_version=version)
    stats: list[dict[str, Any]] = found["model_stats"]
    return stats


def count(found: Any, *path: str) -> int:
    for key in path:
        found = found.get(key, {})
    return int(found or 0)


def test_statistics_count_requests_rows_and_runs(triton: Caller) -> None:
    two = [{**ONES[0], "shape": [2, 4], "data": [1] * 8}]
    triton.call("infer", model="scale", inputs=two, model_version="2")
    [before] = statistics(triton, "scale", "2")
    triton.call("infer", model="scale", inputs=two, model_version="2")
    triton.call("infer", model="scale", inputs=two, model_version="2")

    def after() -> dict[str, Any]:
        return statistics(triton, "scale", "2")[0]

    wait_until(lambda: count(after(), "inference_count") >= count(before, "inference_count") + 4, 5.0)
    found = after()
    assert found["name"] == "scale"
    assert found["version"] == "2"
    assert count(found, "inference_count") == count(before, "inference_count") + 4
    assert count(found, "execution_count") == count(before, "execution_count") + 2
    assert (
        count(found, "inference_stats", "success", "count") == count(before, "inference_stats", "success", "count") + 2
    )
    assert count(found, "inference_stats", "success", "ns") > count(before, "inference_stats", "success", "ns")
    assert count(found, "last_inference") > 1_600_000_000_000
    assert {count(each, "batch_size") for each in found["batch_stats"]} >= {2}
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    spent = sum(count(found, "inference_stats", part, "ns") for part in parts)
    assert 0 < spent <= count(found, "inference_stats", "success", "ns")
    assert set(found["inference_stats"]) == set(DURATIONS)


def test_statistics_count_what_failed(triton: Caller) -> None:
    told = [{"name": "IN", "datatype": "INT32", "shape": [1], "data": [1]}]
    triton.call("infer", model="told", inputs=told)
    before = count(statistics(triton, "told")[0], "inference_stats", "fail", "count")
    with pytest.raises(Raised):
        triton.call("infer", model="told", inputs=told, parameters={"anger": "one"})
    wait_until(lambda: count(statistics(triton, "told")[0], "inference_stats", "fail", "count") == before + 1, 5.0)


def test_statistics_without_a_name_are_of_all_models(triton: Caller) -> None:
    found = {(each["name"], each["version"]) for each in statistics(triton)}
    assert {(name, "1") for name in SOURCES} | {("scale", "2")} <= found


def test_statistics_of_one_model_are_of_all_its_versions(triton: Caller) -> None:
    assert sorted(each["version"] for each in statistics(triton, "scale")) == ["1", "2"]
    with pytest.raises(Raised) as caught:
        statistics(triton, "nosuch")
    assert caught.value.status == NOT_FOUND[form(triton)]


def index(triton: Caller) -> dict[tuple[str, str], dict[str, str]]:
    found = triton.call("ask", method="get_model_repository_index")
    lines = found["models"] if triton.is_grpc else found
    return {(each["name"], each["version"]): each for each in lines}


def test_the_repository_index_names_every_version_and_its_state(triton: Caller) -> None:
    found = index(triton)
    assert {(name, "1") for name in SOURCES} | {("scale", "2"), ("detector", "1")} <= found.keys()
    assert found["scale", "1"]["state"] == "READY"


def test_a_model_is_loaded_and_unloaded_and_runs_again_after(triton: Caller, stack: Stack) -> None:
    def wait_for(count: int) -> None:  # what the admin API tells is a little old
        wait_until(lambda: sum(each["model"] == "scores" for each in instances(stack)) == count, 10.0, stack.log)

    triton.call("ask", method="load_model", model_name="scores")
    wait_for(1)
    triton.call("ask", method="unload_model", model_name="scores")
    wait_for(0)
    inputs = [{"name": "IN", "datatype": "FP32", "shape": [1, 5], "data": [0, 1, 2, 3, 4]}]
    found = triton.call("infer", model="scores", inputs=inputs)
    assert found["outputs"]["OUT"]["data"] == [[0, 1, 2, 3, 4]]


def instances(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{stack.admin_url}/instances", timeout=5.0, trust_env=False).json()
    return found


def test_a_model_cannot_be_configured_by_loading_it(triton: Caller) -> None:
    with pytest.raises(Raised, match="config") as caught:
        triton.call("ask", method="load_model", model_name="scores", config='{"max_batch_size": 64}')
    assert caught.value.status == ("StatusCode.INVALID_ARGUMENT" if triton.is_grpc else "400")


@pytest.mark.parametrize("method", ["load_model", "unload_model"])
def test_loading_or_unloading_an_unknown_model_is_not_found(triton: Caller, method: str) -> None:
    with pytest.raises(Raised, match="nosuch") as caught:
        triton.call("ask", method=method, model_name="nosuch")
    assert caught.value.status == NOT_FOUND[form(triton)]


def test_there_is_no_cuda_memory_and_forgetting_it_is_no_error(triton: Caller) -> None:
    found = triton.call("ask", method="get_cuda_shared_memory_status")
    assert not (found.get("regions") if triton.is_grpc else found)
    triton.call("ask", method="unregister_cuda_shared_memory")


@pytest.mark.parametrize("method", ["get_trace_settings", "get_log_settings"])
def test_what_is_not_there_is_a_clear_error(triton: Caller, method: str) -> None:
    with pytest.raises(Raised) as caught:
        triton.call("ask", method=method)
    assert caught.value.kind == "InferenceServerException"
    assert caught.value.message
    assert "decoding the response" not in caught.value.message
