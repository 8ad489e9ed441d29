"""Follow objects from frame to frame by their boxes: which detection is which track.

Pure: no clock, no input but the frames' detections, in order. Each track has a Kalman filter (kalman.py) that says
where its box should be now. Detections are assigned to tracks by the Hungarian method in four rounds, each with what
the ones before have left:

1. strong detections and confirmed tracks, by overlap;
2. weak detections and the confirmed tracks that were seen in the last frame, by overlap: what is half hidden is found
   weakly, and a weak detection alone is no reason to believe in an object;
3. strong detections and the confirmed tracks that were missed, by distance: behind what hid it an object seldom
   comes out exactly where its last velocity led, and the longer that took the farther off it may be;
4. strong detections and tentative tracks, by overlap.

A track begins *tentative* with a strong detection that no track wants, is *confirmed* (and from then on reported) when
it has been seen in `min_hits` frames, and ends when it is missed: at once while tentative, later after `max_misses`
frames running. Tracks that begin in the first frame are confirmed at once.
Invariants: equal detections give equal tracks, to the last bit; ids count from 1 in the order of confirmation and are
never used again; a detection belongs to at most one track.

Source: Zhang et al., "ByteTrack: multi-object tracking by associating every detection box" (2022), for rounds 1, 2 and
4 and the life of a track.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from association import best_pairs, nearness, overlaps
from detections import Detections, check
from kalman import Filters
from numpy.typing import NDArray

UNNUMBERED = 0  # id of a tentative track
UNSEEN = -1  # row of a track that no detection of this frame belongs to
MOST_SIDES = 100  # that a missed track may come back away, in its mean sides
MOST_VOTES = 5.0  # summed confidence; bounds how long a track's class outlives its detections'
TRACK = np.dtype(
    [
        ("id", np.int64),
        ("row", np.int64),  # which detection of this frame it is
        ("hits", np.int64),  # frames in which it was seen
        ("misses", np.int64),  # frames running in which it was not
        ("class_id", np.int64),
        ("votes", np.float64),  # for the class, less those against it
    ]
)


@dataclass(frozen=True)
class Settings:
    """How tracks begin, go on and end.

    Attributes:
        high: Confidence from which a detection is strong.
        low: Confidence below which a detection is not looked at.
        birth: Confidence from which a detection may begin a track, or be a track that was missed.
        min_overlap: IoU that a strong detection and a track need to be the same.
        min_overlap_weak: The same for a weak detection.
        min_overlap_new: The same for a tentative track.
        class_penalty: Taken off the IoU where detection and track differ in class.
        reach: How far off a missed track may come back, in its mean sides.
        reach_growth: What each missed frame adds to that.
        crowding: IoU with a detection that is a track from which another begins none: it is the same object, found
            twice.
        min_hits: Frames in which a track is seen before it is reported.
        max_misses: Frames running in which a track may be missed before it ends.
    """

    high: float = 0.5
    low: float = 0.1
    birth: float = 0.6
    min_overlap: float = 0.2
    min_overlap_weak: float = 0.4
    min_overlap_new: float = 0.2
    class_penalty: float = 0.5
    reach: float = 0.5
    reach_growth: float = 0.1
    crowding: float = 0.5
    min_hits: int = 3
    max_misses: int = 60

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Settings:
        """The settings with what is given in place of the defaults.

        Raises:
            ValueError: One is unknown, of another type or out of range; says what was expected and found.
        """
        known = {field.name: field.default for field in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, found no such setting")
            is_count = isinstance(known[name], int)
            least, most = (1, 1000) if is_count else (0, MOST_SIDES if name.startswith("reach") else 1)
            kinds = int if is_count else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
                expected = f"a {'whole number' if is_count else 'number'} from {least} to {most}"
                raise ValueError(f"{name}: expected {expected}, found {value!r:.80}")
        settings = cls(**given)
        if not settings.low <= settings.high <= settings.birth:
            found = f"{settings.low}, {settings.high}, {settings.birth}"
            raise ValueError(f"low, high, birth: expected ascending values, found {found}")
        return settings


class Tracks(NamedTuple):
    """The confirmed tracks that were seen in one frame, in ascending id.

    Attributes:
        ids: [M] int64, from 1.
        boxes: [M, 4] float32 x1, y1, x2, y2 in pixels, the detection's.
        confidences: [M] float32, the detection's.
        class_ids: [M] int64, what the track's detections have mostly said.
        rows: [M] int64, which of the frame's detections it was.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    rows: NDArray[np.int64]


