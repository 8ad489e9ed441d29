"""A multi-object tracker as a model: detections of one frame in, the objects' numbers out.

Stateful: a sequence is a video, a request the detections of its next frame, found by whatever detector. Tracking itself
is tracking.py. One instance follows many videos, each with a state of its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from tracking import Settings, Tracker

from inferoxy.errors import InvalidRequest, ModelUnavailable
from inferoxy.runtime import Model


class MultiObjectTracker(Model):
    """Tracks by boxes.

    `options` of models.yaml are the fields of tracking.Settings.

    Input:
        BOXES: FP32 [N, 6], a frame's detections in any order: x1, y1, x2, y2 in pixels, confidence 0 to 1, class id.
            Weak ones down to `low` help; N may be 0, and a frame without detections must be sent too.

    Outputs, of the M tracks that are seen in this frame, in ascending number:
        TRACK_IDS: INT64 [M], from 1.
        BOXES: FP32 [M, 6], each track's detection; its class id is what the track's detections have mostly said.
        ROWS: INT32 [M], which row of the input it was.
    """

    inputs: ClassVar = {"BOXES": ("FP32", [-1, 6])}
    outputs: ClassVar = {"TRACK_IDS": ("INT64", [-1]), "BOXES": ("FP32", [-1, 6]), "ROWS": ("INT32", [-1])}

    def load(self) -> None:
        try:
            self.settings = Settings.read(self.options)
        except ValueError as exc:
            raise ModelUnavailable(f"options.{exc}") from exc
        self.trackers: dict[int | str, Tracker] = {}

    def start_sequence(self, sequence_id: int | str) -> None:
        self.trackers[sequence_id] = Tracker(self.settings)

    def infer_sequence(self, sequence_id: int | str, inputs: Any) -> dict[str, np.ndarray]:
        boxes = inputs["BOXES"]
        try:
            tracks = self.trackers[sequence_id].step(boxes[:, :4], boxes[:, 4], boxes[:, 5])
        except ValueError as exc:
            raise InvalidRequest(f"input 'BOXES': {exc}") from exc
        columns = [tracks.boxes, tracks.confidences[:, None], tracks.class_ids[:, None].astype(np.float32)]
        return {
            "TRACK_IDS": tracks.ids,
            "BOXES": np.concatenate(columns, axis=1),
            "ROWS": tracks.rows.astype(np.int32),
        }

    def end_sequence(self, sequence_id: int | str, reason: str) -> None:
        self.trackers.pop(sequence_id, None)
