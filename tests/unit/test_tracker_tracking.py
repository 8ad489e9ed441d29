"""Claims about the tracker of examples/tracker: how tracks begin, go on and end, and that nothing else matters."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tracker_modules import association, kalman, tracking

Settings, Tracker, Tracks = tracking.Settings, tracking.Tracker, tracking.Tracks
Detection = tuple[float, float, float, float, float, float]  # x1, y1, x2, y2, confidence, class


def step(tracker: Any, *detections: Detection) -> Any:
    """A frame's tracks."""
    rows = np.array(detections, np.float64).reshape(-1, 6)
    return tracker.step(rows[:, :4], rows[:, 4], rows[:, 5])


def box(x: float, y: float, confidence: float = 0.9, class_id: int = 0, side: float = 40) -> Detection:
    return (x, y, x + side, y + side, confidence, class_id)


def ids_of(tracks: Any) -> list[int]:
    return tracks.ids.tolist()


def test_tracks_of_the_first_frame_are_reported_at_once() -> None:
    tracks = step(Tracker(), box(0, 0, 0.7), box(100, 0, 0.9), box(200, 0, 0.59))
    assert ids_of(tracks) == [1, 2]
    assert tracks.rows.tolist() == [1, 0]  # the strongest is the first
    assert tracks.boxes.dtype == np.float32
    assert tracks.boxes.tolist() == [[100, 0, 140, 40], [0, 0, 40, 40]]


def test_a_later_track_is_reported_from_the_frame_in_which_it_has_its_hits() -> None:
    tracker = Tracker(Settings(min_hits=3))
    step(tracker)
    assert [ids_of(step(tracker, box(0, 0))) for _ in range(4)] == [[], [], [1], [1]]


def test_a_tentative_track_ends_with_its_first_miss() -> None:
    tracker = Tracker(Settings(min_hits=2))
    step(tracker)
    step(tracker, box(0, 0))
    assert len(tracker) == 1
    step(tracker)
    assert len(tracker) == 0


@pytest.mark.parametrize(("gap", "expected"), [(5, [1]), (6, [])])
def test_a_track_outlives_as_many_misses_as_it_may(gap: int, expected: list[int]) -> None:
    tracker = Tracker(Settings(max_misses=5, min_hits=2))
    step(tracker, box(0, 0))
    for _ in range(gap):
        assert ids_of(step(tracker)) == []
    assert tracker.living.tolist() == expected
    assert ids_of(step(tracker, box(0, 0))) == expected


def test_an_id_is_never_used_again() -> None:
    tracker = Tracker(Settings(max_misses=1, min_hits=1))
    step(tracker, box(0, 0))
    for _ in range(3):
        step(tracker)
    assert ids_of(step(tracker, box(0, 0))) == [2]


def test_objects_that_cross_keep_their_ids_by_their_velocity() -> None:
    tracker = Tracker()
    for frame in range(40):
        tracks = step(tracker, box(10 * frame, 100), box(400 - 10 * frame, 110))
        owners = dict(zip(tracks.rows.tolist(), ids_of(tracks), strict=True))
        assert owners == {0: 1, 1: 2}, frame


def test_an_object_that_was_hidden_keeps_its_id() -> None:
    tracker = Tracker()
    for frame in range(40):
        is_hidden = 15 <= frame < 30
        tracks = step(tracker, *([] if is_hidden else [box(5 * frame, 100)]))
        assert ids_of(tracks) == ([] if is_hidden else [1])


def test_an_object_that_turned_while_hidden_is_found_by_distance_and_class() -> None:
    tracker = Tracker()
    for frame in range(15):
        step(tracker, box(5 * frame, 100, class_id=3))
    for _ in range(20):
        step(tracker)
    turned = step(tracker, box(90, 60, class_id=3))
    assert ids_of(turned) == [1]
    elsewhere = Tracker(Settings(reach=0, reach_growth=0))
    for frame in range(15):
        step(elsewhere, box(5 * frame, 100, class_id=3))
    for _ in range(20):
        step(elsewhere)
    assert ids_of(step(elsewhere, box(90, 60, class_id=3))) == []


