"""W1: gives back what it gets, so that only the way there and back takes time."""

from typing import ClassVar

from inferoxy.runtime import Model
from inferoxy.tensors import Array


class Identity(Model):
    """FP32 [N, 16] to the same."""

    inputs: ClassVar = {"INPUT0": ("FP32", [-1, 16])}
    outputs: ClassVar = {"OUTPUT0": ("FP32", [-1, 16])}

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """The inputs themselves."""
        return {"OUTPUT0": inputs["INPUT0"]}
