"""Claims about the first Inferoxy's clients: `POST /infer` and pickles over ZeroMQ, against a whole stack."""

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import zmq

from tests.integration.bridge_process import free_port
from tests.integration.client_models import SAMPLE, write_models
from tests.integration.sequence_models import FRAMES, LEVELS
from tests.integration.stack import Stack, wait_until

CLIENT = Path(__file__).parent / "first_client.py"
PICTURE = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
WAIT_S = 20.0

pytestmark = pytest.mark.timeout(180)


class First:
    """A stack with everything of the first Inferoxy's, and one user of it."""

    def __init__(self, stack: Stack, requests: str, results: str, folder: Path) -> None:
        self.stack = stack
        self.requests = requests
        self.results = results
        self.folder = folder
        self.http = httpx.Client(base_url=stack.rest_url, timeout=60.0, trust_env=False)

    def post(self, model: str, *parts: dict[str, Any], source_id: str = "user") -> dict[str, Any]:
        """The answer to inputs."""
        answer = self.http.post("/infer", json={"source_id": source_id, "model": model, "inputs": list(parts)})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert set(found) == {"model", "outputs", "source_id"}
        assert (found["model"], found["source_id"]) == (model, source_id)
        for output in found["outputs"]:
            assert list(output) == ["shape", "datatype", "data", "output", "parameters", "error"]
        return found

    def notes(self, model: str) -> list[str]:
        """What a model has noted."""
        path = self.folder / model / "notes"
        return path.read_text().splitlines() if path.exists() else []


def part(
    picture: Any = PICTURE, *, shape: bool = True, datatype: str | None = None, **parameters: Any
) -> dict[str, Any]:
    """An input as the first Inferoxy's test client sends it: one row of numbers, and the shape."""
    row = np.asarray(picture).reshape((1, -1)).tolist()
    return {
        "data": row if shape else np.asarray(picture).tolist(),
        "shape": list(np.asarray(picture).shape) if shape else None,
        "datatype": datatype,
        "parameters": {"stateless": True, **parameters},
    }


def red(level: int, **parameters: Any) -> dict[str, Any]:
    """A frame of a source, for stateful models."""
    found = part(np.full((4, 6, 3), (level, 0, 0), np.uint8))
    found["parameters"] = parameters
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[First]:
    folder = tmp_path_factory.mktemp("first")
    lines = write_models(folder)
    for name, source, settings in (
        ("frames", FRAMES, f"max_sequences: 4, batch_size: 4, options: {{log: {folder / 'frames' / 'notes'}}}"),
        ("idling", FRAMES, f"sequence_idle_s: 1, options: {{log: {folder / 'idling' / 'notes'}}}"),
        ("levels", LEVELS, "batch_size: 4"),
    ):
        (folder / name).mkdir()
        (folder / name / "model.py").write_text(source)
        lines += f"{name}: {{artifact: {folder / name}, runtime: python, stateless: false, {settings}}}\n"
    requests, results = f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"
    settings = {"legacy_requests": requests, "legacy_results": results, "limits": {"body_mib": 16.0}}
    with Stack(lines, settings=settings, grpc="", zmq="") as stack:
        found = First(stack, requests, results, folder)
        with found.http:
            wait_until(lambda: found.http.get("/readyz").status_code == 200, WAIT_S)
            yield found


# POST /infer


@pytest.mark.parametrize("datatype", [None, "uint8", "int8", "fp16", "fp32", "bool"])
@pytest.mark.parametrize("shape", [True, False])
def test_a_picture_is_answered_with_its_prediction_and_picture(first: First, shape: bool, datatype: str | None) -> None:
    (output,) = first.post("mean", part(shape=shape, datatype=datatype, index=7))["outputs"]
    assert output["output"]["shape"] == [2, 4, 3]
    assert output["output"]["known"] == {"index": 7}
    assert output["parameters"] == {"stateless": True, "index": 7}
    assert (output["shape"], output["datatype"], output["error"]) == ([2, 4, 3], "uint8", None)
    assert output["data"] == (255 - PICTURE).ravel().tolist()


