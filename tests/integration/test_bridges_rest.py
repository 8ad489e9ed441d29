"""The REST bridge over real sockets: its own process in front, a ROUTER that plays the batch manager behind."""

import base64
import concurrent.futures
import json
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from inferoxy import messages as m
from tests.integration.answering_router import AnsweringRouter
from tests.integration.bridge_process import Bridge
from tests.unit.pictures import bomb, encoded

JPEG, PNG, WEBP = encoded("JPEG", 64, 48), encoded("PNG", 31, 17), encoded("WEBP", 40, 30)
LIMITS = {"body_mib": 1.0, "header_timeout_s": 1.0, "body_timeout_s": 1.0, "pictures_per_request": 8}
PREDICT, INFER = "/v1/models/detector/predict", "/v2/models/echo/infer"
ROW = np.arange(16, dtype="<f4").tobytes()


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path_factory.mktemp("rest")) as router:
        yield router


@pytest.fixture(scope="module")
def bridge(router: AnsweringRouter) -> Iterator[Bridge]:
    with Bridge("rest", router.endpoint, limits=LIMITS, log_level="warning") as bridge:
        wait_until_ready(bridge)
        yield bridge


@pytest.fixture(autouse=True)
def fresh(router: AnsweringRouter) -> None:
    router.is_dropping = router.is_holding = False
    router.requests.clear()
    router.cancelled.clear()


@pytest.fixture
def client(bridge: Bridge) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{bridge.address}", timeout=20.0) as client:
        yield client


