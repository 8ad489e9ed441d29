"""What callers of the client hand over, checked and made plain.

Pure.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from inferoxy.client.calls import Call
from inferoxy.client.pictures import Source
from inferoxy.errors import InvalidRequest
from inferoxy.tensors import Array

AT_ONCE = 16  # pictures of one call under way at the same time: enough for full batches, far below queue limits
PRIORITY_LIMIT = 999
WINDOW_LIMIT = 1_024
ID_LIMIT = 256  # characters of a sequence id
INIT = "init"  # the parameter that a model of the first Inferoxy's kind takes with the first picture of a sequence
_NUMBER = re.compile(r"[1-9]\d{0,19}")

Draw = Literal["", "jpeg", "png"]
S = TypeVar("S", bound=Source)
Several = list[S] | tuple[S, ...]


def defaults_of(timeout_s: float | None, priority: int) -> Call:
    """What all calls of a client have in common.

    Raises:
        InvalidRequest: One is out of range.
    """
    return _checked(Call("", timeout_s=0.0 if timeout_s is None else timeout_s, priority=priority), timeout_s)


def make_call(
    defaults: Call,
    model: str,
    version: str,
    timeout_s: float | None,
    priority: int | None,
    parameters: Mapping[str, Any],
) -> Call:
    """One call.

    Raises:
        InvalidRequest: The model is no name, or something is out of range.
    """
    if not model or not isinstance(model, str):
        raise InvalidRequest(f"model: expected a name, found {model!r}")
    call = Call(
        model,
        str(version),
        defaults.timeout_s if timeout_s is None else timeout_s,
        defaults.priority if priority is None else priority,
        plain(parameters),
        new_request_id(),
    )
    return _checked(call, timeout_s)


def new_request_id() -> str:
    """What logs and errors call a request."""
    return secrets.token_hex(8)


def sequence_id_of(given: int | str | None) -> int | str:
    """A sequence's id: a random one of 63 bits where none is given; text that looks like a number is one.

    Raises:
        InvalidRequest: It is out of range.
    """
    if given is None:
        return secrets.randbits(63) or 1
    if isinstance(given, str) and _NUMBER.fullmatch(given) and int(given) < 2**64:
        return int(given)  # as the REST bridge reads it in a URL, so that all protocols mean the same
    if isinstance(given, str) and 0 < len(given) <= ID_LIMIT:
        return given
    if isinstance(given, int) and not isinstance(given, bool) and 0 < given < 2**64:
        return given
    raise InvalidRequest(
        f"sequence_id: expected 1..{2**64 - 1} or text of 1..{ID_LIMIT} characters, found {repr(given)[:80]}"
    )


def behind_the_first(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """What goes with the pictures of a sequence behind the one that all of these parameters go with."""
    return {name: value for name, value in parameters.items() if name != INIT}


def check_draw(draw: str) -> None:
    """Refuse an encoding that no bridge makes.

    Raises:
        InvalidRequest: It is none of those known.
    """
    if draw not in ("", "jpeg", "png"):
        raise InvalidRequest(f"draw: expected jpeg, png or empty, found {draw!r}")


def check_window(window: int) -> None:
    """Refuse a number of requests under way that makes no sense.

    Raises:
        InvalidRequest: It is out of range.
    """
    if not isinstance(window, int) or not 1 <= window <= WINDOW_LIMIT:
        raise InvalidRequest(f"window: expected 1..{WINDOW_LIMIT}, found {window!r}")


def plain(value: Any) -> Any:
    """numpy's scalars and arrays as Python's numbers and lists, at any depth."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def arrays_of(inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Inputs as arrays.

    Raises:
        InvalidRequest: They are none by name, or one cannot be made an array.
    """
    if not isinstance(inputs, Mapping):
        raise InvalidRequest(f"inputs: expected arrays by name, found {type(inputs).__name__}")
    return {name: _array_of(name, value) for name, value in inputs.items()}


def _array_of(name: str, value: ArrayLike) -> Array:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as exc:
        raise InvalidRequest(f"input {name!r}: expected an array, found what numpy makes none of ({exc})") from exc


def _checked(call: Call, timeout_s: float | None) -> Call:
    if timeout_s is not None and not 0 < timeout_s <= 86_400:
        raise InvalidRequest(f"timeout_s: expected more than 0 and at most 86400 seconds, found {timeout_s!r}")
    if not 0 <= call.priority <= PRIORITY_LIMIT:
        raise InvalidRequest(f"priority: expected 0..{PRIORITY_LIMIT}, found {call.priority!r}")
    return call
