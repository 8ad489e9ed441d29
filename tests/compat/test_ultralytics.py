"""Ultralytics' remote inference, `YOLO("http://host:port/model", task="detect")`, against an ordinary ONNX model.

The whole package needs torch (1.6 GB), so it has an environment of its own (`make compat-ultralytics`) and its tests
are skipped without one. Its own client of servers, which needs no torch, is always tested.
"""

import ast
import itertools
import json
from collections.abc import Iterator

import numpy as np
import pytest

from tests.compat.callers import ENVIRONMENT, Caller
from tests.compat.models import SAMPLE
from tests.integration.stack import Stack

WHOLE = ENVIRONMENT.with_name("compat-ultralytics")
NAMES = ["circle", "square", "triangle", "star", "hexagon", "cross"]
CONFIDENCE = 0.5


@pytest.fixture(params=("http", "grpc"))
def url(request: pytest.FixtureRequest, stack: Stack) -> str:
    address = stack.grpc_address if request.param == "grpc" else stack.rest_url.removeprefix("http://")
    return f"{request.param}://{address}/network"


@pytest.fixture
def remote(url: str) -> Iterator[Caller]:
    with Caller("ultralytics_remote.py", url.split(":")[0], url) as caller:
        yield caller


@pytest.fixture
def ultralytics(url: str) -> Iterator[Caller]:
    if not (WHOLE / "bin" / "python").exists():
        pytest.skip("Ultralytics is not installed: make compat-ultralytics")
    with Caller("ultralytics_client.py", url.split(":")[0], url, environment=WHOLE) as caller:
        yield caller


def test_ultralytics_client_reads_names_and_metadata_from_the_configuration(remote: Caller) -> None:
    found = remote.call("describe")
    assert (found["inputs"], found["outputs"]) == (["images"], ["output0"])
    assert found["metadata"]["task"] == "detect"
    assert found["metadata"]["stride"] == "32"
    assert ast.literal_eval(found["metadata"]["names"]) == dict(enumerate(NAMES))


@pytest.mark.parametrize("batch", [1, 4])
def test_ultralytics_client_runs_the_network(remote: Caller, batch: int) -> None:
    shapes, _ = remote.call("run", shape=[batch, 3, 320, 320])
    assert shapes == [[batch, 10, 2100]]


def test_yolo_predicts_remotely_what_the_detector_finds(ultralytics: Caller, callers: dict[str, Caller]) -> None:
    found = ultralytics.call("predict", path=str(SAMPLE), size=320, confidence=CONFIDENCE)
    assert list(found["names"].values()) == NAMES
    answer = callers["http"].call(
        "infer_file", model="detector", path=str(SAMPLE), outputs=["prediction"], parameters={"confidence": CONFIDENCE}
    )
    ours = json.loads(answer["outputs"]["prediction"]["data"][0])
    assert len(ours["boxes"]) > 2
    assert sorted(found["class_id"]) == sorted(ours["class_id"])
    for box, class_id in zip(ours["boxes"], ours["class_id"], strict=True):
        same = [b for b, c in zip(found["boxes"], found["class_id"], strict=True) if c == class_id]
        assert max(itertools.starmap(overlap, ((box, b) for b in same))) > 0.9


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection over union."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / (sum(areas) - both)
