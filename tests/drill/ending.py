"""The drill that tells a stack to end while it works."""

import signal
import time

from tests.drill.drill import Run
from tests.drill.flows import CONNECTION, Outcome
from tests.drill.load import SEQUENCES, Load, mixed
from tests.drill.managers import MODELS

UNREAD_S = 0.25  # what was sent so shortly before may not have been read, so it was not accepted
END_LIMIT_S = 12.0


def sigterm(run: Run) -> None:
    """SIGTERM of everything under load: what was accepted is answered, exit code 0, nothing is left behind."""
    for number in range(run.few(2, 1)):
        with run.stack(MODELS) as stack, Load(stack, mixed(rate=400.0) + SEQUENCES) as load:
            load.wait_right(40)
            run.pause(2.0)
            run.say(f"SIGTERM, time {number + 1}")
            at = time.monotonic()
            code = stack.stop(signal.SIGTERM)
            took_s = time.monotonic() - at
            outcomes = load.stop()
            stack.assert_nothing_left()
        run.check(code == 0, f"expected exit code 0, found {code}")
        run.check(took_s <= END_LIMIT_S, f"the end took {took_s:.1f} s, expected at most {END_LIMIT_S:g} s")
        run.take(outcomes, lambda outcome, at=at: _was_not_accepted(outcome, at))


def _was_not_accepted(outcome: Outcome, at: float) -> bool:
    """It came too late: refused in words, or there was nobody any more."""
    is_refusal = outcome.code == CONNECTION or (outcome.code == "MODEL_UNAVAILABLE" and "ending" in outcome.why)
    return is_refusal and outcome.sent_at > at - UNREAD_S
