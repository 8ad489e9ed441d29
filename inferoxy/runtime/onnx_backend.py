"""The onnx runtime: any ONNX model by ONNX Runtime, tensors in and tensors out.

The only importer of onnxruntime. A model whose inputs and outputs all begin with the same free dimension is stacked;
any other gets its requests one by one. yolo/ builds on `Session`.
Options: `stacked` (true or false) overrides what the shapes suggest; `providers`, a list, what the device suggests.
"""

import logging
from collections.abc import Sequence
from math import prod
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import onnxruntime

from inferoxy.errors import ModelUnavailable
from inferoxy.messages import InstanceConfig, TensorSpec
from inferoxy.runtime.backend import (
    Answer,
    Backend,
    EachBackend,
    Outcome,
    Signature,
    StackedBackend,
    check_options,
)
from inferoxy.runtime.cores import cores
from inferoxy.runtime.sdk import Array, Request
from inferoxy.tensors import DTYPES

PLATFORM = "onnxruntime"
WARM_UP_AT_MOST_BYTES = 1 << 28  # of one input
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
OPTIONS: dict[str, tuple[type, ...]] = {"stacked": (bool,), "providers": (list,)}
DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

log = logging.getLogger("inferoxy.runtime")


class Session:
    """An ONNX model that can be run.

    Attributes:
        inputs, outputs: As the file declares them, -1 for a free dimension.
        leading: The first dimension of each input and of each output: its length, its name, or None.
        metadata: The file's properties.
    """

    def __init__(self, config: InstanceConfig) -> None:
        path = Path(config.artifact)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config.threads or cores()
        options.inter_op_num_threads = 1
        # A spinning thread would take its core from the threads that decode the next batch's pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=_providers(config))
        except Exception as exc:  # onnxruntime's errors have no common base but this
            raise ModelUnavailable(f"{path}: ONNX Runtime cannot load it: {exc}") from exc
        self.providers: list[str] = self._session.get_providers()
        self.inputs = [_spec(path, node) for node in self._session.get_inputs()]
        self.outputs = [_spec(path, node) for node in self._session.get_outputs()]
        self.leading = [[node.shape[0] if node.shape else 0 for node in nodes]
                        for nodes in (self._session.get_inputs(), self._session.get_outputs())]  # fmt: skip
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._names = [spec.name for spec in self.outputs]
        self._has_text = any(spec.datatype == "BYTES" for spec in self.inputs)

    def run(self, inputs: dict[str, Array]) -> list[Array]:
        """All outputs, in the order of `outputs`."""
        if self._has_text:
            inputs = {name: _text(array) for name, array in inputs.items()}
        results: list[Array] = self._session.run(self._names, inputs)
        return results

    def time_run(self, inputs: dict[str, Array]) -> float:
        """The seconds that a run on these inputs takes. The very first says little: it also allocates memory."""
        began = monotonic()
        self.run(inputs)
        return monotonic() - began

    @property
    def is_stackable(self) -> bool:
        """Whether the first dimension of everything is one free dimension: the batch axis."""
        inputs, outputs = self.leading
        names = {d for d in inputs if isinstance(d, str)}
        free = all(not isinstance(d, int) or d < 0 for d in inputs + outputs)
        return free and len(names) <= 1 and all(d is None or d in names or not names for d in outputs)


def load(config: InstanceConfig) -> Backend:
    """Load an ONNX file.

    Raises:
        ModelUnavailable: It cannot be loaded, or an option is wrong.
    """
    check_options(config.options, OPTIONS)
    session = Session(config)
    stacked = config.options.get("stacked", session.is_stackable)
    metadata = {**session.metadata, "providers": ",".join(session.providers)}
    if stacked:
        for spec in session.inputs + session.outputs:
            if not spec.shape or spec.shape[0] != -1:
                raise ModelUnavailable(
                    f"options.stacked: expected a free first dimension everywhere, found {spec.name} {list(spec.shape)}"
                )
        batch_size = config.batch_size
        kind: type[OnnxStacked | OnnxEach] = OnnxStacked
    else:
        batch_size, kind = 1, OnnxEach
    backend = kind(session, Signature(
        session.inputs, session.outputs, batch_size, PLATFORM, metadata=metadata, fresh_outputs=True
    ))  # fmt: skip
    backend.warm_s = _warm_up(session, stacked)
    return backend


class OnnxStacked(StackedBackend):
    """A model with a batch axis."""

    def __init__(self, session: Session, signature: Signature) -> None:
        super().__init__(signature)
        self._session = session

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return dict(zip([s.name for s in self._session.outputs], self._session.run(inputs), strict=True))


class OnnxEach(EachBackend):
    """A model that takes one request at a time."""

    def __init__(self, session: Session, signature: Signature) -> None:
        super().__init__(signature)
        self._session = session

    def infer_each(self, requests: list[Request]) -> Sequence[Outcome]:
        return [self._infer(request) for request in requests]

    def _infer(self, request: Request) -> Outcome:
        try:
            results = self._session.run(request)
        except Exception as exc:
            return exc
        return Answer(dict(zip([s.name for s in self._session.outputs], results, strict=True)))


def _warm_up(session: Session, stacked: bool) -> float:
    """Run one row of zeros twice where the shapes say what that is; the seconds of the second run, or 0."""
    inputs: dict[str, Array] = {}
    for spec in session.inputs:
        shape = (1, *spec.shape[1:]) if stacked else spec.shape
        dtype = DTYPES.get(spec.datatype)
        if dtype is None or any(d < 0 for d in shape) or prod(shape) * dtype.itemsize > WARM_UP_AT_MOST_BYTES:
            return 0.0
        inputs[spec.name] = np.zeros(shape, dtype)
    try:
        session.run(inputs)
        return session.time_run(inputs)
    except Exception as exc:  # zeros may be no input for it: requests will tell
        log.info("the model was not warmed up: it cannot run on zeros: %s", exc)
        return 0.0


def _providers(config: InstanceConfig) -> list[Any]:
    """Execution providers for the device, best first, of those that this build of ONNX Runtime has.

    Raises:
        ModelUnavailable: `options.providers` names one that it has not.
    """
    available = onnxruntime.get_available_providers()
    wanted = config.options.get("providers")
    if wanted:
        missing = [name for name in wanted if name not in available]
        if missing:
            raise ModelUnavailable(f"options.providers: expected some of {', '.join(available)}, found {missing[0]!r}")
        return list(wanted)
    kind, _, index = config.device.partition(":")
    if kind in ("cuda", "gpu") and CUDA in available:
        return [(CUDA, {"device_id": index or "0"}), CPU]
    return [CPU]


def _spec(path: Path, node: Any) -> TensorSpec:
    datatype = DATATYPES.get(node.type)
    if datatype is None:
        raise ModelUnavailable(f"{path}: {node.name}: expected one of {', '.join(DATATYPES)}, found {node.type}")
    return TensorSpec(node.name, datatype, tuple(d if isinstance(d, int) and d >= 0 else -1 for d in node.shape))


def _text(array: Array) -> Array:
    """ONNX strings are text, BYTES elements are bytes."""
    if array.dtype.kind != "O":
        return array
    text = np.array([item.decode(errors="replace") for item in array.ravel().tolist()], object)
    return text.reshape(array.shape)
