"""How outputs are wanted in the Open Inference Protocol: as they are, as classes, or put into shared memory.

Source: Triton's extensions "classification" and "system shared memory".
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bridges.requests import TEXT_LIMIT
from bridges.results import Output
from bridges.v2_regions import Place, Regions, place_of
from inferoxy.errors import InvalidRequest
from inferoxy.messages import Tensor
from inferoxy.tensors import BYTES, encode_strings, from_bytes

MAX_CLASSES = 65_536


class Wanted(NamedTuple):
    """One requested output. `binary` None: as the request says for all; `classes` 0: its elements."""

    name: str
    binary: bool | None = None
    classes: int = 0
    place: Place | None = None


class Delivered(NamedTuple):
    """An output as it is answered; a placed one is answered without its data, which lies in shared memory."""

    output: Output
    is_placed: bool = False


def wanted_of(name: str, parameters: Mapping[str, Any] | None = None) -> Wanted:
    """A requested output with its parameters, as plain values.

    Raises:
        InvalidRequest: A parameter is not of its type.
    """
    if not parameters:
        return Wanted(name)
    what = f"output {name[:TEXT_LIMIT]!r}"
    binary = parameters.get("binary_data")
    if binary is not None and not isinstance(binary, bool):
        raise InvalidRequest(f"{what}: expected binary_data true or false, found {repr(binary)[:40]}")
    classes = parameters.get("classification", 0)
    if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes <= MAX_CLASSES:
        raise InvalidRequest(f"{what}: expected a classification of 0..{MAX_CLASSES}, found {repr(classes)[:40]}")
    return Wanted(name, binary, classes, place_of(what, parameters))


def deliver(
    outputs: Sequence[Output], wanted: Sequence[Wanted], regions: Regions, metadata: Mapping[str, str], *, stacked: bool
) -> list[Delivered]:
    """Outputs as they were asked for; what has a place is written there, all of it or nothing.

    Args:
        outputs: What v2.select_outputs gave.
        wanted: The request's; outputs that it does not name are delivered as they are.
        regions: Where places are.
        metadata: The model's own, for the names of classes.
        stacked: The first axis is the batch axis.

    Raises:
        InvalidRequest: An output has no classes, or does not fit its place.
    """
    by_name = {item.name: item for item in wanted}
    made: list[tuple[Output, Place | None]] = []
    for output in outputs:
        item = by_name.get(output.tensor.name)
        if item is not None and item.classes:
            output = classified(output, item.classes, _labels(metadata), stacked=stacked)
        place = item.place if item is not None else None
        if place is not None:
            regions.check(place, len(output.data), f"output {output.tensor.name!r}")
        made.append((output, place))
    for output, place in made:
        if place is not None:
            regions.write(place, output.data)
    return [Delivered(output, place is not None) for output, place in made]


def classified(output: Output, count: int, labels: Sequence[str], *, stacked: bool) -> Output:
    """The largest elements as BYTES "value:index" or "value:index:label", the best first.

    Args:
        output: Of a numeric datatype, [classes], or [batch, classes] where `stacked`.
        count: So many at most.
        labels: By index.
        stacked: Each row of the first axis is ranked by itself.

    Raises:
        InvalidRequest: It has no numbers.
    """
    tensor, data = output
    if tensor.datatype in (BYTES, "BF16") or not tensor.shape:
        where = f"{tensor.datatype} {list(tensor.shape)}"
        raise InvalidRequest(f"output {tensor.name!r}: expected numbers for classification, found {where}")
    values = from_bytes(tensor.name, tensor.datatype, tensor.shape, data)
    rows = values.reshape(tensor.shape[0] if stacked else 1, -1)
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    elements = [_class(row[at], at, labels) for row, places in zip(rows, best.tolist(), strict=True) for at in places]
    shape = (*best.shape,) if stacked else (best.shape[1],)
    return Output(Tensor(tensor.name, BYTES, shape), memoryview(encode_strings(elements)))


def _class(value: Any, at: int, labels: Sequence[str]) -> str:
    shown = f"{value:f}" if isinstance(value, np.floating) else str(int(value))
    return f"{shown}:{at}:{labels[at]}" if at < len(labels) and labels[at] else f"{shown}:{at}"


def _labels(metadata: Mapping[str, str]) -> list[str]:
    """The names of classes, from `names` as Ultralytics writes it: a Python literal {0: name} or [name]."""
    try:
        names = ast.literal_eval(metadata.get("names", "[]"))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    if isinstance(names, dict):
        found = {at: str(name) for at, name in names.items() if isinstance(at, int) and 0 <= at < MAX_CLASSES}
        return [found.get(at, "") for at in range(max(found, default=-1) + 1)]
    return [str(name) for name in names] if isinstance(names, list | tuple) else []
