"""NVIDIA's perf_analyzer, a C++ client: it reads configuration and statistics and counts answers itself."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compat.callers import ENVIRONMENT
from tests.integration.stack import Stack

REQUESTS = 200


def run(
    stack: Stack, folder: Path, protocol: str, model: str, *flags: str, requests: int = REQUESTS
) -> tuple[dict[str, Any], str]:
    """Measure one level of concurrency: what it exported, and what it printed.

    Its own measurement of stability would make the time depend on the machine: so many requests are enough.
    """
    address = stack.grpc_address if protocol == "grpc" else stack.rest_url.removeprefix("http://")
    exported = folder / f"{model}.json"
    command = [str(ENVIRONMENT / "bin" / "perf_analyzer"), "-m", model, "-u", address, "-i", protocol, "-v"]
    command += ["--request-count", str(requests), "--profile-export-file", str(exported), *flags]
    environment = os.environ | {"LD_LIBRARY_PATH": str(ENVIRONMENT / "lib")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    # It writes the tensors' bytes into the JSON as they are.
    return json.loads(exported.read_text("latin-1"), strict=False), done.stdout


def answers(exported: dict[str, Any]) -> list[int]:
    """How often each request was answered."""
    return [len(r["response_timestamps"]) for e in exported["experiments"] for r in e["requests"]]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("memory", ["none", "system"])
def test_perf_analyzer_measures_a_batched_model(stack: Stack, tmp_path: Path, protocol: str, memory: str) -> None:
    flags = ["-b", "4", "--concurrency-range", "4", "--shared-memory", memory]
    exported, printed = run(stack, tmp_path, protocol, "scale", *flags)
    counted = answers(exported)
    assert len(counted) >= REQUESTS
    assert set(counted) == {1}
    # The server's part of the report comes from the difference of two statistics.
    assert "Inference count:" in printed
    assert "Successful request count:" in printed


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_perf_analyzer_measures_a_version_and_every_datatype(stack: Stack, tmp_path: Path, protocol: str) -> None:
    exported, _ = run(stack, tmp_path, protocol, "scale", "-x", "2")
    assert set(answers(exported)) == {1}
    exported, _ = run(stack, tmp_path, protocol, "words", "--shape", "WORDS:3", "--string-length", "9")
    assert set(answers(exported)) == {1}


@pytest.mark.parametrize(("model", "flags"), [("network", ["-b", "2"]), ("detector", ["--shape", "image:64,48,3"])])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_perf_analyzer_measures_a_network_and_a_picture_model(
    stack: Stack, tmp_path: Path, protocol: str, model: str, flags: list[str]
) -> None:
    exported, _ = run(stack, tmp_path, protocol, model, *flags, requests=10)
    assert set(answers(exported)) == {1}


def test_perf_analyzer_s_large_bodies_wait_for_100_continue(stack: Stack, tmp_path: Path) -> None:
    exported, _ = run(stack, tmp_path, "http", "mirror", "--shape", "IN:1000000", requests=20)
    assert set(answers(exported)) == {1}


def test_perf_analyzer_sends_and_reads_json(stack: Stack, tmp_path: Path) -> None:
    flags = ["--input-tensor-format", "json", "--output-tensor-format", "json"]
    exported, _ = run(stack, tmp_path, "http", "scale", *flags)
    assert set(answers(exported)) == {1}


@pytest.mark.parametrize("how", [("http",), ("grpc",), ("grpc", "--streaming")], ids=" ".join)
def test_perf_analyzer_runs_sequences(stack: Stack, tmp_path: Path, how: tuple[str, ...]) -> None:
    protocol, *more = how
    # Zeros, because sums of its random numbers overflow.
    flags = ["--concurrency-range", "4", "--sequence-length", "5", "--input-data", "zero", *more]
    exported, _ = run(stack, tmp_path, protocol, "sums", *flags)
    requests = [r for e in exported["experiments"] for r in e["requests"]]
    assert len(requests) >= REQUESTS
    assert all(r["sequence_id"] for r in requests)
    assert set(answers(exported)) == {1}


def test_perf_analyzer_reads_every_answer_of_a_decoupled_model(stack: Stack, tmp_path: Path) -> None:
    exported, _ = run(stack, tmp_path, "grpc", "repeat", "--streaming", "--shape", "IN:3", "--concurrency-range", "2")
    assert len(answers(exported)) >= REQUESTS
    # The empty answer that ends a request is counted, too.
    assert set(answers(exported)) <= {3, 4}


def test_perf_analyzer_compresses_grpc_messages(stack: Stack, tmp_path: Path) -> None:
    exported, _ = run(stack, tmp_path, "grpc", "scale", "--grpc-compression-algorithm", "gzip")
    assert set(answers(exported)) == {1}


def test_perf_analyzer_says_what_the_server_says_of_an_unknown_model(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nosuch"):
        run(stack, tmp_path, "http", "nosuch")
