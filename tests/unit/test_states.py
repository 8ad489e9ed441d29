"""The life of an instance."""

import pytest

from inferoxy.errors import InternalError
from inferoxy.messages import InstanceState as S
from task_manager.states import ACTIVE, ALLOWED, ENDED, LEAVING, STARTING, Instance


def instance(state: S) -> Instance:
    return Instance(id="scale-1-a", model="scale", version="1", digest="d", since=0.0, state=state)


def test_every_state_stands_in_the_table() -> None:
    assert set(ALLOWED) == set(S)
    assert set(S) == ACTIVE | LEAVING | ENDED
    assert STARTING < ACTIVE


@pytest.mark.parametrize("state", [s for s in S if s not in ENDED])
def test_every_state_that_is_not_final_can_reach_an_end(state: S) -> None:
    assert ALLOWED[state] & ENDED


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in S for b in S])
def test_a_move_is_made_exactly_when_the_table_allows_it(before: S, after: S) -> None:
    it = instance(before)
    if after in ALLOWED[before]:
        it.move(after, 3.0)
        assert (it.state, it.since) == (after, 3.0)
    else:
        with pytest.raises(InternalError, match=f"scale-1-a: cannot go from {before} to {after}"):
            it.move(after, 3.0)
        assert it.state is before
