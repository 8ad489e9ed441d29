"""The Open Inference Protocol over HTTP against a whole stack, as no particular client speaks it."""

import gzip
import os
import secrets
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from tests.integration.client_models import SAMPLE, write_models
from tests.integration.stack import Stack, wait_until

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
SCALE = {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [2, 4], "data": ROWS.ravel().tolist()}]}
LENGTH = "inference-header-content-length"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(write_models(tmp_path_factory.mktemp("models"))) as running:
        load = f"{running.rest_url}/v2/repository/models/scale/load"  # done when every part has heard of the others
        wait_until(lambda: httpx.post(load, timeout=30.0).is_success, 30.0)
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.rest_url, timeout=30.0, headers={"accept-encoding": "identity"}) as opened:
        yield opened


def statistics(client: httpx.Client, model: str) -> dict[str, Any]:
    (found,) = client.get(f"/v2/models/{model}/stats").json()["model_stats"]
    return found


def test_metadata_of_a_model_that_never_ran_starts_it(client: httpx.Client) -> None:
    assert client.get("/v1/models/words").json()["inputs"] == []
    found = client.get("/v2/models/words").json()
    assert found["inputs"] == [{"name": "WORDS", "datatype": "BYTES", "shape": [-1]}]
    assert client.get("/v1/models/words").json()["instances"] == 1


def test_configuration_shows_the_batch_axis_apart(client: httpx.Client) -> None:
    config = client.get("/v2/models/scale/config").json()
    assert config["max_batch_size"] == 4
    assert config["input"] == [{"name": "IN", "data_type": "TYPE_FP32", "dims": [4]}]
    assert [spec["dims"] for spec in config["output"]] == [[4], [1]]
    assert "sequence_batching" not in config
    assert config == client.get("/v2/models/scale/versions/1/config").json()


def test_statistics_count_what_became_of_requests(client: httpx.Client) -> None:
    client.post("/v2/models/scale/infer", json=SCALE)
    before = statistics(client, "scale")
    for _ in range(5):
        assert client.post("/v2/models/scale/infer", json=SCALE).status_code == 200
    wrong = {"inputs": [{"name": "OTHER", "datatype": "FP32", "shape": [1, 4], "data": [0] * 4}]}
    assert client.post("/v2/models/scale/infer", json=wrong).status_code == 400
    after = statistics(client, "scale")
    assert after["inference_count"] - before["inference_count"] == 10  # rows
    assert after["execution_count"] - before["execution_count"] in range(5, 7)
    spent = {
        name: part["count"] - before["inference_stats"][name]["count"]
        for name, part in after["inference_stats"].items()
    }
    assert (spent["success"], spent["fail"], spent["queue"], spent["compute_infer"]) == (5, 1, 5, 5)
    assert after["inference_stats"]["success"]["ns"] > after["inference_stats"]["compute_infer"]["ns"] > 0
    assert {batch["batch_size"] for batch in after["batch_stats"]} >= {2}
    assert after["last_inference"] > 1_700_000_000_000
    names = [found["name"] for found in client.get("/v2/models/stats").json()["model_stats"]]
    assert names == sorted(names)
    assert {"scale", "mean"} < set(names)


def test_unload_stops_all_and_the_next_request_starts_one(client: httpx.Client) -> None:
    assert client.post("/v2/repository/models/mean/load").status_code == 200
    assert client.get("/v1/models/mean").json()["instances"] == 1
    assert (
        client.post("/v2/repository/models/mean/unload", json={"parameters": {"unload_dependents": True}}).content
        == b""
    )
    assert client.get("/v1/models/mean").json()["instances"] == 0
    index = {line["name"]: line["state"] for line in client.post("/v2/repository/index", json={}).json()}
    assert index["mean"] == "READY"  # it starts when asked for
    assert client.post("/v1/models/mean/predict", content=SAMPLE.read_bytes()).status_code == 200