def test_no_object_of_another_class_or_size_comes_back_as_a_missed_track() -> None:
    for found in (box(90, 60, class_id=4), box(90, 60, class_id=3, side=100)):
        tracker = Tracker()
        for frame in range(15):
            step(tracker, box(5 * frame, 100, class_id=3))
        for _ in range(20):
            step(tracker)
        assert ids_of(step(tracker, found)) == []


def test_a_weak_detection_continues_a_track_and_begins_none() -> None:
    tracker = Tracker()
    step(tracker, box(0, 0, 0.9))
    for _ in range(5):
        tracks = step(tracker, box(0, 0, 0.2), box(200, 200, 0.2))
        assert ids_of(tracks) == [1]
        assert tracks.rows.tolist() == [0]
    assert ids_of(step(tracker, box(0, 0, 0.05))) == []  # below `low` nothing counts


def test_strong_detections_choose_before_weak_ones() -> None:
    tracker = Tracker()
    step(tracker, box(0, 0))
    tracks = step(tracker, box(0, 0, 0.3), box(10, 0, 0.9))
    assert tracks.rows.tolist() == [1]


def test_assignment_is_of_the_whole_not_greedy() -> None:
    scores = np.array([[0.9, 0.8], [0.8, 0.0]])
    rows, columns = association.best_pairs(scores, 0.1)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_one_object_that_is_found_as_two_classes_is_one_track() -> None:
    tracker = Tracker(Settings(min_hits=1))
    step(tracker, box(0, 0, 0.9, 1), box(2, 0, 0.8, 2))
    assert ids_of(step(tracker, box(0, 0, 0.9, 1), box(2, 0, 0.8, 2))) == [1]


def test_the_class_of_a_track_is_what_most_of_its_detections_say() -> None:
    tracker = Tracker()
    said = [1, 1, 1, 4, 1, 4, 4, 4, 4, 4, 4]
    classes = [step(tracker, box(0, 0, 0.9, class_id)).class_ids.tolist() for class_id in said]
    assert classes[:6] == [[1]] * 6
    assert classes[-1] == [4]


def test_a_frame_that_is_refused_leaves_the_tracks_as_they_were() -> None:
    tracker, other = Tracker(), Tracker()
    for one in (tracker, other):
        step(one, box(0, 0), box(100, 0))
        step(one, box(5, 0), box(100, 5))
    with pytest.raises(ValueError, match="boxes, row 1"):
        step(tracker, box(10, 0), (50, 50, 40, 60, 0.9, 0))
    assert_same(step(tracker, box(10, 0), box(100, 10)), step(other, box(10, 0), box(100, 10)))


