"""What is wrong with a file or a set of fields that a person wrote, in words.

Pure. A problem names the keys that lead to it, what was expected there and what was found.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

FOUND_LENGTH = 60  # characters of a wrong value that a message repeats


class Problem(NamedTuple):
    """One thing that is wrong: the keys that lead to it, and what was expected and found there."""

    path: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.text}" if self.path else self.text


class Expect(str):
    """Metadata of a field: its rule in words, for messages."""

    __slots__ = ()


def found(value: object) -> str:
    """A wrong value as a message shows it: JSON, short."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= FOUND_LENGTH else f"{text[: FOUND_LENGTH - 1]}…"