def test_a_prediction_is_kept_where_the_model_gives_no_picture(first: First) -> None:
    (output,) = first.post("mean", part(blind=True))["outputs"]
    assert output["output"]["shape"] == [2, 4, 3]
    assert (output["shape"], output["datatype"], output["data"], output["error"]) == (None, None, None, None)


def test_each_input_has_its_outputs_and_parameters_come_back(first: First) -> None:
    found = first.post("mean", *[part(index=index) for index in range(6)])["outputs"]
    assert sorted(output["parameters"]["index"] for output in found) == list(range(6))
    found = first.post("count", part(index=1), part(index=2))["outputs"]
    steps = [(output["parameters"]["index"], output["output"]["step"]) for output in found]
    assert sorted(steps) == [(index, step) for index in (1, 2) for step in (1, 2, 3)]
    assert [step for index, step in steps if index == 1] == [1, 2, 3]
    assert first.post("mean")["outputs"] == []


def test_the_detector_finds_and_draws(first: First) -> None:
    picture = cv2.cvtColor(cv2.imread(str(SAMPLE)), cv2.COLOR_BGR2RGB)
    (output,) = first.post("detector", part(picture, datatype="uint8", index=3, confidence=0.4))["outputs"]
    assert output["error"] is None
    prediction = output["output"]
    assert len(prediction["boxes"]) == len(prediction["class_name"]) > 0
    assert min(prediction["confidence"]) >= 0.4
    assert output["shape"] == list(picture.shape)
    drawn = np.array(output["data"], np.uint8).reshape(picture.shape)
    assert 0 < (np.abs(drawn.astype(int) - picture).max(2) > 60).mean() < 0.3, "boxes, and little else"
    assert output["parameters"] == {"stateless": True, "index": 3, "confidence": 0.4}


def test_a_tensor_model_gets_the_numbers_in_their_datatype(first: First) -> None:
    sent = {"data": [1, 2, 3, 4.5], "shape": [1, 4], "datatype": "fp32", "parameters": {"stateless": True}}
    (output,) = first.post("scale", sent)["outputs"]
    assert output["output"] == {"DOUBLE": [[2, 4, 6, 9]], "SUM": [[10.5]]}
    (output,) = first.post("scale", {**sent, "datatype": None})["outputs"]
    assert output["output"]["SUM"] == [[10.5]]


