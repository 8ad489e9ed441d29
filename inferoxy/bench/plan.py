"""What one run sends: the plan that the parent gives its worker processes, and how users write parts of it.

Pure. A plan travels as JSON.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct

from inferoxy.errors import InvalidRequest
from inferoxy.messages import TensorSpec
from inferoxy.tensors import BYTES, DTYPES, Array, element_bytes

LARGEST_TENSOR_BYTES = 1 << 30
FREE_PICTURE_SIDES = (480, 640)  # height and width where a model leaves both free
TEXT = b"inferoxy"  # every element of a synthetic BYTES tensor

Form = Literal["v2", "predict"]
Arrivals = Literal["even", "poisson"]


class Plan(Struct, kw_only=True):
    """One run of one worker process.

    Attributes:
        url: Of a bridge: http://, grpc://, tcp:// or ipc://.
        pictures: Files, sent in turn.
        tensors: Synthetic inputs as NAME:DATATYPE:SHAPE.
        body: A file with a whole V2 JSON request, instead of pictures and tensors.
        form: How a picture is asked about over HTTP: its own path, or the Open Inference Protocol.
        slots: Requests in flight; of an open loop the most there may be.
        rate: Requests per second of this process; 0: closed loop.
        share, shares: Which part of the schedule is this process's.
        duration_s: What is measured.
        warmup_s: What is sent before that.
        expected: Outputs by name, flattened, that every check must find; empty: not known.
        joined: ZeroMQ: requests that are due together travel in one message.
    """

    url: str
    model: str
    version: str = ""
    pictures: list[str] = []
    tensors: list[str] = []
    body: str = ""
    form: Form = "predict"
    slots: int = 1
    rate: float = 0.0
    arrivals: Arrivals = "even"
    share: int = 0
    shares: int = 1
    duration_s: float = 5.0
    warmup_s: float = 1.0
    seed: int = 0
    expected: dict[str, list[float]] = {}
    joined: bool = False


class Tensor(NamedTuple):
    """A synthetic input."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}:{self.datatype}:{'x'.join(map(str, self.shape))}"


def parse_tensor(text: str) -> Tensor:
    """NAME:DATATYPE:SHAPE, such as INPUT0:FP32:1x16; no shape, as in X:FP32:, is a single number.

    Raises:
        InvalidRequest: It is none, or larger than LARGEST_TENSOR_BYTES.
    """
    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not parts[0]:
        raise InvalidRequest(f"tensor: expected NAME:DATATYPE:SHAPE such as INPUT0:FP32:1x16, found {text!r}")
    name, datatype, shape_text = parts[0], parts[1].upper(), parts[2].lower()
    size = element_bytes(datatype)
    if datatype == "BF16":
        raise InvalidRequest(f"tensor {name!r}: BF16 has no array type here; FP16 is as large")
    words = shape_text.split("x") if shape_text else []
    if not all(word.isdecimal() for word in words):
        raise InvalidRequest(f"tensor {name!r}: expected a shape such as 1x16, found {parts[2]!r}")
    shape = tuple(map(int, words))
    if math.prod(shape) * (size or len(TEXT)) > LARGEST_TENSOR_BYTES:
        raise InvalidRequest(f"tensor {name!r}: expected at most {LARGEST_TENSOR_BYTES} bytes, found shape {shape}")
    return Tensor(name, datatype, shape)


def tensor_for(spec: TensorSpec) -> Tensor:
    """A synthetic input for a declared one; free dimensions are 1, those of a picture a picture's."""
    shape = spec.shape
    if spec.datatype == "UINT8" and len(shape) == 3 and shape[2] == 3:
        shape = tuple(free if d < 0 else d for d, free in zip(shape, (*FREE_PICTURE_SIDES, 3), strict=True))
    return Tensor(spec.name, spec.datatype, tuple(max(d, 1) if d < 0 else d for d in shape))


def synthesize(tensor: Tensor, seed: int) -> Array:
    """Values for an input, the same for the same seed: 0..1 for floats, small integers, any byte for UINT8."""
    chance = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
    if tensor.datatype == BYTES:
        array = np.empty(tensor.shape, object)
        array[...] = TEXT
        return array
    dtype = DTYPES[tensor.datatype]
    if dtype.kind == "f":
        return chance.random(tensor.shape, np.float32).astype(dtype)
    top = 2 if dtype.kind == "b" else 256 if dtype == np.uint8 else 100
    return chance.integers(0, top, tensor.shape).astype(dtype)


def parse_levels(text: str, what: str, *, whole: bool) -> list[float]:
    """Load levels such as 1,16,64.

    Raises:
        InvalidRequest: One is no positive number, or not whole where it must be.
    """
    levels: list[float] = []
    for word in text.split(","):
        try:
            level = float(word)
        except ValueError:
            level = 0.0
        if not (0 < level < math.inf) or (whole and level != int(level)):
            kind = "whole numbers" if whole else "numbers"
            raise InvalidRequest(f"{what}: expected positive {kind} such as 1,16,64, found {text!r}")
        levels.append(level)
    return levels


def split_slots(slots: int, processes: int) -> list[int]:
    """How many of the slots each process has; no process has none.

    Raises:
        InvalidRequest: There are fewer slots than processes.
    """
    if processes > slots:
        raise InvalidRequest(f"processes: expected at most {slots}, one for each connection, found {processes}")
    return [slots // processes + (number < slots % processes) for number in range(processes)]


def expected_values(tensors: Sequence[Tensor], seed: int) -> dict[str, list[float]]:
    """What a plan's synthetic inputs hold, flattened, by name."""
    return {tensor.name: synthesize(tensor, seed).ravel().tolist() for tensor in tensors}
