"""What the machine allows for pictures: decode, letterbox, ONNX Runtime and NMS in one loop in one process.

The detector's own functions, as an instance calls them, with the same threads; no request, no queue, no other process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, cast

from inferoxy.bench.histogram import Histogram
from inferoxy.errors import InferoxyError


class Looped(NamedTuple):
    """What the loop reached. `p50_ms` is of one turn, which is one picture where the batch is 1."""

    pictures_per_s: float
    p50_ms: float
    p99_ms: float
    boxes: int


def run(model: Path, picture: Path, batch: int, seconds: float, warmup_s: float) -> Looped:
    """Run the loop in a process of its own.

    Raises:
        InferoxyError: It failed.
    """
    command = [sys.executable, "-m", "inferoxy.bench.suite.plain_loop", str(model), str(picture)]
    command += [f"--batch={batch}", f"--seconds={seconds}", f"--warmup={warmup_s}"]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise InferoxyError(f"the plain loop failed: {ended.stderr[-800:]}")
    return Looped(**json.loads(ended.stdout))


def loop(model: Path, picture: Path, batch: int, seconds: float, warmup_s: float) -> Looped:
    """Run the loop here."""
    from inferoxy.messages import InstanceConfig
    from inferoxy.runtime.decode import decode_picture
    from inferoxy.runtime.sdk import Request
    from inferoxy.runtime.yolo.model import IMAGE, Detections, Yolo, load

    threads = len(os.sched_getaffinity(0))
    config = InstanceConfig(
        instance="plain", model="detector", model_version="1", backend="", runtime="yolo", artifact=str(model),
        batch_size=batch, threads=threads,
    )  # fmt: skip
    detector = cast(Yolo, load(config))
    data = picture.read_bytes()
    turns = Histogram()
    boxes = 0

    def turn() -> int:
        shared = detector.begin(batch)
        requests = [Request({IMAGE: decode_picture(data, "jpeg")}) for _ in range(batch)]
        for row, request in enumerate(requests):
            detector.prepare(request, shared, row)
        found = detector.infer_each(requests)
        first = found[0]
        return len(first.tensors["boxes"]) if isinstance(first, Detections) else 0

    until = time.perf_counter() + warmup_s
    while time.perf_counter() < until or not boxes:
        boxes = turn()
        if not boxes and time.perf_counter() > until + 1:
            break
    began = now = time.perf_counter()
    times: list[float] = []
    while now - began < seconds:
        turn()
        ended = time.perf_counter()
        times.append(ended - now)
        now = ended
    turns.add(times)
    rate = len(times) * batch / (now - began)
    return Looped(rate, turns.percentile(50) * 1e3, turns.percentile(99) * 1e3, boxes)


def main() -> None:
    """Run the loop that the command line describes and print what it reached."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    found = parser.parse_args()
    print(json.dumps(loop(found.model, found.picture, found.batch, found.seconds, found.warmup)._asdict()))


if __name__ == "__main__":
    main()
