"""Compare tracks with ground truth: identity switches, MOTA and IDF1.

Pure. Definitions, frame by frame and over any number of videos:

- An object is *wanted* in a frame while at least MIN_VISIBLE of its area is seen; below that it may be found or not,
  neither counts, but what finds it is no false track either.
- An object and a track *fit* in a frame when they are of one class and their boxes overlap with an IoU of at least
  MIN_OVERLAP. An object keeps the track it was matched to before for as long as the two fit; the others are matched
  by the highest sum of IoU (Hungarian method).
- *Miss*: a wanted object without a track. *False*: a reported track without an object.
- *Identity switch*: an object is matched to another track than the last it was matched to, however long ago; a *late*
  one, of the switches, comes more than LATE frames after that.
- *Fragmentation*: an object that had been matched, was wanted and missed, and is matched again.
- MOTA = 1 - (misses + false + identity switches) / wanted.
- IDF1: objects and tracks are paired one to one for whole videos so that IDTP, the frames in which the two of a pair
  fit, are the most there can be; IDF1 = 2 IDTP / (wanted + reported), frames with unwanted objects left out.

Source: Bernardin and Stiefelhagen, "Evaluating multiple object tracking performance: the CLEAR MOT metrics" (2008);
Ristani et al., "Performance measures and a data set for multi-target, multi-camera tracking" (2016).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MIN_OVERLAP = 0.5
LATE = 12  # frames, about half a second
MIN_VISIBLE = 0.6  # as in the detector's training pictures, where less is not labelled


class Objects(NamedTuple):
    """What stands in one frame: ids [N], boxes [N, 4] x1, y1, x2, y2, class ids [N], visible shares [N] 0 to 1."""

    ids: NDArray[Any]
    boxes: NDArray[Any]
    class_ids: NDArray[Any]
    visible: NDArray[Any]


class Reported(NamedTuple):
    """What was reported of one frame: track ids [M], boxes [M, 4], class ids [M]."""

    ids: NDArray[Any]
    boxes: NDArray[Any]
    class_ids: NDArray[Any]


@dataclass
class Score:
    """Counts of one video, or of several added up."""

    wanted: int = 0
    reported: int = 0
    misses: int = 0
    false: int = 0
    switches: int = 0
    late: int = 0
    fragmentations: int = 0
    objects: int = 0
    tracks: int = 0
    idtp: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, name) + getattr(other, name) for name in Score.__dataclass_fields__))

    @property
    def mota(self) -> float:
        """1 at best, without limit below; nan where nothing was wanted."""
        return 1 - (self.misses + self.false + self.switches) / self.wanted if self.wanted else float("nan")

    @property
    def idf1(self) -> float:
        """0 to 1; nan where nothing was wanted or reported."""
        total = self.wanted + self.reported
        return 2 * self.idtp / total if total else float("nan")


def score_video(truth: Sequence[Objects], reported: Sequence[Reported]) -> Score:
    """Compare a video's tracks with its truth, frame by frame in order.

    Raises:
        ValueError: There are not as many frames of one as of the other.
    """
    if len(truth) != len(reported):
        raise ValueError(f"frames: expected {len(truth)} reports, one a frame, found {len(reported)}")
    tally = _Tally()
    for frame, (objects, tracks) in enumerate(zip(truth, reported, strict=True)):
        tally.add(frame, objects, tracks)
    return tally.finish()


class _Tally:
    """What has been counted of a video so far."""

    def __init__(self) -> None:
        self._score = Score()
        self._last: dict[int, tuple[int, int]] = {}  # track that an object was last matched to, and in which frame
        self._missed: set[int] = set()  # objects that were matched and then missed
        self._fitting: Counter[tuple[int, int]] = Counter()  # frames in which an object and a track fit
        self._wanted: Counter[int] = Counter()  # frames of each object
        self._reported: Counter[int] = Counter()  # frames of each track

    def add(self, frame: int, objects: Objects, tracks: Reported) -> None:
        """Count the next frame."""
        fit = fits(objects, tracks)
        matched = match(objects, tracks, fit, {thing: track for thing, (track, _) in self._last.items()})
        is_wanted = objects.visible >= MIN_VISIBLE
        for row in np.flatnonzero(is_wanted).tolist():
            thing = int(objects.ids[row])
            self._wanted[thing] += 1
            self._fitting.update((thing, track) for track in tracks.ids[fit[row] > 0].tolist())
            if row in matched:
                self._count_match(frame, thing, int(tracks.ids[matched[row]]))
            else:
                self._score.misses += 1
                self._missed.update({thing} & self._last.keys())
        excused = {column for row, column in matched.items() if not is_wanted[row]}
        self._reported.update(track for column, track in enumerate(tracks.ids.tolist()) if column not in excused)
        self._score.false += len(tracks.ids) - len(matched)

    def finish(self) -> Score:
        """The whole video's score."""
        score = self._score
        score.objects, score.wanted = len(self._wanted), self._wanted.total()
        score.tracks, score.reported = len(self._reported), self._reported.total()
        table = np.array([[self._fitting[thing, track] for track in self._reported] for thing in self._wanted], int)
        if table.size:
            score.idtp = int(table[linear_sum_assignment(table, maximize=True)].sum())
        return score

    def _count_match(self, frame: int, thing: int, track: int) -> None:
        last, when = self._last.get(thing, (track, frame))
        self._score.switches += last != track
        self._score.late += last != track and frame - when > LATE
        self._score.fragmentations += thing in self._missed
        self._missed.discard(thing)
        self._last[thing] = track, frame


def fits(objects: Objects, tracks: Reported) -> NDArray[np.float64]:
    """IoU [N, M] of the pairs that fit, 0 for all others."""
    first, second = np.asarray(objects.boxes, float).reshape(-1, 4), np.asarray(tracks.boxes, float).reshape(-1, 4)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    overlap = shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-9)
    is_fit = (overlap >= MIN_OVERLAP) & (objects.class_ids[:, None] == tracks.class_ids)
    return np.where(is_fit, overlap, 0.0)


def match(objects: Objects, tracks: Reported, fit: NDArray[Any], last: dict[int, int]) -> dict[int, int]:
    """Which track (column) each object (row) is matched to in one frame, given those it was last matched to."""
    columns = {int(one): column for column, one in enumerate(tracks.ids)}
    wanted = objects.visible >= MIN_VISIBLE
    matched: dict[int, int] = {}
    for row, thing in enumerate(objects.ids.tolist()):
        column = columns.get(last.get(thing, -1))
        if column is not None and fit[row, column] > 0 and column not in matched.values():
            matched[row] = column
    for group in (wanted, ~wanted):
        rows = [int(row) for row in np.flatnonzero(group) if row not in matched]
        rest = [column for column in range(len(tracks.ids)) if column not in matched.values()]
        score = fit[np.ix_(rows, rest)]
        for one, other in zip(*linear_sum_assignment(np.where(score > 0, 1 + score, 0), maximize=True), strict=True):
            if score[one, other] > 0:
                matched[rows[one]] = rest[other]
    return matched