@pytest.mark.parametrize(
    ("boxes", "confidences", "class_ids", "message"),
    [
        (np.zeros((2, 5)), np.zeros(2), np.zeros(2), r"boxes: expected shape \[N, 4\], found \[2, 5\]"),
        (np.zeros((2, 4)), np.zeros(3), np.zeros(2), r"confidences: expected shape \[2\], as many as boxes, found \[3"),
        (np.full((1, 4), np.nan), np.zeros(1), np.zeros(1), "boxes, row 0: expected x1 <= x2 .* found .nan"),
        (np.array([[0, 0, np.inf, 1]]), np.zeros(1), np.zeros(1), "boxes, row 0"),
        (np.zeros((2, 4)), np.array([0.5, 1.5]), np.zeros(2), "confidences, row 1: expected 0 to 1, found 1.5"),
        (np.zeros((1, 4)), np.array([np.nan]), np.zeros(1), "confidences, row 0: expected 0 to 1, found nan"),
        (np.zeros((1, 4)), np.zeros(1), np.array([0.5]), "class_ids, row 0: expected a whole number .* found 0.5"),
        (np.zeros((1, 4)), np.zeros(1), np.array([-1]), "class_ids, row 0"),
    ],
)
def test_detections_that_are_none_are_refused_by_name(
    boxes: Any, confidences: Any, class_ids: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Tracker().step(boxes, confidences, class_ids)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"speed": 1}, "speed: expected one of high, low, .*, found no such setting"),
        ({"high": "much"}, "high: expected a number from 0 to 1, found 'much'"),
        ({"high": True}, "high: expected a number"),
        ({"low": float("nan")}, "low: expected a number"),
        ({"min_hits": 1.5}, "min_hits: expected a whole number from 1 to 1000, found 1.5"),
        ({"max_misses": 0}, "max_misses: expected a whole number from 1 to 1000, found 0"),
        ({"reach": 101}, "reach: expected a number from 0 to 100, found 101"),
        ({"high": 0.9}, "low, high, birth: expected ascending values, found 0.1, 0.9, 0.6"),
    ],
)
def test_wrong_settings_are_refused_by_name(given_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings.read(given_settings)


def test_a_filter_learns_a_constant_velocity_and_goes_on_with_it() -> None:
    boxes = np.array([[0.0, 0.0, 40.0, 20.0]])
    filters = kalman.Filters.begin(boxes)
    for frame in range(1, 31):
        filters.predict(np.array([True]))
        filters.update(np.array([0]), boxes + np.array([4.0, -2.0, 4.0, -2.0]) * frame, np.array([0.9]))
    assert filters.velocity[0] == pytest.approx([4, -2, 0, 0], abs=0.02)
    for _ in range(10):
        filters.predict(np.array([False]))
    assert filters.boxes()[0] == pytest.approx([160, -80, 200, -60], abs=1)


def test_a_filter_trusts_a_confident_measurement_more() -> None:
    moved = []
    for confidence in (0.2, 0.9):
        filters = kalman.Filters.begin(np.array([[0.0, 0.0, 40.0, 40.0]]))
        filters.predict(np.array([True]))
        filters.update(np.array([0]), np.array([[10.0, 0.0, 50.0, 40.0]]), np.array([confidence]))
        moved.append(filters.boxes()[0, 0])
    assert 0 < moved[0] < moved[1] < 10


coordinates = st.floats(0, 600, width=32)
detections = st.tuples(
    coordinates, coordinates, st.floats(0, 1, width=32), st.integers(0, 3), st.floats(8, 80, width=32)
).map(lambda one: box(*one))
videos = st.lists(st.lists(detections, max_size=8), min_size=1, max_size=12)


@given(videos)
def test_equal_detections_give_equal_tracks_and_a_detection_is_at_most_one(video: list[list[Detection]]) -> None:
    first, second = Tracker(), Tracker()
    highest = 0
    for frame in video:
        tracks = step(first, *frame)
        assert_same(tracks, step(second, *frame))
        assert sorted(set(ids_of(tracks))) == ids_of(tracks)
        assert len(set(tracks.rows.tolist())) == len(tracks.rows)
        assert all(0 <= row < len(frame) for row in tracks.rows.tolist())
        fresh = [one for one in ids_of(tracks) if one > highest]
        assert fresh == list(range(highest + 1, highest + 1 + len(fresh)))
        highest += len(fresh)
        expected = np.array(frame, np.float32).reshape(-1, 6)[tracks.rows]
        assert np.array_equal(tracks.boxes, expected[:, :4])
        assert np.array_equal(tracks.confidences, expected[:, 4])


@given(st.lists(st.lists(detections, min_size=3, max_size=3), min_size=1, max_size=12), st.integers(0, 2))
def test_a_filter_does_not_feel_the_others_by_a_single_bit(frames: list[list[Detection]], chosen: int) -> None:
    measured = np.array(frames)  # [frames, 3, 6]
    together = kalman.Filters.begin(measured[0, :, :4])
    alone = kalman.Filters.begin(measured[0, [chosen], :4])
    for number, frame in enumerate(measured[1:]):
        is_seen = frame[:, 4] > 0.3
        together.predict(is_seen)
        alone.predict(is_seen[[chosen]])
        rows = np.flatnonzero(is_seen)
        together.update(rows, frame[rows, :4], frame[rows, 4])
        if is_seen[chosen]:
            alone.update(np.array([0]), frame[[chosen], :4], frame[[chosen], 4])
        assert together.boxes()[chosen].tobytes() == alone.boxes()[0].tobytes(), number


def assert_same(first: Any, second: Any) -> None:
    for name, one, other in zip(Tracks._fields, first, second, strict=True):
        assert one.dtype == other.dtype, name
        assert one.tobytes() == other.tobytes(), name