def test_a_model_that_cannot_be_loaded_says_why(client: httpx.Client) -> None:
    answer = client.post("/v2/repository/models/broken/load")
    assert answer.status_code == 503
    assert "the weights are not there" in answer.json()["error"]
    index = client.post("/v2/repository/index", json={"ready": True}).json()
    assert "broken" not in [line["name"] for line in index]
    assert client.get("/v2/models/broken/config").status_code == 503


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("repository/models/none/load", {}, 404),
        ("repository/models/scale/load", {"parameters": {"config": "{}"}}, 400),
        ("repository/models/scale/load", {"parameters": 5}, 400),
        ("repository/index", [], 400),
        ("systemsharedmemory/region/r/register", {"key": "/none-such", "offset": 0, "byte_size": 1}, 400),
        ("systemsharedmemory/region/r/register", {"key": "k"}, 400),
        ("cudasharedmemory/region/r/register", {}, 400),
    ],
)
def test_commands_that_cannot_be_done_are_errors(client: httpx.Client, path: str, body: Any, status: int) -> None:
    answer = client.post(f"/v2/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_and_answers(client: httpx.Client, coding: str, pack: Any) -> None:
    head = msgspec.json.encode(
        {
            "inputs": [{"name": "IN", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": 32}}],
            "parameters": {"binary_data_output": True},
        }
    )
    headers = {"content-encoding": coding, "accept-encoding": coding, LENGTH: str(len(head))}
    with client.stream(
        "POST", "/v2/models/scale/infer", content=pack(head + ROWS.tobytes()), headers=headers
    ) as answer:
        assert answer.headers["content-encoding"] == coding
        packed = b"".join(answer.iter_raw())
    assert int(answer.headers["content-length"]) == len(packed)
    body = gzip.decompress(packed) if coding == "gzip" else zlib.decompress(packed)
    length = int(answer.headers[LENGTH])
    assert [output["name"] for output in msgspec.json.decode(body[:length])["outputs"]] == ["DOUBLE", "SUM"]
    assert np.frombuffer(body[length : length + 32], np.float32).tolist() == (ROWS * 2).ravel().tolist()


def test_nothing_but_inference_answers_is_compressed(client: httpx.Client) -> None:
    wish = {"accept-encoding": "gzip"}
    for answer in (
        client.get("/v2", headers=wish),
        client.get("/v2/models/scale/config", headers=wish),
        client.get("/v2/models/stats", headers=wish),
        client.post("/v2/models/scale/infer", content=b"{", headers=wish),
        client.post("/v2/models/scale/infer", json=SCALE, headers={"accept-encoding": "gzip, deflate, br"}),
    ):
        assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-encoding": "gzip"}, b"not gzip", 400),
        ({"content-encoding": "gzip"}, gzip.compress(b"{}")[:-6], 400),
        ({"content-encoding": "deflate"}, gzip.compress(b"{}"), 400),
        ({"content-encoding": "br"}, b"{}", 415),
        ({"content-encoding": "gzip"}, gzip.compress(bytes(70 << 20)), 413),
    ],
)
def test_what_cannot_be_decompressed_is_refused(
    client: httpx.Client, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = client.post("/v2/models/scale/infer", content=body, headers=headers)
    assert (answer.status_code, sorted(answer.json())) == (status, ["code", "error", "request_id"])
    assert client.get("/livez").status_code == 200


def test_a_raw_body_is_a_picture_of_a_picture_model(client: httpx.Client) -> None:
    answer = client.post("/v2/models/detector/infer", content=SAMPLE.read_bytes(), headers={LENGTH: "0"})
    length = int(answer.headers[LENGTH])
    outputs = msgspec.json.decode(answer.content[:length])["outputs"]
    assert [output["name"] for output in outputs] == ["boxes", "scores", "class_ids"]
    assert outputs[0]["shape"][0] > 0


def test_time_that_is_over_is_unavailable_as_the_protocols_clients_expect(client: httpx.Client) -> None:
    picture = {"name": "x", "datatype": "UINT8", "shape": [2, 2, 3], "data": [0] * 12}
    client.post("/v2/models/mean/infer", json={"inputs": [picture]})
    busy = threading.Thread(
        target=client.post,
        args=("/v2/models/mean/infer",),
        kwargs={"json": {"inputs": [picture], "parameters": {"sleep_s": 0.5}}},
    )
    busy.start()
    try:
        while not client.get("/v2/models/mean/stats").is_success:
            pass
        late = {"inputs": [picture], "parameters": {"timeout": 1_000, "sleep_s": 0.2}}
        answer = client.post("/v2/models/mean/infer", json=late)
        assert (answer.status_code, answer.json()["code"]) == (503, "DEADLINE_EXCEEDED")
        predicted = client.post("/v1/models/mean/predict?timeout_ms=1&sleep_s=0.2", content=SAMPLE.read_bytes())
        assert (predicted.status_code, predicted.json()["code"]) == (504, "DEADLINE_EXCEEDED")
    finally:
        busy.join()


def test_an_output_in_shared_memory_that_does_not_fit_writes_nothing(client: httpx.Client) -> None:
    path = Path("/dev/shm") / f"test-{os.getpid()}-{secrets.token_hex(4)}"
    path.write_bytes(ROWS.tobytes() + bytes(40))
    system = "/v2/systemsharedmemory"
    try:
        asked = {"key": path.name, "offset": 0, "byte_size": 72}
        assert client.post(f"{system}/region/all/register", json=asked).content == b""
        assert client.post(f"{system}/region/all/register", json=asked).status_code == 400
        assert client.get(f"{system}/region/all/status").json() == [{"name": "all", **asked}]

        def place(size: int, offset: int = 0) -> dict[str, Any]:
            return {"shared_memory_region": "all", "shared_memory_byte_size": size, "shared_memory_offset": offset}

        inputs = [{"name": "IN", "datatype": "FP32", "shape": [2, 4], "parameters": place(32)}]
        outputs = [{"name": "DOUBLE", "parameters": place(32, 32)}, {"name": "SUM", "parameters": place(7, 64)}]
        refused = client.post("/v2/models/scale/infer", json={"inputs": inputs, "outputs": outputs})
        assert refused.status_code == 400
        assert "output 'SUM': expected a shared_memory_byte_size of at least 8, found 7" in refused.json()["error"]
        assert path.read_bytes()[32:] == bytes(40)
        outputs[1]["parameters"] = place(8, 64)
        for factor in (1, 3):  # what lies there now
            path.write_bytes((ROWS * factor).tobytes() + bytes(40))
            answer = client.post("/v2/models/scale/infer", json={"inputs": inputs, "outputs": outputs})
            assert answer.json()["outputs"] == [
                {"name": "DOUBLE", "datatype": "FP32", "shape": [2, 4]},
                {"name": "SUM", "datatype": "FP32", "shape": [2, 1]},
            ]
            made = np.frombuffer(path.read_bytes(), np.float32)
            assert made[8:16].tolist() == (ROWS * 2 * factor).ravel().tolist()
            assert made[16:].tolist() == (ROWS.sum(1) * factor).tolist()
    finally:
        client.post(f"{system}/unregister")
        path.unlink()
    assert client.get(f"{system}/status").json() == []


def test_what_is_switched_off_says_so() -> None:
    settings = {"v2": {"repository": False, "shared_memory": False}}
    with Stack(settings=settings) as running, httpx.Client(base_url=running.rest_url) as client:
        wait_until(lambda: client.get("/readyz").is_success, 10.0)
        for path in ("repository/models/m/load", "repository/models/m/unload"):
            answer = client.post(f"/v2/{path}")
            assert (answer.status_code, answer.json()["code"]) == (501, "UNSUPPORTED")
        asked = {"key": "k", "offset": 0, "byte_size": 1}
        refused = client.post("/v2/systemsharedmemory/region/r/register", json=asked)
        assert (refused.status_code, refused.json()["code"]) == (501, "UNSUPPORTED")
        assert client.post("/v2/repository/index").json() == []
