"""The examples of docs/client.md run as they are written, against a real stack."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferoxy.client import Client
from tests.integration.client_models import REPOSITORY, SAMPLE
from tests.integration.stack import Stack, wait_until

DOCUMENT = REPOSITORY / "docs" / "client.md"

SCALE = """
from inferoxy.runtime import Model

class Scale(Model):
    inputs = {"INPUT0": ("FP32", [-1, 16])}
    outputs = {"OUTPUT0": ("FP32", [-1, 16])}

    def infer(self, inputs):
        return {"OUTPUT0": inputs["INPUT0"] * 2}
"""

TRACKER = """
seen = 0

def init(**kwargs):
    global seen
    seen = 0

def predict_batch(samples, draw):
    global seen
    results = []
    for sample in samples:
        seen += 1
        found = {"boxes": [[1, 2, 3, 4]], "confidence": [0.5], "class_id": [0], "class_name": ["a"], "track_id": [seen]}
        results.append({"prediction": found, "image": None})
    return results
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("models")
    lines = [f"detector: {{artifact: {SAMPLE.parent / 'detector.onnx'}, runtime: yolo, batch_size: 4}}"]
    for name, source, more in (("scale", SCALE, ""), ("tracker", TRACKER, ", stateless: false")):
        (folder / name).mkdir()
        (folder / name / "model.py").write_text(source)
        lines.append(f"{name}: {{artifact: {folder / name}, runtime: python, batch_size: 4{more}}}")
    with Stack("\n".join(lines)) as running:
        with Client(running.rest_url) as client:
            wait_until(client.is_ready, 10.0)
        yield running


def test_the_examples_of_the_client_s_document_run_as_they_are_written(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLE, "street.jpg")
    for name in ("photos/a.jpg", "photos/more/b.jpg", "frames/1.jpg", "frames/2.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLE, name)
    Path("photos/c.jpg").write_text("no picture")
    addresses = {
        "http://127.0.0.1:8698": stack.rest_url,
        "grpc://127.0.0.1:50051": f"grpc://{stack.grpc_address}",
        "tcp://127.0.0.1:7789": stack.zmq_endpoint,
    }
    text = DOCUMENT.read_text()
    for written, ours in addresses.items():
        text = text.replace(written, ours)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    said = capsys.readouterr().out
    assert "failed: " in said
    assert names["pixels"].shape == (640, 960, 3)
    assert [item.source.name for item in names["failed"]] == ["c.jpg"]
    assert Path("results.json").read_text().count('"image_id": "a"') == len(names["found"])
    assert names["result"]["OUTPUT0"].tolist() == [[2.0] * 16]
    assert "[1] [[1. 2. 3. 4.]]\n[2] [[1. 2. 3. 4.]]" in said
