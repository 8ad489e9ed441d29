"""Measure the exported detector: average precision on held-out pictures and pictures per second on one core.

Running the file is detect.py, the arithmetic of the score score.py; this draws the pictures, times and prints.
Invariants: the held-out set is seed HELD_OUT_SEED, which train.py never uses; timing covers letterbox, network and
suppression of decoded pictures, one at a time, and runs apart from the scoring.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from detect import Detections, Detector
from generate import NAMES, make_numbered_picture
from score import average_precisions, match

HELD_OUT_SEED = 2
SCORING_MIN_SCORE = 0.01  # precision is measured down to here
STRICT_OVERLAPS = np.linspace(0.5, 0.95, 10)  # the IoU thresholds COCO averages over
TIMED_PICTURES = 100
TIMED_ROUNDS = 5


Labels = Sequence[tuple[np.ndarray, np.ndarray]]  # boxes and class ids of each picture


def score_pictures(found: Sequence[Detections], labels: Labels, min_overlap: float = 0.5) -> np.ndarray:
    """Average precision of each class at one IoU threshold."""
    boxes, ids = [boxes for boxes, _ in labels], [ids for _, ids in labels]
    return average_precisions(found, boxes, ids, len(NAMES), min_overlap)


def precision_and_recall(found: Sequence[Detections], labels: Labels, min_score: float) -> tuple[float, float]:
    """Share of the detections that are right and of the objects that are found, at one score and IoU 0.5."""
    right = given = wanted = 0
    for detections, (boxes, ids) in zip(found, labels, strict=True):
        strong = detections.scores >= min_score
        for class_id in range(len(NAMES)):
            of_class = strong & (detections.class_ids == class_id)
            right += int(match(detections.boxes[of_class], boxes[ids == class_id], 0.5).sum())
        given += int(strong.sum())
        wanted += len(ids)
    return right / max(given, 1), right / max(wanted, 1)


def pictures_per_second(detector: Detector, images: Sequence[np.ndarray]) -> list[float]:
    """Rate of each of several rounds over the same decoded pictures, after a warm-up."""
    rates = []
    for image in images[:10]:
        detector.detect(image)
    for _ in range(TIMED_ROUNDS):
        started = time.perf_counter()
        for image in images:
            detector.detect(image)
        rates.append(len(images) / (time.perf_counter() - started))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description="Score and time an exported detector.")
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("detector.onnx"))
    parser.add_argument("--count", type=int, default=1000, help="held-out pictures (default 1000)")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help=f"of the pictures (default {HELD_OUT_SEED})")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    detector = Detector(arguments.model)
    found, labels, timed = [], [], []
    for index in range(arguments.count):
        image, boxes, class_ids = make_numbered_picture(arguments.seed, index)
        found.append(detector.detect(image, SCORING_MIN_SCORE))
        labels.append((boxes, class_ids))
        if index < TIMED_PICTURES:
            timed.append(image)
    precisions = score_pictures(found, labels)
    objects = np.bincount(np.concatenate([ids for _, ids in labels]), minlength=len(NAMES))
    rates = pictures_per_second(detector, timed)
    print(f"{'class':<10}{'objects':>9}{'AP@0.5':>9}")
    for name, total, precision in zip(NAMES, objects, precisions, strict=True):
        print(f"{name:<10}{total:>9}{precision:>9.4f}")
    print(f"{'all':<10}{objects.sum():>9}{np.nanmean(precisions):>9.4f}  mAP@0.5 on {arguments.count} pictures")
    strict = np.mean([np.nanmean(score_pictures(found, labels, overlap)) for overlap in STRICT_OVERLAPS])
    print(f"{strict:.4f} mAP@0.5:0.95")
    for min_score in (0.25, 0.5):
        precision, recall = precision_and_recall(found, labels, min_score)
        print(f"at score {min_score}: precision {precision:.3f}, recall {recall:.3f}")
    print(
        f"{np.median(rates):.0f} pictures/s on one core (median of {TIMED_ROUNDS} rounds, {min(rates):.0f} to "
        f"{max(rates):.0f})"
    )
    print(f"{arguments.model.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
