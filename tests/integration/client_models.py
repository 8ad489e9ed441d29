"""Models that the client's tests are run against, and a stack that serves them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inferoxy.client import Client
from tests.integration.stack import Stack, wait_until

REPOSITORY = Path(__file__).parents[2]
PROTOCOLS = ("http", "grpc", "zmq")
SAMPLE = REPOSITORY / "examples" / "detector" / "sample.jpg"

MEAN = '''
"""The mean colour of a picture; parameters make it slow, blind or angry."""
import time

def predict_batch(samples, draw):
    results = []
    for sample in samples:
        if sample.get("anger"):
            raise ValueError(f"anger {sample['anger']}")
        time.sleep(sample.get("sleep_s", 0))
        image = sample["image"]
        known = {key: value for key, value in sample.items() if key != "image"}
        mean = [float(channel) for channel in image.mean((0, 1))]
        picture = None if sample.get("blind") else 255 - image
        results.append({"prediction": {"mean": mean, "shape": list(image.shape), "known": known}, "image": picture})
    return results
'''

SCALE = """
from inferoxy.runtime import Model

class Scale(Model):
    inputs = {"IN": ("FP32", [-1, 4])}
    outputs = {"DOUBLE": ("FP32", [-1, 4]), "SUM": ("FP32", [-1, 1])}

    def infer(self, inputs):
        return {"DOUBLE": inputs["IN"] * 2, "SUM": inputs["IN"].sum(1, keepdims=True)}
"""

WORDS = """
import numpy as np

from inferoxy.runtime import Model

class Words(Model):
    inputs = {"WORDS": ("BYTES", [-1])}
    outputs = {"UPPER": ("BYTES", [-1]), "LENGTH": ("INT64", [-1])}

    def infer_each(self, requests):
        answers = []
        for request in requests:
            words = request["WORDS"]
            upper = np.array([word.upper() for word in words], object)
            answers.append({"UPPER": upper, "LENGTH": np.array([len(word) for word in words], np.int64)})
        return answers
"""

COUNT = """
def predict_batch(samples, draw):
    return [
        {"prediction": {"step": step, "finished": step == 3}, "image": None}
        for sample in samples
        for step in (1, 2, 3)
    ]
"""

COUNTDOWN = """
import numpy as np

from inferoxy.runtime import Model

class Countdown(Model):
    inputs = {"FROM": ("INT32", [1])}
    outputs = {"NOW": ("INT32", [1])}
    decoupled = True

    def infer_each(self, requests):
        return [self._down(int(request["FROM"][0])) for request in requests]

    def _down(self, number):
        if number > 9:
            raise ValueError(f"{number} is too high")
        for now in range(number, 0, -1):
            yield {"NOW": np.array([now], np.int32)}
"""

BROKEN = """
raise RuntimeError("the weights are not there")
"""

SOURCES = {"mean": MEAN, "scale": SCALE, "words": WORDS, "count": COUNT, "countdown": COUNTDOWN, "broken": BROKEN}


def write_models(folder: Path) -> str:
    """Put the models into a folder; the text of the models.yaml that serves them, and the detector."""
    lines = []
    for name, source in SOURCES.items():
        place = folder / name
        place.mkdir()
        (place / "model.py").write_text(source)
        lines.append(f"{name}: {{artifact: {place}, runtime: python, batch_size: 4, load_timeout_s: 20}}")
    detector = REPOSITORY / "examples" / "detector" / "detector.onnx"
    lines.append(f"detector: {{artifact: {detector}, runtime: yolo, batch_size: 4}}")
    return "\n".join(lines) + "\n"


def serve(folder: Path) -> Iterator[Stack]:
    """A stack whose bridges all take requests, for a fixture to yield from."""
    with Stack(write_models(folder)) as running:
        for protocol in PROTOCOLS:
            with Client(url_of(running, protocol)) as client:
                wait_until(client.is_ready, 10.0)
        yield running


def url_of(stack: Stack, protocol: str) -> str:
    """Where a client that speaks this protocol finds the stack."""
    return {"http": stack.rest_url, "grpc": f"grpc://{stack.grpc_address}", "zmq": stack.zmq_endpoint}[protocol]


def colour(*rgb: int, size: tuple[int, int] = (24, 32)) -> Any:
    """A picture of one colour."""
    return np.full((*size, 3), rgb, np.uint8)
