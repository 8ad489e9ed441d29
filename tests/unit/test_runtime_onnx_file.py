"""Metadata is read from a file's own bytes, and from nothing that is no ONNX file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferoxy.errors import ModelUnavailable
from inferoxy.runtime.onnx_file import read_metadata
from tests import onnx_models


def test_the_metadata_is_what_onnx_itself_reads(tmp_path: Path) -> None:
    said = {"names": "{0: 'caf\u00e9'}", "stride": "32", "empty": "", "long": "x" * 70_000}
    path = onnx_models.constant_head(tmp_path / "m.onnx", np.ones((50, 500), np.float32), metadata=said)
    assert read_metadata(path) == said == {p.key: p.value for p in onnx.load(path).metadata_props}


def test_a_model_without_metadata_has_none(tmp_path: Path) -> None:
    assert read_metadata(onnx_models.doubler(tmp_path / "m.onnx")) == {}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"absent.onnx: cannot be read"):
        read_metadata(tmp_path / "absent.onnx")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = onnx_models.doubler(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelUnavailable, match="not an ONNX file"):
        read_metadata(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_give_metadata_or_a_refusal(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.onnx"
    path.write_bytes(data)
    try:
        assert isinstance(read_metadata(path), dict)
    except ModelUnavailable:
        pass
