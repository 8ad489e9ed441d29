"""The instance's talk with the batch manager, without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy import messages as m
from inferoxy.runtime.session import LEAVE_HEARTBEATS, OK, REFUSED, SILENCE_S, Session, State

HELLO = m.Hello(instance="i", model="x")


def _serving(heartbeat_s: float = 1.0) -> Session:
    session = Session(HELLO, 0.0)
    assert list(session.tick(0.0)) == [HELLO]
    assert not session.handle(m.Welcome(epoch=5, heartbeat_s=heartbeat_s), 0.1)
    return session


def test_hello_is_repeated_until_welcome() -> None:
    session = Session(HELLO, 0.0)
    assert list(session.tick(0.0)) == [HELLO]
    assert not session.tick(0.5)
    assert list(session.tick(1.0)) == [HELLO]
    session.handle(m.Welcome(epoch=5), 1.1)
    assert [type(message) for message in session.tick(2.2)] == [m.Heartbeat]


def test_heartbeats_follow_the_batch_managers_interval_and_carry_its_epoch() -> None:
    session = _serving(0.25)
    assert session.wakeup == pytest.approx(0.35)
    assert list(session.tick(0.4)) == [m.Heartbeat(epoch=5)]
    assert session.wakeup == pytest.approx(0.65)


def test_who_is_answered_by_hello_until_the_new_welcome() -> None:
    session = _serving()
    assert list(session.handle(m.Who(epoch=6), 1.0)) == [HELLO]
    assert list(session.tick(2.0)) == [HELLO]
    session.handle(m.Welcome(epoch=6), 2.1)
    assert list(session.tick(3.2)) == [m.Heartbeat(epoch=6)]


def test_a_refused_instance_ends_with_its_own_exit_code() -> None:
    session = Session(HELLO, 0.0)
    session.handle(m.Welcome(error="token: not for this model"), 0.1)
    assert (session.state, session.exit_code) == (State.ENDED, REFUSED)
    assert "token: not for this model" in session.reason


def test_stop_ends_the_session() -> None:
    session = _serving()
    session.handle(m.Stop(), 1.0)
    assert (session.has_ended, session.exit_code) == (True, OK)


def test_leaving_asks_once_and_ends_with_the_answer() -> None:
    session = _serving()
    assert list(session.leave()) == [m.Stop()]
    assert not session.leave()
    assert not session.has_ended
    session.handle(m.Stop(), 1.2)
    assert session.has_ended


def test_leaving_waits_for_a_batch_manager_that_lives_and_for_no_other() -> None:
    session = _serving()
    session.leave()
    for second in range(1, 30):
        session.handle(m.Heartbeat(), float(second))
        assert list(session.tick(second + 0.5)) == [m.Heartbeat(epoch=5)]
    session.tick(29.0 + LEAVE_HEARTBEATS)
    assert (session.has_ended, session.exit_code) == (True, OK)


def test_leaving_before_the_welcome_is_immediate() -> None:
    session = Session(HELLO, 0.0)
    assert not session.leave()
    assert session.has_ended


def test_a_restarted_batch_manager_has_nothing_for_an_instance_that_leaves() -> None:
    session = _serving()
    session.leave()
    assert not session.handle(m.Who(epoch=6), 1.5)
    assert session.has_ended


@pytest.mark.parametrize("welcomed", [True, False])
def test_silence_ends_the_session(welcomed: bool) -> None:
    session = _serving() if welcomed else Session(HELLO, 0.0)
    session.heard(10.0)
    assert session.tick(9.0 + SILENCE_S)
    assert not session.tick(10.0 + SILENCE_S)
    assert (session.has_ended, session.exit_code) == (True, OK)


events = st.sampled_from(
    [m.Welcome(epoch=1), m.Welcome(error="no"), m.Who(), m.Stop(), m.Heartbeat(), "leave", "tick", "heard"]
)


@given(st.lists(st.tuples(st.floats(0, 20), events), max_size=40))
def test_whatever_comes_an_ended_session_stays_ended_and_silent(steps: list[tuple[float, m.Header | str]]) -> None:
    session, now, ended = Session(HELLO, 0.0), 0.0, False
    for wait, event in steps:
        now += wait
        if event == "leave":
            said = session.leave()
        elif event == "tick":
            said = session.tick(now)
        elif event == "heard":
            session.heard(now)
            said = ()
        else:
            said = session.handle(event, now)  # type: ignore[arg-type]
        if ended:
            assert session.has_ended
            assert not said
        else:
            assert session.has_ended or session.wakeup >= now - 20 * len(steps)
        ended = session.has_ended
