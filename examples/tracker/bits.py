"""Measure whether a detector's numbers depend on how pictures are batched, and what each way of running it costs.

Prints, for each number of threads and size of batch, in how many pictures anything differs from that picture alone in
one thread, by how much at most, and pictures per second; the follower's way (follower/finding.py) last.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.append(str(Path(__file__).resolve().parent / "follower"))

from finding import Finder
from video import Video

from inferoxy.runtime.yolo.letterbox import letterbox

DETECTOR = Path(__file__).resolve().parents[1] / "detector" / "detector.onnx"
PICTURES = 48
SIZES = (1, 2, 3, 4, 5, 8, 16)
ROUNDS = 3
SIDE = 320  # of the repository's detector's input

Run = Callable[[np.ndarray], np.ndarray]


def session(path: Path, threads: int) -> Run:
    """The detector with this many threads inside an operation: pictures [N, 3, SIDE, SIDE] to raw output [N, ...]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name
    return lambda pictures: made.run(None, {name: pictures})[0]


def in_batches(run: Run, pictures: np.ndarray, size: int) -> np.ndarray:
    """The output for all pictures, given so many at a time."""
    return np.concatenate([run(pictures[at : at + size]) for at in range(0, len(pictures), size)])


def timed(work: Callable[[], np.ndarray | None]) -> float:
    """The least seconds of several rounds."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure whether detections depend on the batch.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8], help="to try (default 1 2 4 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the video whose frames are used (default 0)")
    given = parser.parse_args()
    images = [image for image, _ in Video(given.seed, PICTURES)]
    pictures = np.empty((len(images), 3, SIDE, SIDE), np.float32)
    for image, target in zip(images, pictures, strict=True):
        letterbox(image, target)
    expected = in_batches(session(DETECTOR, 1), pictures, 1)
    print(f"{'threads':>8}{'batch':>7}{'pictures that differ':>22}{'at most by':>13}{'pictures/s':>12}")
    for threads in given.threads:
        run = session(DETECTOR, threads)
        for size in SIZES:
            difference = np.abs(in_batches(run, pictures, size) - expected).reshape(len(images), -1).max(axis=1)
            rate = len(images) / timed(lambda run=run, size=size: in_batches(run, pictures, size))
            count = int((difference > 0).sum())
            print(f"{threads:>8}{size:>7}{count:>22}{difference.max():>13.1e}{rate:>12.0f}", flush=True)
    for threads in given.threads:
        finder = Finder(DETECTOR, 0.1, threads)
        rate = len(images) / timed(lambda finder=finder: finder.find(images))
        print(f"{threads:>8}  follower: each picture by itself, letterbox and suppression included{rate:>8.0f}")
        finder.close()


if __name__ == "__main__":
    main()
