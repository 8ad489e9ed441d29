"""Claims about how drills judge: what counts as right, refused, lost and wrong, and how long a recovery took."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.drill.drill import Run
from tests.drill.flows import LOST, RIGHT, WRONG, Outcome
from tests.drill.questions import Question, Reply, doubled, elements_of, fault_of
from tests.drill.records import NEVER, count, percentile, recovery, refusals


def outcome(sent_at: float, took_s: float = 0.01, code: str = RIGHT, flow: str = "http small") -> Outcome:
    return Outcome(flow, sent_at, sent_at + took_s, code)


def steady(begin: float, end: float, every_s: float = 0.1, took_s: float = 0.01) -> list[Outcome]:
    return [outcome(begin + number * every_s, took_s) for number in range(round((end - begin) / every_s))]


def test_a_code_that_is_not_allowed_is_wrong_and_one_that_is_allowed_is_refused() -> None:
    outcomes = [outcome(0), outcome(1, code="SHED"), outcome(2, code="INTERNAL"), outcome(3, code=LOST)]
    assert count(outcomes, refusals("SHED"))[:5] == (4, 1, 1, 1, 1)
    assert count(outcomes)[:5] == (4, 1, 0, 1, 2)


def test_an_allowance_for_some_flows_does_not_hold_for_others() -> None:
    outcomes = [outcome(0, code="SHED", flow="a"), outcome(0, code="SHED", flow="b")]
    assert count(outcomes, refusals("SHED", flows={"a"}))[:5] == (2, 0, 1, 0, 1)


def test_a_wrong_answer_can_never_be_allowed_by_naming_other_codes() -> None:
    assert count([outcome(0, code=WRONG)], refusals("SHED")).wrong == 1


def test_recovery_counts_from_the_blow_to_the_first_right_answer_to_a_later_request() -> None:
    before = steady(0.0, 10.0)
    struck = [outcome(9.95, 1.2), *(outcome(10.0 + number / 10, 1.2 - number / 10) for number in range(12))]
    found = recovery([*before, *struck, *steady(11.3, 15.0)], at=10.0, since=0.0)
    assert found.first_s == pytest.approx(1.2)
    assert found.steady_s == pytest.approx(1.2)
    assert found.wait_s == pytest.approx(1.2)


def test_recovery_is_over_only_when_the_backlog_is_gone() -> None:
    before = steady(0.0, 10.0)
    backlog = [outcome(10.0 + number / 10, 1.0 + number / 20) for number in range(10)]
    found = recovery([*before, *backlog, *steady(12.0, 14.0)], at=10.0, since=0.0)
    assert found.first_s == pytest.approx(1.0)
    assert found.steady_s > 1.2


def test_a_load_that_is_never_answered_again_has_not_recovered() -> None:
    found = recovery([*steady(0.0, 10.0), outcome(10.1, 5.0, LOST)], at=10.0, since=0.0)
    assert found.first_s == NEVER
    run = Run("none")
    run.recovered("blow", [outcome(10.1, 5.0, LOST)], 10.0, 0.0, 1.0)
    assert not run.holds


@pytest.mark.parametrize("outcomes", [[outcome(0, code=LOST)], [outcome(0, code=WRONG)], [outcome(0, code="INTERNAL")]])
def test_a_run_with_anything_lost_or_wrong_does_not_hold(outcomes: list[Outcome]) -> None:
    run = Run("some")
    run.take([outcome(0), *outcomes])
    assert not run.holds
    assert run.problems


def test_a_percentile_is_the_value_that_so_many_do_not_exceed() -> None:
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 3.0
    assert percentile([], 0.99) == 0.0


def question(number: int = 7, count_: int = 64) -> Question:
    elements = elements_of(number, count_)
    return Question("double", (1, count_), elements.tobytes(), doubled(elements).tobytes(), 1.0)


def reply(asked: Question, **changes: Any) -> Reply:
    return Reply(RIGHT, name="OUTPUT", datatype="INT32", shape=asked.shape, data=asked.expected)._replace(**changes)


def flipped(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


@pytest.mark.parametrize(
    "change",
    [
        lambda right: right._replace(data=flipped(right.data)),
        lambda right: right._replace(data=right.data[:-4]),
        lambda right: right._replace(shape=(1, 63)),
        lambda right: right._replace(name="INPUT"),
        lambda right: right._replace(data=reply(question(8)).data),
    ],
)
def test_an_answer_that_differs_in_one_bit_or_is_another_requests_is_found_out(
    change: Callable[[Reply], Reply],
) -> None:
    asked = question()
    assert fault_of(asked, reply(asked)) == ""
    assert fault_of(asked, change(reply(asked)))


def test_every_element_of_a_request_differs_from_the_same_one_of_its_neighbours() -> None:
    one, other = elements_of(1_000, 4_096), elements_of(1_001, 4_096)
    assert not (one == other).any()
    assert elements_of(5, 16, mark=-2)[0] == -2
