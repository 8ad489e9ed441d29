"""The messages of the first Inferoxy's ZeroMQ clients: a pickled request in, one pickled answer for each output.

Pure. Invariant: whatever the bytes are, only Unreadable is raised, which knows whom to tell if that could be read.
"""

from typing import Any, NamedTuple

import numpy as np

from bridges.legacy import pickling, unpickling
from bridges.legacy.inputs import DATATYPES, Sent
from bridges.legacy.outputs import Given
from inferoxy.errors import InferoxyError, InternalError, InvalidRequest
from inferoxy.tensors import Array

MAX_SOURCE_BYTES = 255  # a source's id is the identity of its socket


class Request(NamedTuple):
    """One message."""

    source: str
    model: str
    inputs: list[Sent | InvalidRequest]


class Unreadable(Exception):
    """A message that is no request. `source` and `model` are empty where they could not be read either."""

    def __init__(self, reason: InferoxyError, source: str = "", model: str = "") -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.source = source
        self.model = model


def read(data: bytes, limit_bytes: int) -> Request:
    """The request in a message.

    Args:
        data: A pickle.
        limit_bytes: How large its content may be.

    Raises:
        Unreadable: It is none.
    """
    try:
        found = unpickling.loads(data, limit_bytes)
    except InvalidRequest as exc:
        raise Unreadable(exc) from exc
    if not isinstance(found, dict):
        raise Unreadable(_wrong("request", "a dict", found))
    source, model, sent = found.get("source_id"), found.get("model"), found.get("inputs")
    if not isinstance(source, str) or not 0 < len(source.encode()) <= MAX_SOURCE_BYTES:
        raise Unreadable(_wrong("source_id", f"text of 1..{MAX_SOURCE_BYTES} bytes", source))
    if not isinstance(model, str):
        raise Unreadable(_wrong("model", "text", model), source)
    if not isinstance(sent, list | tuple):
        raise Unreadable(_wrong("inputs", "a list", sent), source, model)
    return Request(source, model, [_input(item, at) for at, item in enumerate(sent)])


def write(model: str, source: str, given: Given) -> bytes:
    """The answer of one output. What could not be pickled becomes its error."""
    try:
        return pickling.dumps(_answer(model, source, given))
    except (InternalError, UnicodeError, RecursionError) as exc:
        failed = Given(None, None, {}, f"[INTERNAL]: the answer cannot be written: {exc}")
        return pickling.dumps(_answer(model, source, failed))


def _answer(model: str, source: str, given: Given) -> dict[str, Any]:
    picture = given.picture
    output = {
        "shape": None if picture is None else list(picture.shape),
        "datatype": None if picture is None else "uint8",
        "data": picture,
        "output": given.prediction,
        "parameters": given.parameters,
        "error": given.error,
    }
    return {"model": model, "outputs": [output], "source_id": source}


def _input(item: Any, at: int) -> Sent | InvalidRequest:
    where = f"inputs[{at}]"
    if not isinstance(item, dict):
        return _wrong(where, "a dict", item)
    parameters, shape, datatype = item.get("parameters"), item.get("shape"), item.get("datatype")
    if not isinstance(parameters, dict) or not all(isinstance(key, str) for key in parameters):
        return _wrong(f"{where}.parameters", "a dict with names", parameters)
    if shape is not None:
        is_shape = isinstance(shape, list | tuple) and all(type(side) is int for side in shape)
        if not is_shape:
            return _wrong(f"{where}.shape", "integers or None", shape)
    if datatype is not None and (not isinstance(datatype, str) or datatype not in DATATYPES):
        return _wrong(f"{where}.datatype", f"one of {', '.join(DATATYPES)} or None", datatype)
    if "data" not in item:
        return _wrong(f"{where}.data", "an array", None)
    try:
        return Sent(_array(item["data"], where), shape, datatype, _listed(parameters))
    except InvalidRequest as exc:
        return exc


def _array(data: Any, where: str) -> Array:
    if isinstance(data, np.ndarray):
        return data
    if not isinstance(data, list | tuple):
        raise _wrong(f"{where}.data", "an array or a list", data)
    _check_numbers(data, where)
    try:
        return np.array(data)
    except (ValueError, OverflowError, RecursionError) as exc:
        raise InvalidRequest(f"{where}.data: expected nested lists of equal lengths, found different ones") from exc


def _check_numbers(values: Any, where: str) -> None:
    """Refuse what numpy would make room for by its longest element."""
    kinds = set(map(type, values))
    if not kinds <= {int, float, bool, list, tuple, np.ndarray}:
        raise InvalidRequest(f"{where}.data: expected numbers, found {', '.join(sorted(k.__name__ for k in kinds))}")
    if kinds & {list, tuple}:
        for value in values:
            if isinstance(value, list | tuple):
                _check_numbers(value, where)


def _listed(value: Any) -> Any:
    """A parameter with arrays as nested lists, which models get and clients get back."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value


def _wrong(field: str, expected: str, found: Any) -> InvalidRequest:
    shown = "none" if found is None else type(found).__name__
    if isinstance(found, str | int | float):
        shown += f" {found[:40]!r}" if isinstance(found, str) else f" {found}"
    return InvalidRequest(f"{field}: expected {expected}, found {shown}")
