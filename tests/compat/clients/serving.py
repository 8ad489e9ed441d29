"""Run the functions of a client script one after the other, as a test asks for them.

A line of JSON {"call": name, "with": {…}} on standard input is answered by one on standard output: {"gave": …}, or
{"raised": type, "message": …, "status": …} when the client raised. What a library prints goes to standard error.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# Libraries print, too, some while they are imported: they get another standard output, and the answers the real one.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def serve(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until standard input ends; the functions are a script's globals."""
    for line in sys.stdin:
        asked = json.loads(line)
        answer = _answer(functions[asked["call"]], asked["with"])
        ANSWERS.write(json.dumps(answer, default=plain) + "\n")
        ANSWERS.flush()


def _answer(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"gave": function(**arguments)}
    except Exception as exc:
        traceback.print_exc()
        return told_of(exc)


def told_of(exc: BaseException) -> dict[str, str]:
    """What a client has made of an error: the server's text and status as the library hands them on."""
    told = {"raised": type(exc).__name__, "message": str(exc), "status": ""}
    for name, key in (("message", "message"), ("details", "message"), ("status", "status"), ("code", "status")):
        found = getattr(exc, name, None)
        if callable(found):
            told[key] = str(found() or "")
    response = getattr(exc, "response", None)
    if response is not None:
        told["status"] = str(response.status_code)
        told["message"] = response.text
    return told


def plain(value: Any) -> Any:
    """What JSON does not have: arrays become lists, bytes text of which each character is a byte."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, np.ndarray):
        is_number = value.dtype.kind in "biufOS"
        return (value if is_number else value.astype(np.float32)).tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")
