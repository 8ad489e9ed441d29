"""When requests are sent and what is counted, on a clock of the test's own."""

import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.bench.pacing import NEVER, NO_ANSWER, ClosedLoop, OpenLoop, Tally, even, poisson

Pacer = ClosedLoop | OpenLoop


class Server:
    """Answers each request after a time that depends on when it was sent; one clock for it and the pacer."""

    def __init__(self, takes_s: Callable[[float], float], fails: Callable[[int], str] = lambda number: "") -> None:
        self.now = 0.0
        self.sent: list[float] = []
        self._takes_s = takes_s
        self._fails = fails
        self._answers: list[tuple[float, int, int]] = []

    def send(self, slot: int, number: int) -> None:
        self.sent.append(self.now)
        heapq.heappush(self._answers, (self.now + self._takes_s(self.now), slot, number))

    def run(self, pacer: Pacer, until: float) -> None:
        """Let time pass to an instant."""
        while True:
            answer_at = self._answers[0][0] if self._answers else NEVER
            self.now = min(answer_at, pacer.next_due())
            if self.now > until:
                self.now = until
                return
            if answer_at <= pacer.next_due():
                _, slot, number = heapq.heappop(self._answers)
                pacer.answered(slot, self.now, self._fails(number))
            else:
                pacer.due(self.now)


def stalling(now: float) -> float:
    """A server that answers in a millisecond, but nothing between the seconds 4 and 5."""
    return max(0.001, 5.0 - now) if 4.0 <= now < 5.0 else 0.001


def run_open(server: Server, rate: float, *, slots: int = 10_000, begin: float = 0.0, until: float = 20.0) -> Tally:
    tally = Tally(begin, 10.0)
    loop = OpenLoop(even(0.0, rate), slots, server.send, tally)
    loop.begin(0.0)
    server.run(loop, until)
    loop.give_up(until)
    tally.flush()
    return tally


def test_a_stall_shows_in_the_percentiles_of_an_open_loop() -> None:
    tally = run_open(Server(stalling), 100.0)
    assert tally.latency.count == 1_000
    assert tally.latency.percentile(50) == pytest.approx(0.001, rel=0.01)
    assert tally.latency.percentile(91) == pytest.approx(0.1, abs=0.02)  # a tenth of all were due in the stall
    assert tally.latency.percentile(99) == pytest.approx(0.9, abs=0.02)
    assert tally.latency.most_s == pytest.approx(1.0)


def test_the_same_stall_hides_from_a_closed_loop() -> None:
    server, tally = Server(stalling), Tally(0.0, 10.0)
    loop = ClosedLoop(1, server.send, tally)
    loop.begin(0.0)
    server.run(loop, 20.0)
    tally.flush()
    assert tally.latency.percentile(99.9) == pytest.approx(0.001, rel=0.01)
    assert tally.latency.most_s == pytest.approx(1.0, abs=0.01)


def test_a_stall_shows_as_well_where_requests_must_wait_for_a_connection() -> None:
    server, tally = Server(stalling), Tally(0.0, 10.0)
    loop = OpenLoop(even(0.0, 100.0), 1, server.send, tally)
    loop.begin(0.0)
    server.run(loop, 20.0)
    tally.flush()
    assert loop.waited == pytest.approx(100, abs=15)
    assert tally.latency.percentile(99) == pytest.approx(0.9, abs=0.03)
    assert tally.lateness.most_s < 0.01  # waiting for the server is not the generator's own lateness


def test_what_is_never_answered_counts_with_the_time_until_it_was_given_up() -> None:
    tally = run_open(Server(lambda now: 1_000.0 if now >= 9.0 else 0.001), 10.0, until=15.0)
    assert tally.failures == {NO_ANSWER: 10}
    assert tally.latency.count == 100
    assert tally.latency.most_s == pytest.approx(6.0)


def test_an_open_loop_sends_on_its_schedule_whatever_the_answers_do() -> None:
    server = Server(lambda now: 3.0)
    run_open(server, 8.0)
    assert server.sent == pytest.approx([number / 8 for number in range(80)])


def test_requests_due_before_the_measurement_are_sent_and_not_counted() -> None:
    server = Server(lambda now: 0.001)
    tally = run_open(server, 10.0, begin=5.0)
    assert (len(server.sent), tally.latency.count, tally.completed) == (100, 50, 50)


def test_throughput_counts_only_what_was_answered_in_time() -> None:
    tally = run_open(Server(lambda now: 0.001 if now < 5.0 else 7.0), 10.0)
    assert (tally.latency.count, tally.completed) == (100, 50)


def test_failures_are_counted_by_code_and_not_among_latencies() -> None:
    server = Server(lambda now: 0.001, lambda number: "QUEUE_FULL" if number % 4 == 0 else "")
    tally = run_open(server, 10.0)
    assert tally.failures == {"QUEUE_FULL": 25}
    assert (tally.latency.count, tally.completed) == (75, 75)


def test_a_closed_loop_keeps_one_request_in_flight_on_each_slot() -> None:
    server, tally = Server(lambda now: 0.5), Tally(1.0, 10.0)
    loop = ClosedLoop(3, server.send, tally)
    loop.begin(0.0)
    server.run(loop, 9.9)
    assert loop.open == 3
    server.run(loop, 20.0)
    tally.flush()
    assert loop.open == 0
    assert len(server.sent) == 3 * 20
    assert tally.completed == tally.latency.count == 3 * 18
    assert tally.latency.percentile(50) == pytest.approx(0.5, rel=0.01)


def test_a_closed_loop_goes_on_after_a_failure() -> None:
    server, tally = Server(lambda now: 0.5, lambda number: "SHED" if number == 2 else ""), Tally(0.0, 5.0)
    loop = ClosedLoop(1, server.send, tally)
    loop.begin(0.0)
    server.run(loop, 20.0)
    assert tally.failures == {"SHED": 1}
    assert tally.completed == 8


@given(st.floats(0.1, 1e5), st.integers(1, 8))
def test_shares_of_a_schedule_make_the_whole_schedule(rate: float, shares: int) -> None:
    parts = [itertools.islice(even(3.0, rate, share=share, shares=shares), 5) for share in range(shares)]
    whole = list(itertools.islice(even(3.0, rate), 5 * shares))
    assert sorted(itertools.chain(*parts)) == whole
    assert whole[0] == 3.0
    assert whole == pytest.approx([3.0 + number / rate for number in range(5 * shares)])


def test_independent_users_come_at_the_wanted_rate_and_the_same_again_for_a_seed() -> None:
    arrivals = list(itertools.islice(poisson(5.0, 200.0, 1), 20_000))
    assert arrivals == list(itertools.islice(poisson(5.0, 200.0, 1), 20_000))
    assert arrivals == sorted(arrivals)
    assert arrivals[0] > 5.0
    assert arrivals[-1] - 5.0 == pytest.approx(100.0, rel=0.05)
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    longer = sum(gap > 0.005 for gap in gaps) / len(gaps)
    assert longer == pytest.approx(0.3679, abs=0.02)  # exponential: e^-1 of all gaps exceed the mean


@given(st.integers(1, 5), st.floats(1.0, 60.0), st.floats(0.001, 2.0))
def test_every_request_of_an_open_loop_is_counted_once(slots: int, rate: float, takes_s: float) -> None:
    server = Server(lambda now: takes_s)
    tally = run_open(server, rate, slots=slots, until=12.0)
    due = sum(1 for _ in itertools.takewhile(lambda at: at < 10.0, even(0.0, rate)))
    assert tally.latency.count == due