def wait_until_ready(bridge: Bridge) -> None:
    end = time.monotonic() + 10.0
    while httpx.get(f"http://{bridge.address}/readyz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.02)


def talk(bridge: Bridge, *pieces: bytes, pause_s: float = 0.0, timeout_s: float = 10.0) -> bytes:
    """Send raw bytes, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", bridge.port), timeout_s) as sock:
        for piece in pieces:
            try:
                sock.sendall(piece)
            except OSError:
                break
            time.sleep(pause_s)
        answer = b""
        try:
            while piece := sock.recv(65_536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def check_error(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert content["code"] == code
    assert content["request_id"] == response.headers["x-request-id"]
    message: str = content["error"]
    return message


def binary_body(*, row: bytes = ROW, **more: Any) -> tuple[dict[str, str], bytes]:
    item = {"name": "INPUT0", "shape": [1, 16], "datatype": "FP32", "parameters": {"binary_data_size": len(row)}}
    header = json.dumps({"inputs": [item], **more}).encode()
    return {"Inference-Header-Content-Length": str(len(header))}, header + row


# What works


@pytest.mark.parametrize(
    ("picture", "kind", "size"),
    [
        (JPEG, "image/jpeg", {"width": 64, "height": 48}),
        (PNG, "image/png", {"width": 31, "height": 17}),
        (WEBP, "image/webp", {"width": 40, "height": 30}),
        (PNG, "application/octet-stream", {"width": 31, "height": 17}),
    ],
)
def test_posted_picture_is_answered_with_detections(
    client: httpx.Client, picture: bytes, kind: str, size: dict[str, int]
) -> None:
    response = client.post(PREDICT, params={"confidence": 0.5}, content=picture, headers={"content-type": kind})
    content = response.json()
    assert response.status_code == 200
    assert content["image"] == size
    assert content["prediction"]["boxes"] == [[0, 0, size["width"], size["height"]]]
    assert content["prediction"]["confidence"] == [0.5]
    assert content["served"] == {
        "queue_ms": 1.5, "compute_ms": 2.5, "decode_ms": 0.5, "batch_size": 4, "closed": "full",
        "instance": "instance-1",
    }  # fmt: skip


def test_files_of_a_form_are_answered_in_order(client: httpx.Client) -> None:
    files = [("x", ("1.jpg", JPEG)), ("y", ("2.png", b"no picture")), ("z", ("3.webp", WEBP))]
    content = client.post(PREDICT, files=files, data={"confidence": "0.75"}).json()
    first, second, third = content["results"]
    assert (first["image"]["width"], third["image"]["width"]) == (64, 40)
    assert first["prediction"]["confidence"] == [0.75]
    assert second["code"] == "INVALID_REQUEST"


def test_pictures_in_json_are_base64_or_rows(client: httpx.Client) -> None:
    images = [base64.b64encode(JPEG).decode(), [[[1, 2, 3], [4, 5, 6]]]]
    content = client.post(PREDICT, json={"images": images}).json()
    assert [r["image"]["width"] for r in content["results"]] == [64, 2]


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_drawn_picture_comes_back_when_accepted(client: httpx.Client, encoding: str) -> None:
    response = client.post(PREDICT, content=JPEG, headers={"accept": f"image/{encoding}"})
    assert (response.status_code, response.headers["content-type"]) == (200, f"image/{encoding}")
    assert response.content == JPEG  # this batch manager "draws" by giving the picture back
    assert response.headers["x-inferoxy-batch-size"] == "4"


def test_all_answers_of_a_decoupled_model_are_collected(client: httpx.Client) -> None:
    content = client.post("/v1/models/frames/predict", content=JPEG).json()
    assert content["predictions"] == [{"frame": 0}, {"frame": 1}, {"frame": 2}]


def test_binary_tensors_come_back_as_binary_or_json(client: httpx.Client) -> None:
    headers, body = binary_body(id="7", outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": True}}])
    response = client.post(INFER, headers=headers, content=body)
    length = int(response.headers["inference-header-content-length"])
    assert response.content[length:] == ROW
    assert json.loads(response.content[:length])["id"] == "7"
    headers, body = binary_body()
    response = client.post(INFER, headers=headers, content=body)
    assert "inference-header-content-length" not in response.headers
    assert response.json()["outputs"][0]["data"] == list(map(float, range(16)))


def test_content_type_of_v2_requests_does_not_matter(client: httpx.Client) -> None:
    body = {"inputs": [{"name": "INPUT0", "shape": [1, 16], "datatype": "FP32", "data": list(range(16))}]}
    for kind in ("application/x-www-form-urlencoded", "application/octet-stream", "text/plain"):
        response = client.post(INFER, content=json.dumps(body), headers={"content-type": kind})
        assert response.status_code == 200, response.text


def test_large_tensor_arrives_whole(client: httpx.Client) -> None:
    row = np.random.default_rng(0).integers(0, 255, 900_000, np.uint8).tobytes()
    item = {"name": "INPUT0", "shape": [900_000], "datatype": "UINT8", "parameters": {"binary_data_size": 900_000}}
    header = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    response = client.post("/v2/models/cold/infer", headers=headers, content=header + row)
    assert response.content[int(response.headers["inference-header-content-length"]) :] == row


def test_chunked_body_is_read(client: httpx.Client) -> None:
    pieces = (PNG[i : i + 10] for i in range(0, len(PNG), 10))
    assert client.post(PREDICT, content=pieces, headers={"content-type": "image/png"}).status_code == 200


def test_priority_timeout_version_and_sequence_reach_the_batch_manager(
    client: httpx.Client, router: AnsweringRouter
) -> None:
    query: dict[str, Any] = {
        "timeout_ms": 1500,
        "priority": 7,
        "version": "2",
        "sequence_id": "cam",
        "sequence_start": "true",
    }
    headers, body = binary_body(parameters={"timeout": 900, "priority": 1, "sequence_id": 5, "sequence_end": True})
    client.post("/v2/models/echo/versions/2/infer", headers=headers, content=body)
    (sent,) = router.requests
    assert (sent.timeout_us, sent.priority, sent.model_version) == (900, 999, "2")
    assert sent.sequence == m.Sequence(5, False, True)
    client.post(PREDICT, params={**query, "version": "1"}, content=JPEG)
    sent = router.requests[-1]
    assert (sent.timeout_us, sent.priority, sent.model_version) == (1_500_000, 7, "1")
    assert sent.sequence == m.Sequence("cam", True)


def test_pictures_of_one_request_are_steps_of_one_sequence(client: httpx.Client, router: AnsweringRouter) -> None:
    images = [base64.b64encode(JPEG).decode()] * 3
    flags = {"sequence_id": "cam", "sequence_start": "true", "sequence_end": "true"}
    content = client.post("/v1/models/tally/predict", params=flags, json={"images": images}).json()
    assert len(content["results"]) == 3
    steps = [sent.sequence for sent in router.requests]
    assert steps == [m.Sequence("cam", True), m.Sequence("cam"), m.Sequence("cam", end=True)]


@pytest.mark.parametrize(("name", "id"), [("7", 7), ("cam-1", "cam-1"), ("a%2Fb%20c", "a/b c")])
def test_a_sequence_is_ended_by_deleting_it(
    client: httpx.Client, router: AnsweringRouter, name: str, id: int | str
) -> None:
    response = client.delete(f"/v1/models/tally/sequences/{name}?timeout_ms=800", headers={"x-request-id": "mine"})
    assert (response.status_code, response.json()) == (200, {"model": "tally", "sequence_id": id, "ended": True})
    assert response.headers["x-request-id"] == "mine"
    (sent,) = router.requests
    assert (sent.sequence, sent.timeout_us, sent.size) == (m.Sequence(id, end=True), 800_000, 0)


def test_sequences_that_cannot_be_ended_say_why(client: httpx.Client, router: AnsweringRouter) -> None:
    sequences = "/v1/models/{}/sequences/5"
    check_error(client.delete(sequences.format("none")), 404, "MODEL_NOT_FOUND")
    assert "stateless" in check_error(client.delete(sequences.format("echo")), 400, "INVALID_REQUEST")
    assert "'x'" in check_error(client.delete(sequences.format("tally") + "?x=1"), 400, "INVALID_REQUEST")
    check_error(client.delete(sequences.format("counter") + "?timeout_ms=50"), 504, "DEADLINE_EXCEEDED")
    check_error(client.delete("/v1/models/tally/sequences/"), 400, "INVALID_REQUEST")
    check_error(client.get(sequences.format("tally")), 405, "METHOD_NOT_ALLOWED")
    router.requests.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.delete, sequences.format("counter"))
        router.wait_for(lambda: router.requests)
        router.forget()
        check_error(waiting.result(5.0), 503, "SEQUENCE_LOST")


def test_a_bare_end_over_v2_has_no_inputs_and_no_outputs(client: httpx.Client, router: AnsweringRouter) -> None:
    parameters = {"sequence_id": "cam", "sequence_end": True}
    for body in ({"parameters": parameters}, {"parameters": parameters, "inputs": []}):
        content = client.post("/v2/models/tally/infer", json=body).json()
        assert content == {"model_name": "tally", "model_version": "1", "outputs": []}
        assert router.requests.pop().sequence == m.Sequence("cam", end=True)
    assert "expected at least one" in check_error(
        client.post("/v2/models/tally/infer", json={"inputs": []}), 400, "INVALID_REQUEST"
    )


def test_request_id_is_kept_or_made_up(client: httpx.Client) -> None:
    given = client.post(PREDICT, content=JPEG, headers={"x-request-id": "mine-1"})
    assert (given.headers["x-request-id"], given.json()["request_id"]) == ("mine-1", "mine-1")
    made = [client.get("/livez", headers={"x-request-id": "bad id"}).headers["x-request-id"] for _ in range(2)]
    assert len({*made, "bad id"}) == 3


def test_models_and_health(client: httpx.Client) -> None:
    for path in (
        "/livez",
        "/readyz",
        "/healthz",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2",
        "/v2/models/echo/ready",
    ):
        assert client.get(path).status_code == 200, path
    assert {"name": "echo", "version": "2"}.items() <= client.get("/v1/models/echo?version=2").json().items()
    assert client.get("/v2/models/echo").json()["versions"] == ["1", "2"]
    assert "no task manager here" in check_error(client.get("/v2/models/cold"), 503, "MODEL_UNAVAILABLE")
    assert "a secret of the model" not in client.get("/v1/models").text
    message = check_error(client.get("/v2/models/starting/ready"), 503, "MODEL_UNAVAILABLE")
    assert "it is starting" in message


def test_openapi_describes_every_path(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/models/{name}/predict", "/v1/models", "/livez", "/v2/models/{name}/infer", "/v2"} <= paths.keys()
    predict = paths["/v1/models/{name}/predict"]["post"]
    assert {"image/jpeg", "multipart/form-data", "application/json"} <= predict["requestBody"]["content"].keys()
    assert {"200", "400", "404", "413", "415", "429", "503", "504"} <= predict["responses"].keys()
    assert "swagger" in client.get("/docs").text


# What is refused


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"not a picture", {}, 400, "INVALID_REQUEST"),
        (b"", {}, 400, "INVALID_REQUEST"),
        (JPEG[:20], {}, 400, "INVALID_REQUEST"),
        (bomb(), {}, 413, "PAYLOAD_TOO_LARGE"),
        (JPEG, {"content-type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (JPEG, {"content-encoding": "br"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{", {"content-type": "application/json"}, 400, "INVALID_REQUEST"),
        (b"x" * (2**20 + 1), {}, 413, "PAYLOAD_TOO_LARGE"),
        (b"--X\r\n", {"content-type": "multipart/form-data; boundary=X"}, 400, "INVALID_REQUEST"),
    ],
)
def test_bad_pictures_are_refused_and_the_connection_stays_usable(
    client: httpx.Client, router: AnsweringRouter, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    check_error(client.post(PREDICT, content=content, headers=headers), status, code)
    assert router.requests == []
    assert client.post(PREDICT, content=JPEG).status_code == 200


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("none", 404, "MODEL_NOT_FOUND"),
        ("broken", 500, "MODEL_ERROR"),
        ("full", 429, "QUEUE_FULL"),
        ("silent", 504, "DEADLINE_EXCEEDED"),
        ("%E2%82%AC", 404, "MODEL_NOT_FOUND"),
    ],
)
def test_failures_behind_the_bridge_have_their_status(client: httpx.Client, model: str, status: int, code: str) -> None:
    response = client.post(f"/v1/models/{model}/predict", content=JPEG)
    assert check_error(response, status, code)
    assert ("retry-after" in response.headers) == (code == "QUEUE_FULL")


def test_decoupled_model_cannot_be_asked_over_v2(client: httpx.Client) -> None:
    headers, body = binary_body()
    response = client.post("/v2/models/frames/infer", headers=headers, content=body)
    check_error(response, 501, "UNSUPPORTED")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", PREDICT, 405, "METHOD_NOT_ALLOWED"),
        ("PUT", INFER, 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/v1/models", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/", 404, "NOT_FOUND"),
        ("POST", "/v1/models/detector/predict/", 404, "NOT_FOUND"),
        ("GET", "/v2/", 404, "NOT_FOUND"),
        ("GET", "/v2/models/none", 404, "MODEL_NOT_FOUND"),
        ("GET", "/v2/models/echo/versions/9", 404, "MODEL_NOT_FOUND"),
        ("GET", "/v1/models/none", 404, "MODEL_NOT_FOUND"),
        ("GET", "/v1/models/<script>", 404, "MODEL_NOT_FOUND"),
    ],
)
def test_unknown_paths_and_wrong_methods(client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    response = client.request(method, path)
    check_error(response, status, code)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "0", "3"])
def test_lying_header_length_is_refused(client: httpx.Client, length: str) -> None:
    _, body = binary_body()
    response = client.post(INFER, headers={"Inference-Header-Content-Length": length}, content=body)
    check_error(response, 400, "INVALID_REQUEST")


def test_binary_sizes_that_do_not_match_are_refused(client: httpx.Client) -> None:
    headers, body = binary_body()
    assert "left" in check_error(client.post(INFER, headers=headers, content=body[:-1]), 400, "INVALID_REQUEST")
    assert "found 65" in check_error(client.post(INFER, headers=headers, content=body + b"x"), 400, "INVALID_REQUEST")
    headers, body = binary_body(row=ROW[:60])
    assert "expected 64 bytes" in check_error(client.post(INFER, headers=headers, content=body), 400, "INVALID_REQUEST")


def test_body_over_the_limit_is_refused_before_it_is_sent(bridge: Bridge) -> None:
    answer = talk(bridge, head(PREDICT, "Content-Length: 99999999999", "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer
    assert b"expected at most 1048576 bytes, found 99999999999 bytes" in answer


def test_client_that_sends_a_refused_body_anyway_gets_to_read_why(bridge: Bridge) -> None:
    answer = talk(bridge, head(PREDICT, f"Content-Length: {4 * 2**20}"), b"x" * 4 * 2**20)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"PAYLOAD_TOO_LARGE"' in answer


def test_chunked_body_is_cut_at_the_limit(bridge: Bridge) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    answer = talk(bridge, head(PREDICT, "Transfer-Encoding: chunked"), *[chunk] * 20, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_expected_continue_is_given(bridge: Bridge) -> None:
    lines = (f"Content-Length: {len(JPEG)}", "Expect: 100-continue", "Connection: close")
    answer = talk(bridge, head(PREDICT, *lines), JPEG, pause_s=0.2)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


def test_slow_body_is_refused_in_time(bridge: Bridge) -> None:
    began = time.monotonic()
    answer = talk(bridge, head(PREDICT, "Content-Length: 100"), b"x", b"x", pause_s=0.1, timeout_s=12.0)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"REQUEST_TIMEOUT"' in answer
    assert time.monotonic() - began < 5.0


def test_slow_header_ends_the_connection(bridge: Bridge) -> None:
    began = time.monotonic()
    assert talk(bridge, b"POST /v1/mod", b"els/detector/predict HTTP/1.1\r\nHos", pause_s=0.1) == b""
    assert time.monotonic() - began < 5.0


def test_connection_that_says_nothing_is_ended(bridge: Bridge) -> None:
    assert talk(bridge) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_our_form(bridge: Bridge, data: bytes) -> None:
    answer = talk(bridge, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["code"] == "INVALID_REQUEST"


def test_half_a_body_reaches_nobody(bridge: Bridge, client: httpx.Client, router: AnsweringRouter) -> None:
    with socket.create_connection(("127.0.0.1", bridge.port)) as sock:
        sock.sendall(head(PREDICT, f"Content-Length: {len(JPEG)}") + JPEG[:100])
        time.sleep(0.1)
    assert client.get("/livez").status_code == 200
    assert router.requests == []


def test_pipelined_requests_are_answered_in_order(bridge: Bridge, client: httpx.Client) -> None:
    requests = [
        head(PREDICT, f"Content-Length: {len(p)}", f"X-Request-Id: r{i}") + p for i, p in enumerate([JPEG, PNG])
    ]
    last = head("/livez", "Connection: close", "X-Request-Id: r2", method="GET")
    answer = talk(bridge, b"".join(requests) + last)
    assert [line for line in answer.split(b"\r\n") if line.startswith(b"x-request-id")] == [
        b"x-request-id: r0", b"x-request-id: r1", b"x-request-id: r2",
    ]  # fmt: skip


# What happens when somebody goes away


def test_client_that_goes_away_cancels_its_request(
    bridge: Bridge, client: httpx.Client, router: AnsweringRouter
) -> None:
    router.is_holding = True
    with socket.create_connection(("127.0.0.1", bridge.port)) as sock:
        sock.sendall(head(PREDICT, f"Content-Length: {len(JPEG)}") + JPEG)
        router.wait_for(lambda: router.requests)
    router.wait_for(lambda: router.cancelled == [router.requests[0].id])
    router.is_holding = False


def test_stateless_requests_are_sent_again_to_a_restarted_batch_manager(
    client: httpx.Client, router: AnsweringRouter
) -> None:
    router.is_dropping = True
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(client.post, PREDICT, content=JPEG) for _ in range(8)]
        router.wait_for(lambda: len(router.requests) == 8)
        first = sorted(request.id for request in router.requests)
        router.is_dropping = False
        router.forget()
        assert [future.result().status_code for future in waiting] == [200] * 8
    assert sorted(request.id for request in router.requests[8:]) == first
    assert all(0 < request.timeout_us <= 5_000_000 for request in router.requests[8:])


def test_steps_of_sequences_are_lost_with_the_batch_manager(client: httpx.Client, router: AnsweringRouter) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/v1/models/counter/predict?sequence_id=5", content=JPEG)
        router.wait_for(lambda: router.requests)
        router.forget()
        check_error(waiting.result(), 503, "SEQUENCE_LOST")
    assert len(router.requests) == 1


def test_requests_are_held_while_the_batch_manager_is_away(client: httpx.Client, router: AnsweringRouter) -> None:
    router.stop()
    time.sleep(0.1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(client.post, PREDICT, content=JPEG) for _ in range(4)]
        time.sleep(0.5)
        assert not any(future.done() for future in waiting)
        assert client.get("/readyz").status_code == 503
        assert client.get("/livez").status_code == 200
        router.forget()
        router.start()
        assert [future.result().status_code for future in waiting] == [200] * 4
    assert client.get("/readyz").status_code == 200


def test_deadline_holds_while_the_batch_manager_is_away(client: httpx.Client, router: AnsweringRouter) -> None:
    router.stop()
    try:
        response = client.post(PREDICT, params={"timeout_ms": 300}, content=JPEG)
        assert "the batch manager is away" in check_error(response, 504, "DEADLINE_EXCEEDED")
    finally:
        router.start()
    wait = time.monotonic() + 5.0
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < wait


def test_answers_that_are_lost_end_in_the_deadline(client: httpx.Client, router: AnsweringRouter) -> None:
    router.is_dropping = True
    response = client.post(PREDICT, params={"timeout_ms": 200}, content=JPEG)
    check_error(response, 504, "DEADLINE_EXCEEDED")
    router.wait_for(lambda: router.cancelled)


def test_200_concurrent_posts_of_good_and_bad_bodies_each_get_their_own_answer(
    bridge: Bridge, router: AnsweringRouter
) -> None:
    rng = random.Random(5)
    jobs: list[tuple[str, dict[str, str], bytes, int, Any]] = []
    for number in range(200):
        match number % 5:
            case 0:
                width = 10 + number
                jobs.append((PREDICT, {}, encoded("PNG", width, 9), 200, [[0, 0, width, 9]]))
            case 1:
                row = struct.pack("<16f", *range(number, number + 16))
                headers, body = binary_body(row=row, id=str(number))
                jobs.append((INFER, headers, body, 200, (str(number), number)))
            case 2:
                jobs.append((PREDICT, {}, os.urandom(50), 400, None))
            case 3:
                jobs.append((PREDICT, {"content-type": "text/html"}, JPEG, 415, None))
            case 4:
                jobs.append(("/v1/models/broken/predict", {}, JPEG, 500, None))
    rng.shuffle(jobs)

    def post(job: tuple[str, dict[str, str], bytes, int, Any]) -> None:
        path, headers, body, status, expected = job
        response = shared.post(path, headers=headers, content=body)
        assert response.status_code == status, response.text
        if path == INFER:
            content = response.json()
            assert (content["id"], content["outputs"][0]["data"][0]) == expected
        elif status == 200:
            assert response.json()["prediction"]["boxes"] == expected

    limits = httpx.Limits(max_connections=64)
    with (
        httpx.Client(base_url=f"http://{bridge.address}", timeout=30.0, limits=limits) as shared,
        concurrent.futures.ThreadPoolExecutor(64) as pool,
    ):
        list(pool.map(post, jobs))


# Start and end


def test_sigterm_answers_what_is_in_flight_and_exits_0(tmp_path: Path) -> None:
    with AnsweringRouter(tmp_path) as router, Bridge("rest", router.endpoint) as bridge:
        wait_until_ready(bridge)
        router.is_holding = True
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            url = f"http://{bridge.address}{PREDICT}"
            waiting = [pool.submit(httpx.post, url, content=JPEG, timeout=10.0) for _ in range(4)]
            router.wait_for(lambda: len(router.requests) == 4)
            ended = pool.submit(bridge.end)
            time.sleep(0.3)
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"http://{bridge.address}/livez")
            router.is_holding = False
            assert [future.result().status_code for future in waiting] == [200] * 4
            assert ended.result()[0] == 0


def test_end_does_not_wait_for_ever_for_a_batch_manager_that_is_gone(tmp_path: Path) -> None:
    with AnsweringRouter(tmp_path) as router, Bridge("rest", router.endpoint, drain_s=0.5) as bridge:
        wait_until_ready(bridge)
        router.is_dropping = True
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(httpx.post, f"http://{bridge.address}{PREDICT}", content=JPEG, timeout=10.0)
            router.wait_for(lambda: router.requests)
            began = time.monotonic()
            assert bridge.end()[0] == 0
            assert time.monotonic() - began < 4.0
            check_error(waiting.result(), 503, "MODEL_UNAVAILABLE")


def test_taken_address_is_one_clear_line_and_exit_code_3(router: AnsweringRouter, bridge: Bridge) -> None:
    second = Bridge("rest", router.endpoint, port=bridge.port)
    assert not second.is_ready
    code, log = second.end()
    assert code == 3
    assert f"cannot listen on 127.0.0.1:{bridge.port}: Address already in use" in log
    assert "Traceback" not in log


def test_bridge_ends_when_its_supervisor_is_gone(router: AnsweringRouter) -> None:
    bridge = Bridge("rest", router.endpoint)
    assert bridge.is_ready
    bridge.leave()
    assert bridge.process.wait(10.0) == 0
    bridge.end()
