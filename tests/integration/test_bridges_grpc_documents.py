"""The gRPC examples of the README and of docs/grpc.md do what they say when they are copied."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.client_models import REPOSITORY, SAMPLE
from tests.integration.stack import Stack

README = (REPOSITORY / "README.md").read_text()
GUIDE = (REPOSITORY / "docs" / "grpc.md").read_text()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    detector = SAMPLE.with_name("detector.onnx")
    with Stack(f"detector: {{artifact: {detector}, runtime: yolo, batch_size: 4}}\n") as running:
        yield running


def run(language: str, code: str, stack: Stack, folder: Path) -> list[str]:
    """The lines that an example prints, run where people copy it to."""
    code = code.replace("127.0.0.1:50051", stack.grpc_address).replace("/tmp/stubs", str(folder))
    code = code.replace(".venv/bin/python", sys.executable)
    file = folder / f"example.{language}"
    file.write_text(code)
    command = ["bash", "-eu", str(file)] if language == "sh" else [sys.executable, str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def block(text: str, language: str, holding: str) -> str:
    """The one example that holds this."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if holding in code]
    return str(found)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stubs")
    code = block(GUIDE, "sh", "protoc").replace("_out=.", f"_out={folder}").replace("python -m", f"{sys.executable} -m")
    subprocess.run(["bash", "-eu", "-c", code], cwd=REPOSITORY, check=True, timeout=60)
    return folder


def test_the_readmes_stubs_detect(stack: Stack, tmp_path: Path) -> None:
    lines = run("sh", block(README, "sh", "grpc_tools.protoc"), stack, tmp_path)
    assert len(lines) > 2
    assert all(re.fullmatch(r"\w+ 0\.\d\d at \d+,\d+", line) for line in lines), lines


def test_the_guides_picture_is_detected(stack: Stack, stubs: Path) -> None:
    found, about = run("py", block(GUIDE, "python", ".Predict("), stack, stubs)
    assert re.match(r"\[\('\w+', 0\.\d+\), ", found)
    assert "'boxes'" in about


def test_the_guides_video_is_answered(stack: Stack, stubs: Path) -> None:
    lines = run("py", block(GUIDE, "python", ".Stream("), stack, stubs)
    assert [int(line.split()[0]) for line in lines] == list(range(20))
    assert all(int(line.split()[1]) > 2 for line in lines)
