"""Sequences of different clients never share a model's state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.errors import Code, InferoxyError
from inferoxy.runtime.sequences import Sequences

keys = st.tuples(st.sampled_from(["a", "b", "@"]), st.sampled_from([1, 2, "1", "1@a", "1@b"]))


def test_the_model_gets_the_clients_id_unless_another_living_sequence_has_it() -> None:
    sequences = Sequences()
    assert sequences.start("a", 7) == 7
    assert sequences.start("b", 7) == "7@b"
    assert sequences.end("a", 7) == 7
    assert sequences.start("c", 7) == 7


def test_a_sequence_that_is_not_here_is_lost() -> None:
    with pytest.raises(InferoxyError, match="sequence 3: expected a request with sequence_start first") as caught:
        Sequences().find("a", 3)
    assert caught.value.code == Code.SEQUENCE_LOST


@given(st.lists(st.tuples(st.booleans(), keys)))
def test_living_sequences_always_have_different_model_ids(steps: list[tuple[bool, tuple[str, int | str]]]) -> None:
    sequences, alive = Sequences(), {}
    for is_start, (client, sequence) in steps:
        if is_start and not sequences.is_alive(client, sequence):
            alive[client, sequence] = sequences.start(client, sequence)
        elif not is_start:
            assert sequences.end(client, sequence) == alive.pop((client, sequence), None)
        assert len(set(alive.values())) == len(alive) == len(sequences)
        assert all(sequences.find(*key) == model_id for key, model_id in alive.items())
    assert sorted(map(str, sequences.drain())) == sorted(map(str, alive.values()))
    assert len(sequences) == 0
