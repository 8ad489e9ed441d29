"""W3: takes the time that a GPU would, one batch at a time, and no CPU."""

import time
from typing import ClassVar

from inferoxy.runtime import Model
from inferoxy.tensors import Array

BATCH_S = 0.005
ITEM_S = 0.0002


class Sleeper(Model):
    """FP32 [N, 16] to the same, after 5 ms and 0.2 ms per row."""

    inputs: ClassVar = {"INPUT0": ("FP32", [-1, 16])}
    outputs: ClassVar = {"OUTPUT0": ("FP32", [-1, 16])}

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """The inputs themselves, later."""
        rows = inputs["INPUT0"]
        time.sleep(BATCH_S + ITEM_S * len(rows))
        return {"OUTPUT0": rows}
