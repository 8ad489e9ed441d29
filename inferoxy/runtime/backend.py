"""The runtime interface: what the worker asks of whatever runs a model, and the table of runtimes.

A runtime is a module with `load(config) -> Backend`; it is imported only when it is asked for, because each needs
packages of its own. There are three kinds of backend, one for each way that requests reach a model: stacked, each by
itself, or as steps of sequences.
Invariant: load and all infer methods are called in the process's main thread; only `prepare` runs in other threads.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from inferoxy.errors import ModelUnavailable
from inferoxy.messages import InstanceConfig, TensorSpec
from inferoxy.runtime.onnx_file import read_metadata
from inferoxy.runtime.sdk import Array, Request

PICTURE = "picture"  # the output that is a drawn picture, and the name of its tensor in an answer

# runtime name: module. A further runtime (openvino, tensorrt, torch) is one more row and its module.
RUNTIMES = {
    "python": "inferoxy.runtime.python_backend",
    "onnx": "inferoxy.runtime.onnx_backend",
    "yolo": "inferoxy.runtime.yolo.model",
}


@dataclass(slots=True)
class Signature:
    """What a loaded model takes and gives.

    Attributes:
        inputs: Declared inputs; of a stacked model each shape starts with -1, the batch axis.
        outputs: Declared outputs, likewise.
        batch_size: The most items (rows, if stacked) of one batch.
        platform: What runs it, such as "onnxruntime".
        decoupled: Requests may be answered any number of times.
        metadata: What the model file says about itself.
        any_picture_name: The only input is a picture, and the only UINT8 tensor of a request is taken for it whatever
            its name.
        draws: It can draw a picture of its answer.
        fresh_outputs: Every result is a new array that nobody changes later, so it may be sent without a copy.
    """

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    batch_size: int
    platform: str
    decoupled: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    any_picture_name: bool = False
    draws: bool = False
    fresh_outputs: bool = False

    @property
    def output_datatypes(self) -> dict[str, str]:
        """Datatype of each output by name."""
        return {spec.name: spec.datatype for spec in self.outputs}


class Answer:
    """One answer to one request. `final` is false while more answers to the same request follow."""

    __slots__ = ("final", "parameters", "tensors")

    def __init__(self, tensors: dict[str, Array], parameters: dict[str, Any] | None = None, final: bool = True) -> None:
        self.tensors = tensors
        self.parameters = parameters
        self.final = final

    def prediction(self) -> Any:
        """The answer as what JSON can hold."""
        return {name: plain(array) for name, array in self.tensors.items() if name != PICTURE}

    def picture(self) -> Array | None:
        """The drawn picture, RGB UINT8 [height, width, 3]; called in a pool thread, and only when one is wanted."""
        return self.tensors.get(PICTURE)


# What became of one request: an answer, several, an error, or answers that are still to be made.
Outcome = Answer | Exception | Sequence[Answer] | Iterator[Answer]


class Backend:
    """A loaded model. `warm_s`: the seconds that a second run of one item took when it was loaded; 0: none was made."""

    warm_s = 0.0

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

    def close(self) -> None:
        """Give up what the model holds; nothing is called after it."""


class StackedBackend(Backend, ABC):
    """Requests are joined along axis 0.

    `writable_inputs`: the model's code may change its input in place, so even a lone request's arrays are copied.
    """

    writable_inputs = False

    @abstractmethod
    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """All outputs, each with as many rows as the inputs; they have been compared with the signature."""


class EachBackend(Backend, ABC):
    """Every request is handed over by itself. With `prepares`, each goes through `prepare` in the pool first."""

    prepares = False

    @abstractmethod
    def infer_each(self, requests: list[Request]) -> Sequence[Outcome]:
        """As many outcomes as requests, in order."""

    def begin_sequence(self, request: Request) -> None:
        """Before the first step of a sequence is handed over: whatever the one before has left must not be seen by it.

        Raises:
            Exception: The sequence cannot begin.
        """

    def begin(self, count: int) -> Any:
        """Whatever `prepare` needs that is shared by a batch of `count` requests."""
        return None

    def prepare(self, request: Request, shared: Any, row: int) -> None:
        """Work on one request, the batch's `row`-th, that may run beside the model's computing.

        Raises:
            InferoxyError: This request cannot be served.
        """


class SequenceBackend(Backend, ABC):
    """Requests are steps of sequences; ids are unique on this instance."""

    @abstractmethod
    def start_sequence(self, sequence_id: int | str) -> None:
        """Before the first step."""

    @abstractmethod
    def infer_sequence(self, sequence_id: int | str, request: Request) -> Outcome:
        """One step."""

    @abstractmethod
    def end_sequence(self, sequence_id: int | str, reason: str) -> None:
        """After the last step."""


def load(config: InstanceConfig) -> Backend:
    """Load the model that an instance is to serve.

    Raises:
        ModelUnavailable: The artifact or an option is wrong; the message says which and what was expected.
        Exception: Whatever the model's own code raises.
    """
    artifact = Path(config.artifact)
    if not artifact.exists():
        raise ModelUnavailable(f"artifact {config.artifact}: no such file or folder")
    name = config.runtime or infer_runtime(artifact)
    module = RUNTIMES.get(name)
    if module is None:
        raise ModelUnavailable(f"runtime: expected one of {', '.join(RUNTIMES)}, found {name!r}")
    return cast(Backend, import_module(module).load(config))


def infer_runtime(artifact: Path) -> str:
    """The runtime for an artifact whose spec names none.

    Raises:
        ModelUnavailable: Nothing here runs such a file.
    """
    if artifact.suffix == ".onnx":
        metadata = read_metadata(artifact)
        is_detector = metadata.get("task") == "detect" or {"names", "stride"} <= metadata.keys()
        return "yolo" if is_detector else "onnx"
    if artifact.suffix == ".py" or (artifact / "model.py").is_file():
        return "python"
    raise ModelUnavailable(
        f"artifact {artifact}: expected a .onnx file, a .py file or a folder with model.py; or say `runtime:`"
    )


def check_options(options: dict[str, Any], known: dict[str, tuple[type, ...]]) -> None:
    """Compare the spec's `options` with those a runtime has.

    Raises:
        ModelUnavailable: One is unknown or of another type.
    """
    for name, value in options.items():
        types = known.get(name)
        if types is None:
            expected = f"expected one of {', '.join(known)}" if known else "this runtime has none"
            raise ModelUnavailable(f"options.{name}: {expected}, found {name!r}")
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ModelUnavailable(
                f"options.{name}: expected {' or '.join(t.__name__ for t in types)}, found {value!r}"
            )


def plain(value: Any) -> Any:
    """A value with arrays as nested lists and bytes as text, so that JSON can hold it."""
    if isinstance(value, np.ndarray | np.generic):
        listed = value.tolist()
        return listed if value.dtype.kind in "biuf" else plain(listed)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value
