"""Follow objects through a video: `predict_batch` over consecutive frames, the state of one video in this module.

A video begins with `init` among the parameters of its first frame: `{}`, or settings of the tracker
(../model/tracking.py), as an object or its JSON text. Frames are answered with the objects seen in them and the numbers
of their tracks.
In an image, the files of this folder and of ../model (but its model.py) and detector.onnx lie together in /app.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "model"))

from finding import Finder
from following import Following
from tracking import Settings

from inferoxy.errors import InvalidRequest

HERE = Path(__file__).resolve().parent
# What the first Inferoxy's clients tell of a video; tracking does without.
ABOUT_VIDEO = {"height", "width", "fps", "length"}


def find_detector() -> Path:
    """The detector: $DETECTOR, or detector.onnx beside this file, or the repository's."""
    beside = HERE / "detector.onnx"
    given = os.environ.get("DETECTOR")
    if given:
        return Path(given)
    return beside if beside.is_file() else HERE.parents[1] / "detector" / "detector.onnx"


finder = Finder(find_detector(), Settings.low)
following: Following | None = None


def init(**kwargs: Any) -> None:
    """Begin a video, with these settings of the tracker.

    Raises:
        InvalidRequest: There is no such setting, or its value is out of range.
    """
    global following
    try:
        settings = Settings.read({name: value for name, value in kwargs.items() if name not in ABOUT_VIDEO})
    except ValueError as exc:
        raise InvalidRequest(f"parameters.init.{exc}") from exc
    following = Following(finder, settings)


def predict_batch(samples: list[dict[str, Any]], draw: bool = True) -> list[dict[str, Any]]:
    """Take the next frames of the video.

    Raises:
        InvalidRequest: No video has begun, or a frame has no pixels; the video is as it was.
    """
    if following is None:
        raise InvalidRequest("parameters.init: expected with the first frame of a video, {} at least; found none")
    for sample in samples:
        if not sample["image"].size:
            raise InvalidRequest(f"image: expected at least one pixel, found shape {list(sample['image'].shape)}")
    return following.step([sample["image"] for sample in samples], draw)