@pytest.mark.parametrize(
    ("model", "sent", "error"),
    [
        ("nobody", part(index=1), "[E001]: Request for unknown model: 'nobody' is not found"),
        ("broken", part(index=1), "[E001]: "),
        ("mean", part(index=1, anger=3), "[MODEL_ERROR]: ValueError: anger 3"),
        (
            "mean",
            {**part(index=1), "shape": [5, 5]},
            "[INVALID_REQUEST]: shape: expected one of 24 elements, found [5, 5]",
        ),
        ("mean", {**part(index=1), "data": "x"}, "[INVALID_REQUEST]: data: expected lists of numbers"),
        (
            "mean",
            {**part(index=1), "data": [0, 300, 0], "shape": [1, 1, 3]},
            "[INVALID_REQUEST]: data: expected pixels",
        ),
        ("mean", part(np.zeros((1, 20_001, 3)), index=1), "[PAYLOAD_TOO_LARGE]: picture: expected at most"),
    ],
)
def test_an_error_stands_in_its_output_at_once_and_others_are_answered(
    first: First, model: str, sent: dict[str, Any], error: str
) -> None:
    began = time.monotonic()
    (output,) = first.post(model, sent)["outputs"]
    assert output["error"].startswith(error)
    assert [output[name] for name in ("shape", "datatype", "data", "output")] == [None] * 4
    assert output["parameters"]["index"] == 1
    assert time.monotonic() - began < 15
    both = first.post("mean", {**part(index=1), "shape": [5, 5]}, part(index=2))["outputs"]
    assert [output["error"] is None for output in both] == [False, True]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        (b"{}", ["body", "source_id"]),
        (b"rubbish", ["body", 0]),
        (b"", ["body"]),
        (b'{"source_id": 1, "model": "m", "inputs": []}', ["body", "source_id"]),
    ],
)
def test_a_body_that_is_not_as_it_must_be_is_422(first: First, body: bytes, loc: list[Any]) -> None:
    answer = first.http.post("/infer", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == loc


def test_a_body_over_the_limit_is_413(first: First) -> None:
    answer = first.http.post("/infer", content=b"[" * (16 * 2**20 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_the_source_is_the_sequence_which_begins_by_itself(first: First) -> None:
    for level, expected in ((1, 1), (2, 3), (3, 6)):
        (output,) = first.post("frames", red(level), source_id="gate")["outputs"]
        assert output["output"]["SUM"] == [expected]
    (other,) = first.post("frames", red(9), source_id="yard")["outputs"]
    assert other["output"]["SUM"] == [9]
    outputs = first.post("frames", *[red(level, index=level) for level in (10, 20, 30)], source_id="gate")["outputs"]
    assert [output["output"]["SUM"] for output in outputs] == [[16], [36], [66]]
    assert first.notes("frames").count("start gate") == 1


def test_the_same_sequence_is_continued_over_the_other_route(first: First) -> None:
    first.post("frames", red(6), source_id="both")
    picture = cv2.imencode(".png", np.full((4, 6, 3), (0, 0, 7), np.uint8))[1].tobytes()
    answer = first.http.post("/v1/models/frames/predict", params={"sequence_id": "both"}, content=picture)
    assert answer.status_code == 200, answer.text
    assert answer.json()["prediction"]["SUM"] == [13]
    (output,) = first.post("frames", red(1), source_id="both")["outputs"]
    assert output["output"]["SUM"] == [14]


def test_an_idle_sequence_begins_anew_without_a_word(first: First) -> None:
    (output,) = first.post("idling", red(1), source_id="calm")["outputs"]
    assert output["output"]["SUM"] == [1]
    wait_until(lambda: "idle calm" in first.notes("idling"), WAIT_S)
    (output,) = first.post("idling", red(2), source_id="calm")["outputs"]
    assert output["error"] is None
    assert output["output"]["SUM"] == [2]


def test_a_sequence_whose_model_died_is_told_and_begins_anew(first: First) -> None:
    first.post("frames", red(1), source_id="fatal")
    (output,) = first.post("frames", red(4), source_id="fatal")["outputs"]  # ends the instance
    assert output["error"].startswith("[SEQUENCE_LOST]: ")
    (output,) = first.post("frames", red(2), source_id="fatal")["outputs"]
    assert (output["output"]["SUM"], output["error"]) == ([2], None)


def test_a_stateless_call_of_a_stateful_model_is_a_sequence_of_its_own(first: First) -> None:
    for _ in range(2):
        (output,) = first.post("frames", red(3, stateless=True), source_id="gate 2")["outputs"]
        assert output["output"]["SUM"] == [3]


def test_init_prepares_the_model_and_a_stateless_model_needs_no_sequence(first: First) -> None:
    (output,) = first.post("levels", red(5, init={"start": 100}), source_id="film")["outputs"]
    assert output["output"] == {"sum": 105}
    (output,) = first.post("levels", red(1), source_id="film")["outputs"]
    assert output["output"] == {"sum": 106}
    sent = part()
    del sent["parameters"]["stateless"]
    (output,) = first.post("mean", sent)["outputs"]
    assert output["error"] is None


def test_many_calls_at_once_are_answered_each_with_its_own(first: First) -> None:
    def call(index: int) -> int:
        (output,) = first.post("mean", part(index=index), source_id=f"user {index}")["outputs"]
        return int(output["parameters"]["index"])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(100))) == list(range(100))


def test_the_route_is_documented(first: First) -> None:
    route = first.http.get("/openapi.json").json()["paths"]["/infer"]["post"]
    assert set(route["responses"]) >= {"200", "413", "422"}
    body = route["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["required"]) == {"source_id", "model", "inputs"}


# ZeroMQ


class User:
    """A ZeroMQ client in this process."""

    def __init__(self, first: First, source: str) -> None:
        self.source = source
        self._context: zmq.Context[Any] = zmq.Context()
        self._push = self._context.socket(zmq.PUSH)
        self._push.connect(first.requests)
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.set(zmq.IDENTITY, source.encode())
        self._dealer.set(zmq.RCVTIMEO, int(WAIT_S * 1e3))
        self._dealer.connect(first.results)
        time.sleep(0.1)  # an answer that comes before the DEALER is there is lost, as it was

    def __enter__(self) -> "User":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def send(self, model: str, *inputs: Any, **more: Any) -> None:
        self.send_raw(pickle.dumps({"source_id": self.source, "model": model, "inputs": list(inputs), **more}))

    def send_raw(self, *frames: bytes) -> None:
        self._push.send_multipart(frames)

    def receive(self) -> dict[str, Any]:
        """The only output of the next answer."""
        answer = pickle.loads(self._dealer.recv())
        assert answer["source_id"] == self.source
        (output,) = answer["outputs"]
        found: dict[str, Any] = output
        return found


def run_client(first: First, source: str, model: str, count: int) -> list[dict[str, Any]]:
    command = [sys.executable, str(CLIENT), first.requests, first.results, source, model, str(count)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd="/")
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_a_client_that_knows_nothing_of_us_is_served(first: First) -> None:
    answers = run_client(first, "camera 1", "mean", 5)
    assert sorted(answer["index"] for answer in answers) == list(range(5))
    for answer in answers:
        index = answer["index"]
        assert (answer["model"], answer["source_id"], answer["outputs"]) == ("mean", "camera 1", 1)
        assert answer["output"]["mean"] == [index + 1] * 3
        assert (answer["shape"], answer["datatype"], answer["dtype"]) == ([6, 4, 3], "uint8", "uint8")
        assert answer["sum"] == (6 * 4 - 1) * 3 * (255 - (index + 1))
        assert answer["error"] is None


def test_a_whole_film_may_be_sent_without_waiting(first: First) -> None:
    answers = run_client(first, "film 1", "mean", 600)
    assert sorted(answer["index"] for answer in answers) == list(range(600))
    assert {answer["error"] for answer in answers} == {None}


def test_frames_of_a_source_share_a_state_in_order(first: First) -> None:
    with User(first, "zeromq gate") as user:
        for level in (1, 2, 3, 6, 7):
            user.send("frames", {"data": np.full((4, 6, 3), level, np.uint8), "parameters": {"index": level}})
        assert [user.receive()["output"]["SUM"] for _ in range(5)] == [[1], [3], [6], [12], [19]]


def test_the_detector_and_several_results_work_too(first: First) -> None:
    picture = cv2.cvtColor(cv2.imread(str(SAMPLE)), cv2.COLOR_BGR2RGB)
    with User(first, "many") as user:
        user.send("detector", {"data": picture, "shape": picture.shape, "datatype": "uint8", "parameters": {}})
        output = user.receive()
        assert output["error"] is None
        assert len(output["output"]["boxes"]) > 0
        assert output["data"].shape == picture.shape
        user.send("count", {"data": PICTURE, "parameters": {"index": 1}}, {"data": PICTURE, "parameters": {"index": 2}})
        steps = [
            (found["parameters"]["index"], found["output"]["step"]) for found in (user.receive() for _ in range(6))
        ]
        assert sorted(steps) == [(index, step) for index in (1, 2) for step in (1, 2, 3)]


class Exploit:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/inferoxy-exploit",)


def test_what_is_refused_disturbs_nobody_and_is_told_where_it_says_whose_it_is(first: First) -> None:
    assert not Path("/tmp/inferoxy-exploit").exists()
    good = {"data": PICTURE, "parameters": {"index": 5}}
    with User(first, "victim") as user:
        for frames in (
            [b""], [b"rubbish"], [pickle.dumps(Exploit())], [pickle.dumps([1])], [pickle.dumps({})], [b"a", b"b"],
            [pickle.dumps({"source_id": "x" * 300, "model": "m", "inputs": []})],
            [pickle.dumps({"source_id": "", "model": "m", "inputs": []})],
            [pickle.dumps({"source_id": 7, "model": "m", "inputs": []})],
            [pickle.dumps({"source_id": "victim", "model": "m", "inputs": [Exploit()]})],
            [pickle.dumps({"source_id": "victim", "model": "m", "inputs": [np.array([Exploit()], object)]})],
            [pickle.dumps({"source_id": "nobody is here", "model": "mean", "inputs": [good]})],
            [b"x" * (17 * 2**20)],
        ):  # fmt: skip
            user.send_raw(*frames)
        user.send("mean", good)
        output = user.receive()
        assert (output["error"], output["parameters"]["index"]) == (None, 5)
        told = (
            (("mean", 7), "[INVALID_REQUEST]: inputs[0]: expected a dict, found int 7"),
            (("mean", {}), "[INVALID_REQUEST]: inputs[0].parameters: expected a dict with names, found none"),
            (("mean", {"parameters": {}}), "[INVALID_REQUEST]: inputs[0].data: expected an array, found none"),
            (("mean", {**good, "data": 7}), "[INVALID_REQUEST]: inputs[0].data: expected an array or a list"),
            (("mean", {**good, "data": [[1], [2, 3]]}), "[INVALID_REQUEST]: inputs[0].data: expected nested lists"),
            (("mean", {**good, "data": ["a", "bb"]}), "[INVALID_REQUEST]: inputs[0].data: expected numbers, found str"),
            (("mean", {**good, "shape": "x"}), "[INVALID_REQUEST]: inputs[0].shape: expected integers or None"),
            (("mean", {**good, "datatype": "u1"}), "[INVALID_REQUEST]: inputs[0].datatype: expected one of fp16"),
            (("mean", {**good, "shape": [9]}), "[INVALID_REQUEST]: shape: expected one of 24 elements, found [9]"),
            (("nobody", good), "[E001]: Request for unknown model: 'nobody' is not found"),
            (("mean", {**good, "parameters": {"anger": 3}}), "[MODEL_ERROR]: ValueError: anger 3"),
        )  # fmt: skip
        for (model, sent), error in told:
            user.send(model, sent)
            assert user.receive()["error"].startswith(error)
        user.send_raw(pickle.dumps({"source_id": "victim", "model": 7, "inputs": []}))
        assert user.receive()["error"] == "[INVALID_REQUEST]: model: expected text, found int 7"
        user.send_raw(pickle.dumps({"source_id": "victim", "model": "mean", "inputs": 7}))
        assert user.receive()["error"] == "[INVALID_REQUEST]: inputs: expected a list, found int 7"
    assert not Path("/tmp/inferoxy-exploit").exists()
    wait_until(lambda: "messages of clients are refused" in first.stack.log(), 5.0, first.stack.log)
    assert first.stack.log().count("messages of clients are refused") < 10


def test_the_bridge_is_off_unless_asked_for_and_says_what_it_needs() -> None:
    with Stack("", rest="", grpc="", zmq="") as stack, pytest.raises(LookupError):
        stack.pid_of("bridge_legacy")
    for environment, error in (
        ({}, "legacy_requests: expected an address, found none; give one by INFEROXY_LEGACY_REQUESTS"),
        ({"INFEROXY_LEGACY_REQUESTS": "tcp://127.0.0.1:0"}, "legacy_results: expected an endpoint beside"),
    ):
        command = [sys.executable, "-m", "inferoxy", "bridge", "legacy"]
        ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30)
        assert ran.returncode == 2
        assert error in ran.stderr


def test_a_bridge_that_was_killed_is_back(first: First) -> None:
    before = first.stack.kill("bridge_legacy")
    first.stack.wait_back("bridge_legacy", before)
    with User(first, "afterwards") as user:
        user.send("mean", {"data": PICTURE, "parameters": {"index": 1}})
        assert user.receive()["parameters"]["index"] == 1
