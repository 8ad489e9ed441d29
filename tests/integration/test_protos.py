"""The generated gRPC modules beside protos/*.proto are what the generator makes of them now."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    generator = importlib.metadata.version("grpcio-tools")
    committed = (ROOT / "protos" / "inference_pb2_grpc.py").read_text()
    made_by = re.search(r"GRPC_GENERATED_VERSION = '(.*)'", committed)
    assert made_by
    if made_by[1] != generator:
        pytest.skip(f"made by grpcio-tools {made_by[1]}, installed is {generator}")
    protos = [str(path.relative_to(ROOT)) for path in (ROOT / "protos").glob("*.proto")]
    into = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *into, *protos]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    made = sorted(tmp_path.glob("protos/*"))
    names = ("inference", "inferoxy_v1")
    assert [path.name for path in made] == sorted(
        f"{name}_{end}" for name in names for end in ("pb2.py", "pb2.pyi", "pb2_grpc.py")
    )
    for path in made:
        assert path.read_text() == (ROOT / "protos" / path.name).read_text(), f"run `make protos`: {path.name} differs"
