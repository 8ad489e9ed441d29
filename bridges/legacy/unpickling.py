"""Read the pickles that the first Inferoxy's clients send: plain containers and numpy arrays, and nothing else.

Pure, and not Python's unpickler: that one runs what a pickle says. Here a pickle's instructions are a small language
of which only those that make values are known; the few functions that numpy's arrays are made by are recognised by
name and done by our own code, which gives numpy itself nothing but bytes whose size has been compared with the shape.
Invariants: nothing is imported or called by name; memory is bounded by the pickle's own length and the limit, time by
MAX_STEPS; whatever the bytes are, only InvalidRequest is raised.

Source: Python's pickletools module, which defines the instructions of protocols 0 to 5.
"""

import struct
from collections.abc import Callable
from typing import Any

from bridges.legacy.unpickled_arrays import FUNCTIONS, Budget, Function, Pending, call, settle, shown
from inferoxy.errors import InvalidRequest

MAX_STEPS = 4_000_000  # instructions; a picture as lists of numbers needs one for each
MAX_LINE_BYTES = 512  # of a name or number
MAX_INTEGER_BYTES = 9  # 64 bits and a sign
HIGHEST_PROTOCOL = 5


def loads(data: bytes, limit_bytes: int) -> Any:
    """The value in a pickle: None, bool, int, float, str, bytes, arrays, and lists, tuples and dicts of them.

    Args:
        data: The pickle.
        limit_bytes: How large the value may be; a part that is named again counts again.

    Raises:
        InvalidRequest: It is no pickle, holds anything else, or is larger than it looks.
    """
    try:
        found = _Machine(data, Budget(limit_bytes)).run()
    except (IndexError, struct.error, UnicodeError) as exc:
        raise InvalidRequest(f"pickle: expected a whole one, found a damaged one ({exc})") from exc
    return settle(found, limit_bytes)


class _Mark:
    """Stands on the stack where a group of values begins."""


_MARK = _Mark()
_KEYS = (str, int, float, bytes, bool, type(None))  # nothing whose hash goes deep


