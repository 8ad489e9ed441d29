"""Doubles its input, in a time that can be chosen; or fails as its options or its input's first element say."""

import os
import signal
import time
from typing import Any, ClassVar

from inferoxy.runtime import Model

EXIT, CRASH, LOOP, RAISE = -1, -2, -3, -4  # as first element of a request: what it does to the process
EATEN_AT_ONCE = 1 << 24


class Double(Model):
    inputs: ClassVar[Any] = {"INPUT": ("INT32", [-1, -1])}
    outputs: ClassVar[Any] = {"OUTPUT": ("INT32", [-1, -1])}

    def load(self):
        print("reading weights", flush=True)
        time.sleep(self.options.get("load_s", 0.0))
        fault = self.options.get("fault", "")
        if fault == "raises":
            raise ValueError("the weights are broken")
        if fault == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        while fault == "endless":
            time.sleep(1.0)
        eaten = []
        while fault == "hungry":
            eaten.append(bytearray(b"x") * EATEN_AT_ONCE)
        self.service_s = self.options.get("service_ms", 0.0) / 1e3

    def infer(self, inputs):
        sent = inputs["INPUT"]
        marks = set(sent[:, 0].tolist())
        if marks & {EXIT, CRASH, LOOP}:
            print(f"poisoned batch of {len(sent)}", flush=True)
        if EXIT in marks:
            os._exit(3)
        if CRASH in marks:
            os.kill(os.getpid(), signal.SIGSEGV)
        while LOOP in marks:
            pass
        if RAISE in marks:
            raise ValueError("cannot double this")
        time.sleep(self.service_s)
        return {"OUTPUT": sent * 2}
