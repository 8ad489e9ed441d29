# ruff: noqa: RUF012
"""Says how it is confined, then doubles its input; or fails in the way that the variable PROBE names."""

import json
import os
import signal
import time
from pathlib import Path

from inferoxy.runtime import Model


class Double(Model):
    inputs = {"X": ("FP32", [-1, 2])}
    outputs = {"Y": ("FP32", [-1, 2])}

    def load(self):
        kind = os.environ.get("PROBE", "")
        if kind == "broken":
            print("reading weights")
            raise ValueError("the weights are broken")
        if kind == "hungry":
            eaten = []
            while True:
                eaten.append(b"x" * 2**24)
        if kind == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("deaf now", flush=True)
            time.sleep(600)
        print("confined", json.dumps(confinement()), flush=True)

    def infer(self, inputs):
        return {"Y": inputs["X"] * 2}


def confinement():
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "writable": [place for place in ("/", "/app", "/run/inferoxy", "/tmp") if may_write(place)],
        "cwd": os.getcwd(),
        "home": os.environ.get("HOME"),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def may_write(place):
    try:
        path = Path(place, f"probe-{os.getpid()}")
        path.touch()
        path.unlink()
    except OSError:
        return False
    return True
