"""Compare a request's tensors with the model's declared inputs, and say how its bytes are to be read.

Pure. The outcome for one combination of names, datatypes and shapes never changes, so it is kept (`Layout`) and found
again by one look-up; nothing that came with the bytes themselves belongs in it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from inferoxy import tensors as tensor_rules
from inferoxy.errors import InvalidRequest
from inferoxy.kept import Kept
from inferoxy.messages import Tensor, TensorSpec
from inferoxy.runtime.backend import Signature

MAX_LAYOUTS = 1024
VARIES = -1  # size of an encoded picture or a BYTES tensor: the shape does not tell
_CHANNELS = 3


class Layout(NamedTuple):
    """What one combination of tensors means to a model.

    Attributes:
        rows: Length of the batch axis; 1 where requests are not stacked.
        group: Equal for requests that may be stacked together.
        tensors: In the order of the model's inputs, under their names.
        sizes: Expected bytes in the order in which the tensors came, or VARIES.
        order: Where each of the model's inputs stands among the tensors that came.
        encoded: One of them is an encoded picture.
    """

    rows: int
    group: tuple[Any, ...]
    tensors: tuple[Tensor, ...]
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    encoded: bool


class Inputs:
    """A model's declared inputs.

    Args:
        signature: What the model takes.
        stacked: Requests are joined along axis 0.
        batch_size: The most rows of a stacked request.
    """

    def __init__(self, signature: Signature, stacked: bool, batch_size: int) -> None:
        self.specs = signature.inputs
        self._any_picture_name = signature.any_picture_name
        self._stacked = stacked
        self._batch_size = batch_size
        self._layouts: Kept[tuple[Any, ...], Layout] = Kept(MAX_LAYOUTS)

    def find(self, tensors: Sequence[Tensor]) -> Layout:
        """How to read a request with these tensors.

        Raises:
            InvalidRequest: They are not what the model takes.
        """
        key = tuple([(t.name, t.datatype, t.shape, t.encoding) for t in tensors])  # not how they travel
        layout = self._layouts.get(key)
        return layout if layout is not None else self._layouts.keep(key, self._read(tensors))

    def _read(self, found: Sequence[Tensor]) -> Layout:
        named = [self._named(tensor, len(found)) for tensor in found]
        specs = {spec.name: spec for spec in self.specs}
        for tensor in named:
            if any(d < 0 for d in tensor.shape):
                raise InvalidRequest(f"input {tensor.name!r}: shape {list(tensor.shape)} has a negative dimension")
        # The sides of an encoded picture are compared once it has been turned upright.
        shown = [_as_declared(t, specs[t.name]) if t.encoding and t.name in specs else t for t in named]
        tensor_rules.check_against(self.specs, shown)
        order = tuple([t.name for t in named].index(spec.name) for spec in self.specs)
        encoded = any(t.encoding for t in named)
        return Layout(
            rows=self._rows(named) if self._stacked else 1,
            group=group_of([named[i].shape for i in order]) if self._stacked else (),
            tensors=tuple(named[i] for i in order),
            sizes=tuple(_size(t) for t in named),
            order=order,
            encoded=encoded,
        )

    def _named(self, tensor: Tensor, count: int) -> Tensor:
        """The tensor under the name of the input that it is meant for."""
        name = tensor.name
        if self._any_picture_name and count == 1 and tensor.datatype == "UINT8":
            name = self.specs[0].name
        elif not name:
            pictures = [spec.name for spec in self.specs if tensor.encoding and holds_picture(spec)]
            choice = pictures or [spec.name for spec in self.specs]
            if len(choice) != 1:
                raise InvalidRequest(f"input without a name: expected one of {', '.join(choice)}")
            name = choice[0]
        return Tensor(name, tensor.datatype, tensor.shape, None, tensor.encoding)

    def _rows(self, tensors: Sequence[Tensor]) -> int:
        lengths = {1 if t.encoding else t.shape[0] for t in tensors}
        if len(lengths) != 1:
            found = ", ".join(f"{t.name} {list(t.shape)}" for t in tensors)
            raise InvalidRequest(f"inputs: expected the same batch axis (the first) in all, found {found}")
        rows = lengths.pop()
        if not 1 <= rows <= self._batch_size:
            raise InvalidRequest(f"batch axis: expected 1 to {self._batch_size} rows, found {rows}")
        return rows


def group_of(shapes: Sequence[Sequence[int]]) -> tuple[Any, ...]:
    """What must be equal in two requests, inputs in the model's order, for them to be stacked."""
    return tuple(tuple(shape[1:]) for shape in shapes)


def holds_picture(spec: TensorSpec) -> bool:
    """Whether an encoded picture can be decoded into this input: UINT8 [height, width, 3], or one such per row."""
    fits = len(spec.shape) == 3 or (len(spec.shape) == 4 and spec.shape[0] in (-1, 1))
    return spec.datatype == "UINT8" and fits and spec.shape[-1] in (-1, _CHANNELS)


def check_picture(spec: TensorSpec, shape: Sequence[int]) -> None:
    """Compare a decoded picture, as it goes to the model, with the declared input.

    Raises:
        InvalidRequest: A side is another.
    """
    tensor_rules.check_against([spec], [Tensor(spec.name, "UINT8", tuple(shape))])


def _as_declared(tensor: Tensor, spec: TensorSpec) -> Tensor:
    if not holds_picture(spec):
        raise InvalidRequest(
            f"input {spec.name!r}: expected a {spec.datatype} {list(spec.shape)} tensor, found an encoded "
            f"{tensor.encoding} picture; only a UINT8 [height, width, 3] input takes pictures"
        )
    return Tensor(tensor.name, tensor.datatype, tuple(max(d, 1) for d in spec.shape))


def _size(tensor: Tensor) -> int:
    if tensor.encoding or tensor.datatype == tensor_rules.BYTES:
        return VARIES
    return tensor_rules.count_elements(tensor.name, tensor.shape) * tensor_rules.element_bytes(tensor.datatype)
