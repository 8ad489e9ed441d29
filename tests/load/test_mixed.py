"""A small crowd of every kind of client: all is answered, rightly, and nothing is left behind."""

import pytest

from tests.load import mixed
from tests.load.kinds import KINDS, crowd
from tests.load.memory import fitted
from tests.load.talk import RIGHT

CLIENTS, SECONDS, WARM_S, PAUSE_S = 60, 5.0, 2.0, 0.2


@pytest.mark.timeout(110)
def test_a_small_crowd_gets_the_right_answers() -> None:
    outcome = mixed.run(crowd(CLIENTS), SECONDS, WARM_S, PAUSE_S)
    # So soon after their start processes still grow: memory is what `make mixed` judges.
    problems = [problem for problem in outcome.problems if "MiB a minute" not in problem]
    assert not problems, "\n".join(problems)
    assert outcome.found.keys() == KINDS.keys()
    assert all(one.counts.keys() == {RIGHT} for one in outcome.found.values())
    assert sum(one.counts[RIGHT] for one in outcome.found.values()) > 300
    assert len(outcome.memory) >= 12


def test_a_crowd_has_as_many_clients_as_were_asked_for() -> None:
    counts = crowd(500)
    assert sum(count for group in counts.values() for count in group.values()) == 500
    assert {name for group in counts.values() for name in group} == KINDS.keys()
    assert crowd(30, ["websocket"]) == {"http": {"websocket": 30}}


def test_memory_that_climbs_steadily_is_not_flat() -> None:
    climbing = fitted([(float(at), 100.0 + 0.2 * at) for at in range(60)])
    assert climbing.slope == pytest.approx(12.0)
    assert not climbing.is_flat
    unrest = fitted([(float(at), 100.0 + (at % 2) * 3.0) for at in range(60)])
    assert unrest.is_flat
    assert fitted([(0.0, 50.0), (30.0, 45.0), (60.0, 40.0)]).is_flat