class _Machine:
    """The stack, and what has been remembered."""

    def __init__(self, data: bytes, budget: Budget) -> None:
        self._data = data
        self._budget = budget
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value that is on the stack when the pickle stops."""
        data, handlers = self._data, _HANDLERS
        for _ in range(MAX_STEPS):
            code = data[self._at]
            self._at += 1
            if code == _BYTE:  # what a picture as lists is made of
                self._stack.append(data[self._at])
                self._at += 1
                continue
            if code == _STOP:
                value = self._stack.pop()
                if self._stack or value is _MARK:
                    raise InvalidRequest("pickle: expected one value at its end, found others")
                return value
            handler = handlers.get(code)
            if handler is None:
                raise InvalidRequest(f"pickle: expected plain values and arrays, found instruction 0x{code:02x}")
            handler(self)
        raise InvalidRequest(f"pickle: expected at most {MAX_STEPS} instructions, found more; send arrays, not lists")

    # Reading

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise InvalidRequest(f"pickle: expected {size} bytes, found {len(self._data) - self._at}")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, form: str) -> Any:
        value = struct.unpack_from(form, self._data, self._at)[0]
        self._at += struct.calcsize(form)
        return value

    def line(self) -> str:
        end = self._data.find(b"\n", self._at, self._at + MAX_LINE_BYTES)
        if end < 0:
            raise InvalidRequest(f"pickle: expected a line of at most {MAX_LINE_BYTES} bytes, found none")
        line = self._data[self._at : end].decode("ascii")
        self._at = end + 1
        return line

    # The stack

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise InvalidRequest("pickle: expected a value, found the beginning of a group")
        return value

    def drop(self) -> None:
        self._stack.pop()

    def drop_group(self) -> None:
        self.group()

    def group(self) -> list[Any]:
        """The values above the last mark, which goes with them."""
        stack = self._stack
        for at in range(len(stack) - 1, -1, -1):
            if stack[at] is _MARK:
                values = stack[at + 1 :]
                del stack[at:]
                return values
        raise InvalidRequest("pickle: expected the beginning of a group, found none")

    def append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise InvalidRequest(f"pickle: expected a list to append to, found {type(target).__name__}")
        target += values

    def set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise InvalidRequest(f"pickle: expected a dict and pairs for it, found {type(target).__name__}")
        for at in range(0, len(values), 2):
            key = values[at]
            if not isinstance(key, _KEYS):
                raise InvalidRequest(f"pickle: expected text or a number as a key, found {type(key).__name__}")
            target[key] = values[at + 1]

    def put(self, at: int) -> None:
        value = self._stack[-1]
        if value is _MARK:
            raise InvalidRequest("pickle: expected a value to remember, found the beginning of a group")
        self._memo[at] = value

    def remember(self) -> None:
        self.put(len(self._memo))

    def get(self, at: int) -> None:
        if at not in self._memo:
            raise InvalidRequest(f"pickle: expected something remembered as {at}, found nothing")
        self._stack.append(self._memo[at])

    # Names and calls

    def name(self, module: Any, name: Any) -> None:
        function = FUNCTIONS.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if function is None:
            found = f"{shown(module)} {shown(name)}"
            raise InvalidRequest(f"pickle: expected plain values and arrays, found the name {found}")
        self._stack.append(function)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Function or type(arguments) is not tuple:
            raise InvalidRequest("pickle: expected a call that makes an array, found another")
        self._stack.append(call(function, arguments, self._budget))

    def build(self) -> None:
        state, target = self.pop(), self._stack[-1]
        if not isinstance(target, Pending):
            raise InvalidRequest(f"pickle: expected the state of an array, found that of {type(target).__name__}")
        target.build(state, self._budget)

    # Values

    def integer(self, size: int) -> None:
        if size > MAX_INTEGER_BYTES:
            raise InvalidRequest(f"pickle: expected integers of at most 64 bits, found one of {size} bytes")
        self._push_integer(int.from_bytes(self.take(size), "little", signed=True))

    def _push_integer(self, value: int) -> None:
        if not -(2**63) <= value < 2**64:
            raise InvalidRequest(f"pickle: expected integers of at most 64 bits, found {value}")
        self._stack.append(value)

    def text_integer(self, *, is_long: bool) -> None:
        text = self.line()
        if not is_long and text in ("00", "01"):
            self._stack.append(text == "01")
            return
        digits = text.removesuffix("L") if is_long else text
        if len(digits) > 20 or not digits.removeprefix("-").isdecimal():
            raise InvalidRequest(f"pickle: expected an integer of at most 64 bits, found {text[:40]!r}")
        self._push_integer(int(digits))

    def text_float(self) -> None:
        text = self.line()
        try:
            self._stack.append(float(text))
        except ValueError as exc:
            raise InvalidRequest(f"pickle: expected a number, found {text[:40]!r}") from exc

    def line_number(self) -> int:
        text = self.line()
        if len(text) > 10 or not text.isdecimal():
            raise InvalidRequest(f"pickle: expected a place in the memory, found {text[:40]!r}")
        return int(text)

    def text(self, size: int) -> None:
        self._stack.append(self.take(size).decode())

    def text_line(self) -> None:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise InvalidRequest("pickle: expected a line of text, found its end nowhere")
        text = self._data[self._at : end].decode("raw-unicode-escape")
        self._at = end + 1
        text.encode()  # not every escape is a character
        self._stack.append(text)

    def protocol(self) -> None:
        found = self.number("<B")
        if found > HIGHEST_PROTOCOL:
            raise InvalidRequest(f"pickle: expected protocol 0..{HIGHEST_PROTOCOL}, found {found}")

    def frame(self) -> None:
        size = self.number("<Q")
        if size > len(self._data) - self._at:
            raise InvalidRequest(f"pickle: expected a frame of {size} bytes, found {len(self._data) - self._at}")

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def dict_of(self, values: list[Any]) -> None:
        self._stack.append({})
        self.set_items(values)

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def one(self) -> list[Any]:
        return [self.pop()]

    def pair(self) -> list[Any]:
        value, key = self.pop(), self.pop()
        return [key, value]


_STOP, _BYTE = b".K"
_HANDLERS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.protocol,
    0x95: _Machine.frame,
    ord("("): lambda s: s.push(_MARK),
    ord("0"): _Machine.drop,
    ord("1"): _Machine.drop_group,
    ord("2"): lambda s: s.push(s._stack[-1]),
    ord("N"): lambda s: s.push(None),
    0x88: lambda s: s.push(True),
    0x89: lambda s: s.push(False),
    ord("M"): lambda s: s.push(s.number("<H")),
    ord("J"): lambda s: s.push(s.number("<i")),
    0x8A: lambda s: s.integer(s.number("<B")),
    0x8B: lambda s: s.integer(s.number("<I")),
    ord("I"): lambda s: s.text_integer(is_long=False),
    ord("L"): lambda s: s.text_integer(is_long=True),
    ord("G"): lambda s: s.push(s.number(">d")),
    ord("F"): _Machine.text_float,
    ord("X"): lambda s: s.text(s.number("<I")),
    0x8C: lambda s: s.text(s.number("<B")),
    0x8D: lambda s: s.text(s.number("<Q")),
    ord("V"): _Machine.text_line,
    ord("B"): lambda s: s.push(s.take(s.number("<I"))),
    ord("C"): lambda s: s.push(s.take(s.number("<B"))),
    0x8E: lambda s: s.push(s.take(s.number("<Q"))),
    0x96: lambda s: s.push(s.take(s.number("<Q"))),  # a bytearray; nobody here writes to it
    ord("]"): lambda s: s.push([]),
    ord("l"): lambda s: s.push(s.group()),
    ord("a"): lambda s: s.append(s.one()),
    ord("e"): lambda s: s.append(s.group()),
    ord(")"): lambda s: s.push(()),
    ord("t"): lambda s: s.push(tuple(s.group())),
    0x85: lambda s: s.tuple_of(1),
    0x86: lambda s: s.tuple_of(2),
    0x87: lambda s: s.tuple_of(3),
    ord("}"): lambda s: s.push({}),
    ord("d"): lambda s: s.dict_of(s.group()),
    ord("s"): lambda s: s.set_items(s.pair()),
    ord("u"): lambda s: s.set_items(s.group()),
    ord("p"): lambda s: s.put(s.line_number()),
    ord("q"): lambda s: s.put(s.number("<B")),
    ord("r"): lambda s: s.put(s.number("<I")),
    0x94: _Machine.remember,
    ord("g"): lambda s: s.get(s.line_number()),
    ord("h"): lambda s: s.get(s.number("<B")),
    ord("j"): lambda s: s.get(s.number("<I")),
    ord("c"): lambda s: s.name(s.line(), s.line()),
    0x93: _Machine.stack_name,
    ord("R"): _Machine.reduce,
    ord("b"): _Machine.build,
}
