"""`-p NAME=VALUE`: the model's own parameters, as words of a command line. Pure."""

import json
from collections.abc import Sequence
from typing import Any

from inferoxy.errors import InvalidRequest

# What the client's methods mean themselves, with the option that says it here.
TAKEN = {
    "draw": "--save",
    "window": "--window",
    "version": "MODEL@VERSION",
    "timeout_s": "--timeout",
    "priority": "--priority",
    "progress": "--quiet",
}


def parse_parameters(words: Sequence[str], confidence: float | None = None) -> dict[str, Any]:
    """The parameters by name.

    Args:
        words: NAME=VALUE each. A value that is JSON is what JSON means (0.5, true, [1, 2], "7"), any other is text.
        confidence: Of --confidence.

    Raises:
        InvalidRequest: One has no name, is given twice or has an option of its own.
    """
    found: dict[str, Any] = {} if confidence is None else {"confidence": confidence}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or not name:
            raise InvalidRequest(f"-p: expected NAME=VALUE, found {word!r}")
        if name in found:
            raise InvalidRequest(f"-p: expected {name} once, found it twice")
        if name in TAKEN:
            raise InvalidRequest(f"-p: {name} is no parameter of a model; say it with {TAKEN[name]}")
        found[name] = _value(text)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # NaN and the like, which no JSON holds, are text
