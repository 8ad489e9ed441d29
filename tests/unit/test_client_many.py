"""Many requests: which source is taken when, whose answer is next, and what a folder's pictures are."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.client.calls import ConnectionFailed
from inferoxy.client.many import (
    SLOW_SOURCE_S,
    Flow,
    any_inputs_of,
    count_of,
    inputs_of,
    item_error,
    pictures_in,
    pictures_of,
)
from inferoxy.errors import InvalidRequest, ModelError

QUICK_S = SLOW_SOURCE_S / 10
WAITED_S = SLOW_SOURCE_S * 2


def filled(window: int, took_s: float, count: int | None = None) -> tuple[Flow[int, Future[int]], list[Future[int]]]:
    flow: Flow[int, Future[int]] = Flow(window)
    futures = [Future[int]() for _ in range(window if count is None else count)]
    for number, future in enumerate(futures):
        flow.put(number, future, took_s)
    return flow, futures


def test_sources_are_taken_until_the_window_is_full() -> None:
    flow, _ = filled(3, QUICK_S, count=2)
    assert flow.wants_source
    flow.put(2, Future(), QUICK_S)
    assert not flow.wants_source


def test_of_quick_sources_one_answer_is_given_for_each_so_that_the_window_stays_full() -> None:
    flow, futures = filled(4, QUICK_S)
    for future in futures:
        future.set_result(0)
    flow.pop()
    assert flow.wants_source
    flow.put(4, Future(), QUICK_S)
    assert not flow.wants_source


def test_behind_a_slow_source_all_answers_that_are_there_are_given_so_that_a_camera_does_not_lag() -> None:
    flow, futures = filled(8, WAITED_S, count=5)
    for future in futures[:4]:
        future.set_result(0)
    for number in range(4):
        assert not flow.wants_source
        assert flow.oldest == (number, futures[number])
        flow.pop()
    assert flow.wants_source


def test_an_answer_that_is_not_there_keeps_no_source_waiting() -> None:
    flow, futures = filled(8, WAITED_S, count=2)
    futures[1].set_result(0)
    assert flow.wants_source


def test_behind_the_last_source_only_answers_are_given() -> None:
    flow, _ = filled(8, QUICK_S, count=2)
    flow.exhaust()
    assert not flow.wants_source
    flow.pop()
    flow.pop()
    assert flow.oldest is None
    assert not flow.wants_source


def test_what_is_abandoned_is_told_once() -> None:
    flow, futures = filled(3, QUICK_S)
    flow.pop()
    assert flow.abandon() == futures[1:]
    assert flow.abandon() == []
    assert not flow.wants_source


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), st.booleans())))
def test_every_source_is_answered_once_in_order_and_no_more_than_the_window_are_under_way(
    window: int, steps: list[tuple[bool, bool]]
) -> None:
    flow: Flow[int, Future[int]] = Flow(window)
    given_out: list[int] = []
    futures: list[Future[int]] = []
    taken = 0
    for is_slow, is_answered in steps:
        if flow.wants_source:
            futures.append(Future())
            flow.put(taken, futures[-1], WAITED_S if is_slow else QUICK_S)
            taken += 1
        elif flow.oldest is not None:
            given_out.append(flow.oldest[0])
            flow.pop()
        if is_answered:
            next((future for future in futures if not future.done()), Future()).set_result(0)
        assert taken - len(given_out) <= window
    assert given_out + [futures.index(future) for future in flow.abandon()] == list(range(taken))


def test_a_folder_gives_its_pictures_and_those_of_its_folders_sorted(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "c/d.webp", "c/e.jpeg", "notes.txt", ".hidden.jpg", ".cache/f.jpg", "z.jpg.bak"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [str(path.relative_to(tmp_path)) for path in pictures_in(tmp_path)]
    assert found == ["a.PNG", "b.jpg", "c/d.webp", "c/e.jpeg"]
    assert pictures_of(str(tmp_path)) == pictures_in(tmp_path)


def test_an_empty_folder_has_no_pictures(tmp_path: Path) -> None:
    assert pictures_in(tmp_path) == []


def test_a_path_that_is_no_folder_is_refused_with_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.touch()
    with pytest.raises(InvalidRequest, match=r"found '.*a\.jpg', a file: give \[path\]"):
        pictures_of(path)
    with pytest.raises(InvalidRequest, match=r"found '.*b', nothing there"):
        pictures_of(tmp_path / "b")


@pytest.mark.parametrize("one", [b"\xff\xd8\xff", np.zeros((4, 5, 3), np.uint8), 7, {"a": "b"}])
def test_one_picture_is_not_many(one: Any) -> None:
    with pytest.raises(InvalidRequest, match="sources: expected a folder or an iterable of pictures, found"):
        pictures_of(one)


@pytest.mark.parametrize("one", [{"IN": [1]}, "IN", 7])
def test_one_request_s_inputs_are_not_many(one: Any) -> None:
    for read in (inputs_of, any_inputs_of):
        with pytest.raises(InvalidRequest, match="batches: expected an iterable of inputs by name, found"):
            read(one)


def test_an_array_of_pictures_and_a_list_are_counted_and_a_generator_is_not() -> None:
    frames = np.zeros((6, 4, 5, 3), np.uint8)
    assert pictures_of(frames) is frames
    assert (count_of(frames), count_of([b""]), count_of(iter([b""]))) == (6, 1, None)


def test_a_failure_is_its_source_s_alone_unless_the_server_is_gone_or_the_program_is_wrong() -> None:
    for own in (ModelError("x"), FileNotFoundError("x"), ConnectionResetError("of a file on a network drive")):
        assert item_error(own) is own
    for everybody_s in (ConnectionFailed("x"), ValueError("x"), KeyboardInterrupt()):
        assert item_error(everybody_s) is None
