"""Answers with the sum of its sequence so far."""

import time
from typing import Any, ClassVar

from inferoxy.runtime import Model


class Sum(Model):
    inputs: ClassVar[Any] = {"INPUT": ("INT32", [-1])}
    outputs: ClassVar[Any] = {"OUTPUT": ("INT32", [-1])}

    def load(self):
        self.sums = {}
        self.service_s = self.options.get("service_ms", 0.0) / 1e3

    def start_sequence(self, sequence_id):
        self.sums[sequence_id] = 0

    def infer_sequence(self, sequence_id, inputs):
        time.sleep(self.service_s)
        self.sums[sequence_id] = self.sums[sequence_id] + inputs["INPUT"]
        return {"OUTPUT": self.sums[sequence_id]}

    def end_sequence(self, sequence_id, reason):
        del self.sums[sequence_id]
