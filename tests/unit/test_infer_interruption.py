"""Signals that wait while something is written."""

import os
import signal

import pytest

from inferoxy.cli.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_outermost_block(number: signal.Signals) -> None:
    steps = []
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with interruption.held():
            with interruption.held():
                os.kill(os.getpid(), number)
                steps.append("inner")
            steps.append("outer")
        steps.append("never")
    assert steps == ["inner", "outer"]


def test_elsewhere_it_comes_at_once_and_only_once() -> None:
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with interruption.held():
            pass


def test_handlers_are_as_before_afterwards_and_what_is_ignored_stays_so() -> None:
    before = signal.getsignal(signal.SIGINT)
    old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interruption():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGINT) is not before
        assert signal.getsignal(signal.SIGINT) is before
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, old)
