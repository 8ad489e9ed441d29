"""What is wrong with a message that cannot be read: which field, what was expected there and what was found.

Pure. The decoder names positions; here they get the names that protos/wire.md gives them.
"""

import re
from collections.abc import Sequence
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from inferoxy import messages as m
from inferoxy.errors import InvalidRequest

_WRONG_HEADER = re.compile(r"header of kind (\w+): (.*)", re.DOTALL)
_PAYLOAD = re.compile(r"payload: (.*)", re.DOTALL)
_PLACE = re.compile(r" - at (?:`key` in )?`\$([^`]*)`")
_TYPE = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
_LENGTH = re.compile(r"Expected `array` of at least length (\d+), got (\d+)")
_ENUM = re.compile(r"Invalid enum value (.*)")
_SOMETHING_ELSE = "something else"
_HEADERS: dict[str, type[m.Header]] = {"REQUEST": m.Request, "CANCEL": m.Cancel, "PING": m.Ping}
_SAID = {"None": "nil", "array | null": "array or nil", "int | str": "int or str", "object": "map"}


def explain(exc: InvalidRequest, frame: Any = None) -> InvalidRequest:
    """The same error with fields by name; errors of another origin as they are.

    Args:
        exc: As wire.decode or wire.decode_payload raised it.
        frame: The header, if it is the one that cannot be read.
    """
    if frame is not None and exc.message.endswith(_SOMETHING_ELSE):
        return InvalidRequest(exc.message.removesuffix(_SOMETHING_ELSE) + _form_of(frame))
    header, payload = _WRONG_HEADER.match(exc.message), _PAYLOAD.match(exc.message)
    if header and header[1] in _HEADERS:
        return InvalidRequest(_explain(header[2], _HEADERS[header[1]], header[1]))
    return InvalidRequest(_explain(payload[1], m.Payload, "payload")) if payload else exc


def id_of(frame: Any) -> int:
    """The id in the header of a request that cannot be read otherwise; 0 where there is none either."""
    try:
        found = msgspec.msgpack.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return 0
    if not isinstance(found, list) or found[:2] != [m.PROTOCOL_VERSION, m.Kind.REQUEST] or len(found) < 4:
        return 0
    return found[3] if type(found[3]) is int and found[3] > 0 else 0


def _explain(text: str, form: Any, whole: str) -> str:
    place = _PLACE.search(text)
    at, kind = _field(form, place[1]) if place else ("", form)
    where = f"{whole}.{at}" if whole == "payload" and at else at or whole
    what = _PLACE.sub("", text)
    if found := _TYPE.search(what):
        return f"{where}: expected {_said(found[1])}, found {_said(found[2])}"
    if found := _LENGTH.search(what):
        return f"{where}: expected at least {found[1]} elements, found {found[2]}"
    if found := _ENUM.search(what):
        return f"{where}: expected {' or '.join(map(repr, get_args(kind)))}, found {found[1]}"
    return f"{where}: expected one whole MessagePack array, found other bytes ({what})"


def _form_of(frame: Any) -> str:
    """What a frame begins with that is no header."""
    if not len(frame):
        return "an empty frame"
    first = memoryview(frame)[0]
    if first == 0xDD:
        return "an array32"
    if first == 0xDC or 0x90 <= first <= 0x9F:
        return "an array of too few elements"
    return "a map" if first in (0xDE, 0xDF) or 0x80 <= first <= 0x8F else f"a first byte {first:#04x}"


def _field(form: Any, path: str) -> tuple[str, Any]:
    """What stands at a path such as [9][0]: its name, and its type."""
    name = ""
    for step in re.findall(r"\[([^\]]*)\]", path):
        form = _struct_in(form)
        if step.isdecimal() and isinstance(form, type) and issubclass(form, msgspec.Struct):
            field = form.__struct_fields__[int(step)]
            name += f".{field}" if name else field
            form = get_type_hints(form)[field]
        else:
            name += f"[{step}]"
            form = (get_args(form) or (Any,))[0] if get_origin(form) in (list, tuple) else Any
    return name, form


def _struct_in(form: Any) -> Any:
    """Of a type that may be nil, the other one."""
    others: Sequence[Any] = [one for one in get_args(form) if one is not type(None)]
    return others[0] if type(None) in get_args(form) and len(others) == 1 else form


def _said(kind: str) -> str:
    return _SAID.get(kind, kind)