class Tracker:
    """The tracks of one video."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._tracks = np.zeros(0, TRACK)
        self._filters = Filters.begin(np.zeros((0, 4)))  # of each track
        self._last_id = 0
        self._is_first = True

    def __len__(self) -> int:
        """Tracks that are alive, the tentative and the missed among them."""
        return len(self._tracks)

    @property
    def living(self) -> NDArray[np.int64]:
        """Ids of the confirmed tracks that have not ended, whether they were seen in the last frame or not."""
        ids: NDArray[np.int64] = self._tracks["id"]
        return ids[ids != UNNUMBERED]

    def step(self, boxes: NDArray[Any], confidences: NDArray[Any], class_ids: NDArray[Any]) -> Tracks:
        """Take the next frame's detections.

        Args:
            boxes: [N, 4] x1, y1, x2, y2 in pixels.
            confidences: [N] 0 to 1.
            class_ids: [N] whole numbers from 0.

        Raises:
            ValueError: They do not have these shapes and ranges; the tracks are as they were.
        """
        found = check(boxes, confidences, class_ids)
        is_free = self._associate(found)
        self._update(found)
        self._begin(found, is_free)
        self._is_first = False
        return self._report(found)

    def _associate(self, found: Detections) -> NDArray[np.bool_]:
        """Say of each track which detection it is; returns which detections [N] are nobody's."""
        settings, tracks = self.settings, self._tracks
        was_seen = tracks["misses"] == 0
        self._filters.predict(was_seen)
        predicted = self._filters.boxes()
        tracks["row"] = UNSEEN
        is_free = np.ones(len(found.boxes), bool)
        is_strong = found.confidences >= settings.high
        is_weak = (found.confidences >= settings.low) & ~is_strong
        is_confirmed = tracks["id"] != UNNUMBERED
        differs = tracks["class_id"][:, None] != found.class_ids
        scores = overlaps(predicted, found.boxes) - settings.class_penalty * differs
        reach = settings.reach + settings.reach_growth * tracks["misses"]
        by_distance = np.where(differs, -1.0, nearness(predicted, found.boxes, reach))
        for table, wanted, offered, least in (
            (scores, is_confirmed, is_strong, settings.min_overlap),
            (scores, is_confirmed & was_seen, is_weak, settings.min_overlap_weak),
            (by_distance, is_confirmed & ~was_seen, found.confidences >= settings.birth, 0.0),
            (scores, ~is_confirmed, is_strong, settings.min_overlap_new),
        ):
            mine = np.flatnonzero(wanted & (tracks["row"] == UNSEEN))
            theirs = np.flatnonzero(offered & is_free)
            rows, columns = best_pairs(table[np.ix_(mine, theirs)], least)
            tracks["row"][mine[rows]] = theirs[columns]
            is_free[theirs[columns]] = False
        return is_free

    def _update(self, found: Detections) -> None:
        """Bring tracks up to what was seen of them; end those that were missed for too long."""
        tracks, settings = self._tracks, self.settings
        seen = np.flatnonzero(tracks["row"] != UNSEEN)
        rows = tracks["row"][seen]
        confidences, class_ids = found.confidences[rows], found.class_ids[rows]
        self._filters.update(seen, found.boxes[rows], confidences)
        tracks["misses"] += 1
        tracks["misses"][seen] = 0
        tracks["hits"][seen] += 1
        is_agreed = tracks["class_id"][seen] == class_ids
        votes = tracks["votes"][seen] + np.where(is_agreed, confidences, -confidences)
        tracks["class_id"][seen] = np.where(votes < 0, class_ids, tracks["class_id"][seen])
        tracks["votes"][seen] = np.minimum(np.abs(votes), MOST_VOTES)
        patience = np.where(tracks["id"] == UNNUMBERED, 0, settings.max_misses)
        stays = tracks["misses"] <= patience
        self._tracks = tracks[stays]
        self._filters.keep(stays)
        self._number(settings.min_hits)

    def _begin(self, found: Detections, is_free: NDArray[np.bool_]) -> None:
        """Begin tracks with the strong detections that are nobody's."""
        taken = found.boxes[~is_free]
        begun: list[int] = []
        for row in np.argsort(-found.confidences, kind="stable").tolist():
            if not is_free[row] or found.confidences[row] < self.settings.birth:
                continue
            near = np.concatenate([taken, found.boxes[begun]])
            if not (overlaps(found.boxes[row : row + 1], near) >= self.settings.crowding).any():
                begun.append(row)
        born = np.zeros(len(begun), TRACK)
        born["row"] = begun
        born["hits"] = 1
        born["class_id"] = found.class_ids[begun]
        born["votes"] = found.confidences[begun]
        self._tracks = np.concatenate([self._tracks, born])
        self._filters.append(Filters.begin(found.boxes[begun]))
        self._number(1 if self._is_first else self.settings.min_hits)

    def _number(self, min_hits: int) -> None:
        """Give ids to the tracks that have been seen often enough."""
        due = np.flatnonzero((self._tracks["id"] == UNNUMBERED) & (self._tracks["hits"] >= min_hits))
        self._tracks["id"][due] = self._last_id + 1 + np.arange(len(due))
        self._last_id += len(due)

    def _report(self, found: Detections) -> Tracks:
        tracks = self._tracks[(self._tracks["row"] != UNSEEN) & (self._tracks["id"] != UNNUMBERED)]
        tracks = tracks[np.argsort(tracks["id"])]
        rows = tracks["row"].copy()
        return Tracks(
            tracks["id"].copy(),
            found.boxes[rows].astype(np.float32),
            found.confidences[rows].astype(np.float32),
            tracks["class_id"].copy(),
            rows,
        )
