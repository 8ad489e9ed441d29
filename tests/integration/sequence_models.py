"""Stateful models that the tests of sequences are run against, and a stack that serves them.

sums       a running sum, INT32 [1] to INT32 [1]; 5 raises, 4 ends the instance
frames     the same for pictures, by the red of their first pixel; slow enough for batches to form
fleeting   sums that end when they are idle for a second
levels     the first Inferoxy's functions: `init(start)`, the sum of reds, and as many results more as `more` says
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inferoxy.client import Client
from tests.integration.client_models import PROTOCOLS, colour, url_of
from tests.integration.stack import Stack, wait_until

SUMS = '''
"""A running sum for each sequence; what happens to a sequence is written to a file."""
import os, time

from inferoxy.runtime import Model


class Sums(Model):
    inputs = {"IN": ("INT32", [1])}
    outputs = {"SUM": ("INT32", [1])}

    def load(self):
        self.sums = {}
        self.note("load", os.getpid())

    def note(self, *words):
        with open(self.options["log"], "a") as file:
            print(*words, file=file, flush=True)

    def start_sequence(self, sequence_id):
        self.sums[sequence_id] = 0
        self.note("start", sequence_id)

    def infer_sequence(self, sequence_id, inputs):
        value = int(inputs["IN"][0])
        if value == 4:
            os._exit(1)
        if value == 5:
            raise ValueError("not 5")
        self.sums[sequence_id] += value
        return {"SUM": [self.sums[sequence_id]]}

    def end_sequence(self, sequence_id, reason):
        del self.sums[sequence_id]
        self.note(reason, sequence_id)
'''
FRAMES = SUMS.replace('{"IN": ("INT32", [1])}', '{"IMAGE": ("UINT8", [-1, -1, 3])}').replace(
    'value = int(inputs["IN"][0])', 'time.sleep(0.02)\n        value = int(inputs["IMAGE"][0, 0, 0])'
)
LEVELS = '''
"""The sum of the reds since `init`."""
state = {"sum": 0}


def init(start):
    state["sum"] = start


def predict_batch(samples, draw):
    results = []
    for sample in samples:
        state["sum"] += int(sample["image"][0, 0, 0])
        for left in range(sample.get("more", 0)):
            results.append({"prediction": {"left": left, "finished": False}, "image": None})
        results.append({"prediction": {"sum": state["sum"]}, "image": 255 - sample["image"]})
    return results
'''
SOURCES = {"sums": SUMS, "frames": FRAMES, "fleeting": SUMS, "levels": LEVELS}
SETTINGS = {
    "sums": "max_sequences: 4",
    "frames": "max_sequences: 2, batch_size: 4",
    "fleeting": "max_sequences: 4, sequence_idle_s: 1",
    "levels": "batch_size: 4",
}


class Served:
    """A stack, and what its models have noted."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self._folder = folder

    def url(self, protocol: str) -> str:
        """Where a client that speaks this protocol finds the stack."""
        return url_of(self.stack, protocol)

    def notes(self, model: str) -> list[str]:
        """What a model has noted, in order."""
        return self._log(model).read_text().splitlines() if self._log(model).exists() else []

    def told(self, model: str, sequence_id: int | str) -> list[str]:
        """What a model was told of a sequence."""
        found = [line.split(" ", 1) for line in self.notes(model)]
        return [word for word, rest in found if word != "load" and rest == str(sequence_id)]

    def wait_told(self, model: str, sequence_id: int | str, *words: str, timeout_s: float = 10.0) -> None:
        """Wait until a model was told exactly this of a sequence."""
        wait_until(
            lambda: self.told(model, sequence_id) == list(words),
            timeout_s,
            lambda: f"{model} was told {self.told(model, sequence_id)} of {sequence_id}\n{self.stack.log()}",
        )

    def pid(self, model: str) -> int:
        """The process of a model's newest instance."""
        return int([line for line in self.notes(model) if line.startswith("load")][-1].split()[1])

    def _log(self, model: str) -> Path:
        return self._folder / model / "notes"


def serve_sequences(folder: Path) -> Iterator[Served]:
    """A stack that serves these models, ready over all protocols, for a fixture to yield from."""
    lines = []
    for name, source in SOURCES.items():
        place = folder / name
        place.mkdir()
        (place / "model.py").write_text(source)
        options = "" if source is LEVELS else f", options: {{log: {place / 'notes'}}}"
        lines.append(f"{name}: {{artifact: {place}, runtime: python, stateless: false, {SETTINGS[name]}{options}}}")
    with Stack("\n".join(lines) + "\n") as stack:
        for protocol in PROTOCOLS:
            with Client(url_of(stack, protocol)) as client:
                wait_until(client.is_ready, 10.0)
        yield Served(stack, folder)


def one(value: int) -> dict[str, Any]:
    """Inputs of sums."""
    return {"IN": np.array([value], np.int32)}


def red(level: int) -> Any:
    """A picture for frames and levels."""
    return colour(level, 0, 0, size=(4, 6))
