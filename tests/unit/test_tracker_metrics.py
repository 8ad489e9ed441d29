"""Claims about how examples/tracker counts identity switches, MOTA and IDF1, on videos counted by hand."""

from typing import Any

import numpy as np
import pytest

from tests.unit.tracker_modules import metrics

SIDE = 10.0
Thing = tuple[int, float]  # id, and how far right it stands
Seen = tuple[int, float, float]  # and the share that is visible


def truth(*things: Seen | Thing, class_id: int = 0) -> Any:
    """One frame's objects."""
    rows = [(*thing, 1.0)[:3] for thing in things]
    return metrics.Objects(
        np.array([row[0] for row in rows], np.int64),
        np.array([[row[1], 0, row[1] + SIDE, SIDE] for row in rows]).reshape(-1, 4),
        np.full(len(rows), class_id),
        np.array([row[2] for row in rows]),
    )


def report(*tracks: Thing, class_id: int = 0) -> Any:
    """One frame's tracks."""
    return metrics.Reported(
        np.array([track for track, _ in tracks], np.int64),
        np.array([[x, 0, x + SIDE, SIDE] for _, x in tracks]).reshape(-1, 4),
        np.full(len(tracks), class_id),
    )


def test_perfect_tracks_score_one() -> None:
    score = metrics.score_video([truth((1, 0), (2, 50))] * 4, [report((8, 0), (9, 50))] * 4)
    assert (score.mota, score.idf1) == (1.0, 1.0)
    assert (score.objects, score.tracks, score.wanted, score.reported) == (2, 2, 8, 8)
    assert (score.switches, score.fragmentations, score.misses, score.false) == (0, 0, 0, 0)


def test_a_swap_is_a_switch_of_each_object() -> None:
    straight, swapped = report((8, 0), (9, 50)), report((9, 0), (8, 50))
    score = metrics.score_video([truth((1, 0), (2, 50))] * 5, [straight] * 3 + [swapped] * 2)
    assert (score.switches, score.late) == (2, 0)
    assert score.mota == pytest.approx(1 - 2 / 10)
    assert score.idtp == 6  # three frames of each pair; the other pairing has two
    assert score.idf1 == pytest.approx(2 * 6 / 20)


def test_a_new_track_after_a_gap_is_a_switch_and_late_when_the_gap_is_long() -> None:
    for gap, late in ((metrics.LATE - 1, 0), (metrics.LATE, 1)):
        hidden = [truth((1, 0, 0.2))] * gap
        score = metrics.score_video(
            [truth((1, 0)), *hidden, truth((1, 0))], [report((8, 0)), *[report()] * gap, report((9, 0))]
        )
        assert (score.switches, score.late, score.misses, score.fragmentations) == (1, late, 0, 0)


def test_the_same_track_after_a_miss_is_a_fragmentation_and_no_switch() -> None:
    score = metrics.score_video([truth((1, 0))] * 4, [report((8, 0)), report(), report(), report((8, 0))])
    assert (score.switches, score.fragmentations, score.misses) == (0, 1, 2)


def test_an_object_that_was_never_found_is_missed_and_not_fragmented() -> None:
    score = metrics.score_video([truth((1, 0))] * 3, [report(), report(), report((8, 0))])
    assert (score.fragmentations, score.misses) == (0, 2)


def test_what_is_hardly_seen_counts_neither_as_missed_nor_as_false() -> None:
    hardly = truth((1, 0, metrics.MIN_VISIBLE - 0.01))
    found = metrics.score_video([hardly] * 3, [report((8, 0))] * 3)
    missed = metrics.score_video([hardly] * 3, [report()] * 3)
    for score in (found, missed):
        assert (score.wanted, score.reported, score.misses, score.false, score.switches) == (0, 0, 0, 0, 0)
    just = metrics.score_video([truth((1, 0, metrics.MIN_VISIBLE))], [report()])
    assert (just.wanted, just.misses) == (1, 1)


def test_another_class_does_not_fit() -> None:
    score = metrics.score_video([truth((1, 0), class_id=2)], [report((8, 0), class_id=3)])
    assert (score.misses, score.false, score.idtp) == (1, 1, 0)
    assert score.mota == -1.0


@pytest.mark.parametrize(("shift", "is_found"), [(3.3, True), (3.4, False)])  # IoU 0.504 and 0.493
def test_boxes_fit_from_half_overlap(shift: float, is_found: bool) -> None:
    score = metrics.score_video([truth((1, 0))], [report((8, shift))])
    assert score.misses == (not is_found)
    assert score.false == (not is_found)


def test_an_object_keeps_its_track_although_another_fits_better() -> None:
    frames = [report((8, 0)), report((8, 2), (9, 0)), report((8, 2), (9, 0))]
    score = metrics.score_video([truth((1, 0))] * 3, frames)
    assert (score.switches, score.false) == (0, 2)


def test_idf1_pairs_objects_and_tracks_for_the_whole_video() -> None:
    frames = [report((8, 0))] * 3 + [report((9, 0))] * 7
    score = metrics.score_video([truth((1, 0))] * 10, frames)
    assert (score.switches, score.idtp) == (1, 7)
    assert score.idf1 == pytest.approx(0.7)


def test_scores_add_up() -> None:
    one = metrics.score_video([truth((1, 0))] * 2, [report((8, 0)), report((9, 0))])
    two = metrics.score_video([truth((1, 0))] * 2, [report((8, 0))] * 2)
    both = one + two
    assert (both.wanted, both.switches, both.objects) == (4, 1, 2)
    assert both.mota == pytest.approx(0.75)


def test_nothing_wanted_and_nothing_reported_has_no_score() -> None:
    score = metrics.score_video([truth()], [report()])
    assert np.isnan(score.mota)
    assert np.isnan(score.idf1)


def test_a_report_that_is_short_of_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 reports, one a frame, found 1"):
        metrics.score_video([truth(), truth()], [report()])
