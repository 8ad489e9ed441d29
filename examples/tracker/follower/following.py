"""Follow the objects of one video: detector, tracker and picture in a row.

Invariant: what is said of a frame depends on the frames before it, not on how they came in batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from drawing import Point, draw_tracks
from finding import Finder
from numpy.typing import NDArray
from tracking import Settings, Tracker, Tracks

TRAIL = 25  # frames of a track's way that are drawn
SMOOTH = 0.4  # share of a new place in a trail's; the rest is the place before


class Following:
    """One video.

    Args:
        finder: The detector.
        settings: Of the tracker.
    """

    def __init__(self, finder: Finder, settings: Settings) -> None:
        self._finder = finder
        self._tracker = Tracker(settings)
        self._trails: dict[int, deque[Point]] = {}
        self._frame = 0

    def step(self, images: Sequence[NDArray[np.uint8]], draw: bool) -> list[dict[str, Any]]:
        """Take the next frames.

        Args:
            images: RGB UINT8 [height, width, 3], writable, in order.
            draw: Draw into them.

        Returns:
            For each frame its `prediction` and its `image`, None unless drawn. A prediction holds `frame`, its number
            from 0, and of each track that was seen `track_id`, `boxes`, `confidence`, `class_id` and `class_name`.
        """
        results = []
        for image, found in zip(images, self._finder.find(images), strict=True):
            tracks = self._tracker.step(*found)
            trails = self._follow(tracks)
            names = [self._finder.names[index] for index in tracks.class_ids.tolist()]
            prediction = {
                "frame": self._frame,
                "track_id": tracks.ids.tolist(),
                "boxes": np.round(tracks.boxes.astype(np.float64), 3).tolist(),
                "confidence": np.round(tracks.confidences.astype(np.float64), 5).tolist(),
                "class_id": tracks.class_ids.tolist(),
                "class_name": names,
            }
            if draw:
                draw_tracks(image, tracks.ids, tracks.boxes, names, trails)
            results.append({"prediction": prediction, "image": image if draw else None})
            self._frame += 1
        return results

    def _follow(self, tracks: Tracks) -> list[deque[Point]]:
        """Add to the trails of the tracks that were seen, drop those of tracks that have ended; returns the former."""
        for track, box in zip(tracks.ids.tolist(), tracks.boxes.tolist(), strict=True):
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            trail = self._trails.setdefault(track, deque([(x, y)], maxlen=TRAIL))
            trail.append((trail[-1][0] + SMOOTH * (x - trail[-1][0]), trail[-1][1] + SMOOTH * (y - trail[-1][1])))
        for track in self._trails.keys() - self._tracker.living.tolist():
            del self._trails[track]
        return [self._trails[track] for track in tracks.ids.tolist()]
