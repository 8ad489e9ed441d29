"""The modules of examples/tracker, imported without leaving their folders on sys.path."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
TRACKER = ROOT / "examples" / "tracker"
DETECTOR = ROOT / "examples" / "detector"
FOLDERS = (TRACKER, TRACKER / "model", TRACKER / "follower", DETECTOR)


def load(name: str) -> ModuleType:
    """A module of the example."""
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in FOLDERS]
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = before


animation = load("animation")
association = load("association")
drawing = load("drawing")
evaluate = load("evaluate")
finding = load("finding")
following = load("following")
kalman = load("kalman")
metrics = load("metrics")
paths = load("paths")
scene = load("scene")
tracking = load("tracking")
video = load("video")
