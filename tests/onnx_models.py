"""Tiny ONNX models for tests, built node by node."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str | None]
FLOAT, UINT8, FLOAT16 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.FLOAT16


def save(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, Dims]],
    outputs: Sequence[tuple[str, int, Dims]],
    constants: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a graph; inputs and outputs are (name, element type, dimensions)."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path


def doubler(path: Path, batch: int | str | None = "batch", output_batch: int | str | None = "batch") -> Path:
    """y = x + x, FP32 [batch, 4]."""
    return save(
        path,
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [("x", FLOAT, [batch, 4])],
        [("y", FLOAT, [output_batch, 4])],
    )


def picture_sum(path: Path, dims: Dims) -> Path:
    """The sum over each channel of a UINT8 picture, [1, 3] or [N, 1, 3]: axes before the channels but the batch."""
    axes = [-3, -2]
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=FLOAT),
        helper.make_node("ReduceSum", ["real", "axes"], ["sum"], keepdims=0),
    ]
    out: Dims = [dims[0], 3] if len(dims) == 4 else [3]
    return save(path, nodes, [("image", UINT8, dims)], [("sum", FLOAT, out)], {"axes": np.array(axes, np.int64)})


def constant_head(
    path: Path,
    head: np.ndarray,
    *,
    side: int | str = 64,
    batch: int | str = "batch",
    metadata: Mapping[str, str] | None = None,
    kind: int = FLOAT,
) -> Path:
    """A detector that gives `head` [P, Q] for every picture, plus the mean of its input, which is made zero first."""
    dtype = np.float16 if kind == FLOAT16 else np.float32
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Squeeze", ["nothing", "axis"], ["flat"]),
        helper.make_node("Add", ["flat", "head"], ["output0"]),
    ]
    constants = {
        "zero": np.array(0, dtype), "axis": np.array([3], np.int64), "head": np.asarray(head, dtype)[None],
    }  # fmt: skip
    return save(
        path, nodes, [("images", kind, [batch, 3, side, side])], [("output0", kind, [batch, *head.shape])],
        constants, metadata,
    )  # fmt: skip
