"""`mlserver infer`, MLServer's command for files of requests: it goes through tritonclient.http.aio."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compat.callers import ENVIRONMENT
from tests.integration.stack import Stack


def infer(stack: Stack, folder: Path, model: str, requests: list[Any], *flags: str) -> list[dict[str, Any]]:
    """The lines that the command writes, in the order of the requests."""
    asked, answered = folder / "requests.jsonl", folder / "answers.jsonl"
    asked.write_text("".join(json.dumps(request) + "\n" for request in requests))
    command = [
        str(ENVIRONMENT / "bin" / "mlserver"),
        "infer",
        "-u",
        stack.rest_url.removeprefix("http://"),
        "-m",
        model,
    ]
    command += ["-i", str(asked), "-o", str(answered), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in answered.read_text().splitlines()]
    return sorted(lines, key=lambda line: int(line["parameters"]["batch_index"]))


def rows(count: int) -> list[Any]:
    return [
        {"id": f"r{n}", "inputs": [{"name": "IN", "shape": [1, 4], "datatype": "FP32", "data": [n, n, n, n]}]}
        for n in range(count)
    ]


@pytest.mark.parametrize("flags", [(), ("--binary-data",)], ids=["json", "binary"])
def test_mlserver_infer_writes_an_answer_for_every_request(
    stack: Stack, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    found = infer(stack, tmp_path, "scale", rows(40), *flags)
    assert len(found) == 40
    for n, answer in enumerate(found):
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        assert outputs == {"SCALED": [2.0 * n] * 4, "SUM": [4.0 * n]}
        assert (answer["id"], answer["model_name"]) == (f"r{n}", "scale")


def test_mlserver_infer_sends_micro_batches(stack: Stack, tmp_path: Path) -> None:
    found = infer(stack, tmp_path, "scale", rows(20), "--batch-size", "4", "--workers", "2")
    sums = [next(o["data"] for o in answer["outputs"] if o["name"] == "SUM") for answer in found]
    assert sums == [[4.0 * n] for n in range(20)]


def test_mlserver_infer_takes_wanted_outputs_and_strings(stack: Stack, tmp_path: Path) -> None:
    inputs = [{"name": "WORDS", "shape": [2], "datatype": "BYTES", "data": ["one", "three"]}]
    [found] = infer(stack, tmp_path, "words", [{"inputs": inputs, "outputs": [{"name": "LENGTH"}]}])
    assert [(o["name"], o["data"]) for o in found["outputs"]] == [("LENGTH", [3, 5])]


def test_mlserver_infer_writes_the_server_s_text(stack: Stack, tmp_path: Path) -> None:
    [found] = infer(stack, tmp_path, "nosuch", rows(1), "--retries", "1")
    assert "Request for unknown model: 'nosuch'" in found["error"]["msg"]
