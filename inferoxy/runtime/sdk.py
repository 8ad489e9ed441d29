"""`Model`, the base class of models written in Python, and `Request`, what such a model is given.

python_backend.py finds and runs the class; nothing here knows how requests arrive.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

Array = NDArray[Any]
Declared = Mapping[str, tuple[str, Sequence[int]]]  # name: (datatype, shape)


class Request(dict[str, Array]):
    """One request: input arrays by name.

    Arrays are read-only views of the memory they arrived in; they are valid until the request has been answered.

    Attributes:
        id: What the client called its request; may be empty.
        parameters: The request's parameters.
        draw: The caller wants a picture too.
    """

    __slots__ = ("draw", "id", "parameters", "prepared")

    def __init__(
        self,
        arrays: Mapping[str, Array] | None = None,
        parameters: dict[str, Any] | None = None,
        id: str = "",
        draw: bool = False,
    ) -> None:
        super().__init__(arrays or {})
        self.id = id
        self.parameters: dict[str, Any] = {} if parameters is None else parameters
        self.draw = draw
        self.prepared: Any = None


class Model:
    """A model written in Python: subclass it once in model.py.

    Datatypes carry Open Inference Protocol names (FP32, UINT8, BYTES, …); -1 is a free dimension. Define one of:

    `infer(self, inputs)`
        Inputs is a dict of arrays, the requests of a batch stacked along axis 0; so is the result. Every declared shape
        starts with -1, the batch axis. The arrays are the model's to change. When it raises for several requests it is
        called again for each alone, so that only the guilty one fails.
    `infer_each(self, requests)`
        Requests is a list of `Request`; the result is a list of as many dicts of arrays, in order. An exception in a
        slot fails that request alone; a generator of dicts in a slot answers several times (set `decoupled`).
    `infer_sequence(self, sequence_id, inputs)`
        For `stateless: false`. One `Request` of one sequence, in order; returns a dict of arrays or a generator of
        them. Sequence ids are the clients' own; when two clients use the same id at the same time on one instance, the
        later one's is given as the string "<id>@<client>". So use them as keys and do not take them apart.

    A result holds exactly the declared outputs with the declared datatypes and shapes; what is no numpy array (a list,
    a float) is converted. An output ("UINT8", [-1, -1, 3]) named "picture" is what callers get who ask for a JPEG or
    PNG.

    Attributes:
        inputs: name: (datatype, shape) of every input.
        outputs: The same of every output.
        decoupled: Requests may be answered any number of times.
        options: The `options` of models.yaml.
        device: "cpu" or "cuda:N", where the model should compute.
        batch_size: The most items a batch can have.
    """

    inputs: ClassVar[Declared] = {}
    outputs: ClassVar[Declared] = {}
    decoupled: ClassVar[bool] = False

    options: dict[str, Any]
    device: str
    batch_size: int

    def load(self) -> None:
        """Called once, before the first batch; raising here fails the instance and shows the traceback to callers."""

    def start_sequence(self, sequence_id: int | str) -> None:
        """Called before the first request of a sequence; raising fails that request, and the sequence does not live."""

    def end_sequence(self, sequence_id: int | str, reason: str) -> None:
        """Called once after the last request: drop the state. What it raises is logged and has no other effect.

        Args:
            sequence_id: As in `start_sequence`.
            reason: "ended": its client said so, or started it anew. "idle": no request came for `sequence_idle_s`.
                "client_gone": its client's connection broke. "failed": its first request failed, or the server could
                not keep it: this instance ends, or the server's memory of it is lost. Its client is told.
        """

    def close(self) -> None:
        """Called when the instance ends in order."""
