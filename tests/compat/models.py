"""The models that foreign clients are run against.

scale      FP32 [-1, 4] to its double and its sum; version 2 gives the triple (batched)
everything a tensor of each datatype, [-1], given back
words      BYTES to upper case, and their lengths
told       what the model is told of a request, as JSON; `sleep_s` makes it slow, `anger` makes it fail
scores     gives its input back: five numbers to be classified (fresh-http and fresh-grpc: the same, not asked before)
mirror     one large FP32 tensor [-1], given back
sums       a running sum for each sequence, INT32 [1]
repeat     decoupled: IN[i] for every i, and an error after `fail_after` of them; no answer at all for an empty IN
mean       takes pictures, gives a prediction and the picture inverted
detector   the example detector: pictures in, boxes out
network    the same file as an ordinary ONNX model
"""

from pathlib import Path

from tests.integration.client_models import MEAN, WORDS

REPOSITORY = Path(__file__).parents[2]
DETECTOR = REPOSITORY / "examples" / "detector" / "detector.onnx"
BIG = 2**53 + 1  # the first integer that a double cannot hold
SAMPLE = REPOSITORY / "examples" / "detector" / "sample.jpg"
DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64",
    "BYTES",
)  # fmt: skip

SCALE = """
from inferoxy.runtime import Model

class Scale(Model):
    inputs = {"IN": ("FP32", [-1, 4])}
    outputs = {"SCALED": ("FP32", [-1, 4]), "SUM": ("FP32", [-1, 1])}

    def infer(self, inputs):
        return {"SCALED": inputs["IN"] * self.options["factor"], "SUM": inputs["IN"].sum(1, keepdims=True)}
"""

EVERYTHING = f"""
from inferoxy.runtime import Model

class Everything(Model):
    inputs = {{datatype: (datatype, [-1]) for datatype in {DATATYPES}}}
    outputs = {{f"{{datatype}}_OUT": (datatype, [-1]) for datatype in {DATATYPES}}}

    def infer_each(self, requests):
        return [{{f"{{name}}_OUT": array for name, array in request.items()}} for request in requests]
"""

TOLD = """
import json, time

import numpy as np

from inferoxy.runtime import Model

class Told(Model):
    inputs = {"IN": ("INT32", [1])}
    outputs = {"TOLD": ("BYTES", [1])}

    def infer_each(self, requests):
        answers = []
        for request in requests:
            if request.parameters.get("anger"):
                answers.append(ValueError(f"anger {request.parameters['anger']} \\u00e9"))
                continue
            time.sleep(float(request.parameters.get("sleep_s", 0)))
            told = {"in": int(request["IN"][0]), "parameters": request.parameters}
            answers.append({"TOLD": np.array([json.dumps(told).encode()], object)})
        return answers
"""

SCORES = """
from inferoxy.runtime import Model

class Scores(Model):
    inputs = {"IN": ("FP32", [-1, 5])}
    outputs = {"OUT": ("FP32", [-1, 5])}

    def infer(self, inputs):
        return {"OUT": inputs["IN"]}
"""

MIRROR = """
from inferoxy.runtime import Model

class Mirror(Model):
    inputs = {"IN": ("FP32", [-1])}
    outputs = {"OUT": ("FP32", [-1])}

    def infer_each(self, requests):
        return [{"OUT": request["IN"]} for request in requests]
"""

SUMS = """
from inferoxy.runtime import Model

class Sums(Model):
    inputs = {"IN": ("INT32", [1])}
    outputs = {"SUM": ("INT32", [1])}

    def load(self):
        self.sums = {}

    def start_sequence(self, sequence_id):
        self.sums[sequence_id] = 0

    def infer_sequence(self, sequence_id, inputs):
        self.sums[sequence_id] += int(inputs["IN"][0])
        return {"SUM": [self.sums[sequence_id]]}

    def end_sequence(self, sequence_id, reason):
        del self.sums[sequence_id]
"""

REPEAT = """
import time

import numpy as np

from inferoxy.runtime import Model

class Repeat(Model):
    inputs = {"IN": ("INT32", [-1])}
    outputs = {"OUT": ("INT32", [1])}
    decoupled = True

    def infer_each(self, requests):
        return [self.answers(request) for request in requests]

    def answers(self, request):
        for count, value in enumerate(request["IN"]):
            if count == request.parameters.get("fail_after", -1):
                raise ValueError(f"failed after {count}")
            time.sleep(float(request.parameters.get("sleep_s", 0)))
            yield {"OUT": np.array([value], np.int32)}
"""

SOURCES = {
    "scale": SCALE, "everything": EVERYTHING, "words": WORDS, "told": TOLD, "scores": SCORES,
    "mirror": MIRROR, "sums": SUMS, "repeat": REPEAT, "mean": MEAN,
}  # fmt: skip
SETTINGS = {
    "scale": "batch_size: 8, options: {factor: 2}",
    "scores": "batch_size: 4",
    "sums": "stateless: false, max_sequences: 16",
}


def write_models(folder: Path) -> str:
    """Put the models into a folder; the text of the models.yaml that serves them."""
    lines = []
    for name, source in SOURCES.items():
        place = folder / name
        place.mkdir()
        (place / "model.py").write_text(source)
        settings = SETTINGS.get(name, "batch_size: 1")
        lines.append(f"{name}: {{artifact: {place}, runtime: python, load_timeout_s: 30, {settings}}}")
    lines.append(f"scale@2: {{artifact: {folder / 'scale'}, runtime: python, batch_size: 8, options: {{factor: 3}}}}")
    for form in ("http", "grpc"):
        lines.append(f"fresh-{form}: {{artifact: {folder / 'scores'}, runtime: python, batch_size: 4}}")
    lines.append(f"detector: {{artifact: {DETECTOR}, runtime: yolo, batch_size: 4}}")
    lines.append(f"network: {{artifact: {DETECTOR}, runtime: onnx, batch_size: 4}}")
    return "\n".join(lines) + "\n"
