"""Write sample.jpg and sample.json: one picture that shows the detector at work, and what is in it.

The picture is generate.py's; this only chooses its seed, checks that the detector gets all of it right, and writes.
Invariant: the check runs on the JPEG as written, which is what a client will post.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from detect import Detections, Detector, overlaps
from generate import describe, make_picture, picture_rng, write_jpeg

FOLDER = Path(__file__).parent
SAMPLE_SET = 4  # pictures of training, scoring and checking are of sets 1, 2 and 3
SAMPLE_INDEX = 26
WIDTH, HEIGHT = 960, 640
OBJECTS = 10
MIN_OVERLAP = 0.5


def is_all_found(found: Detections, boxes: np.ndarray, class_ids: np.ndarray) -> bool:
    """Whether there is one detection of the right class for each object, and no other detection."""
    if len(found.boxes) != len(boxes):
        return False
    fit = (overlaps(found.boxes, boxes) >= MIN_OVERLAP) & (found.class_ids[:, None] == class_ids[None, :])
    return bool((fit.sum(axis=0) == 1).all() and (fit.sum(axis=1) == 1).all())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the sample picture and its ground truth.")
    parser.add_argument("--model", type=Path, default=FOLDER / "detector.onnx")
    parser.add_argument("--index", type=int, default=SAMPLE_INDEX, help=f"of the picture (default {SAMPLE_INDEX})")
    parser.add_argument("--out", type=Path, default=FOLDER / "sample.jpg", help="the JSON goes beside it")
    arguments = parser.parse_args()
    image, boxes, class_ids = make_picture(picture_rng(SAMPLE_SET, arguments.index), WIDTH, HEIGHT, OBJECTS)
    write_jpeg(arguments.out, image)
    written = cv2.imread(str(arguments.out), cv2.IMREAD_COLOR)[:, :, ::-1]
    found = Detector(arguments.model).detect(written)
    if not is_all_found(found, boxes, class_ids):
        raise SystemExit(f"picture {arguments.index}: {len(found.boxes)} detections for {len(boxes)} objects")
    truth = describe(arguments.out.name, image, boxes, class_ids)
    arguments.out.with_suffix(".json").write_text(json.dumps(truth, indent=1) + "\n")
    print(f"{len(boxes)} objects, all found, lowest score {found.scores.min():.2f}")


if __name__ == "__main__":
    main()
