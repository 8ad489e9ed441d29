"""Steps of sequences on an instance: started, run in order, ended, and what a failure does to those behind it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferoxy import messages as m
from inferoxy.errors import ModelUnavailable
from inferoxy.runtime.worker import hello_for
from tests import onnx_models
from tests.requests_for_models import Call, Given
from tests.unit.runtime_rig import Rig, clean_import, load, write_model

__all__ = ["clean_import"]
pytestmark = pytest.mark.usefixtures("clean_import")

SUM = """
from inferoxy.runtime import Model
class Sum(Model):
    inputs = {"INPUT": ("INT32", [1])}
    outputs = {"OUTPUT": ("INT32", [1])}
    def load(self): self.sums, self.told = {}, []
    def start_sequence(self, sequence_id):
        if sequence_id == "bad": raise OSError("cannot start")
        self.told.append(("start", sequence_id))
        self.sums[sequence_id] = 0
    def infer_sequence(self, sequence_id, inputs):
        value = int(inputs["INPUT"][0])
        if value < 0: raise ValueError("negative")
        self.sums[sequence_id] += value
        if value == 99: return self.many(sequence_id)
        return {"OUTPUT": [self.sums[sequence_id]]}
    def many(self, sequence_id):
        yield {"OUTPUT": [self.sums[sequence_id]]}
        raise RuntimeError("in the middle")
    def end_sequence(self, sequence_id, reason):
        self.told.append((reason, sequence_id))
        del self.sums[sequence_id]
        if reason == "idle": raise RuntimeError("while ending")
"""
# A frame's level is the red of its first pixel; the sum of levels since `init` is the module's state.
FUNCTIONS = """
state, batches = {"sum": 0}, []
def init(start=0, bad=False):
    if bad: raise KeyError("no such setting")
    state["sum"] = start
def predict_batch(samples, draw):
    levels = [int(sample["image"][0, 0, 0]) for sample in samples]
    batches.append(levels)
    if 13 in levels: raise ValueError("unlucky")
    results = []
    for level, sample in zip(levels, samples):
        state["sum"] += level
        for left in range(sample.get("more", 0)):
            results.append({"prediction": {"left": left, "finished": False}, "image": None})
        results.append({"prediction": {"sum": state["sum"]}, "image": None})
    return results
"""


def _step(value: int, id: int | str = 5, *, start: bool = False, end: bool = False, **more: Any) -> Call:
    client = more.pop("client", "a")
    return Call({"INPUT": np.array([value], np.int32)}, sequence=m.Sequence(id, start, end, client), **more)


def _frame(level: int, id: int | str = 5, *, start: bool = False, end: bool = False, **parameters: Any) -> Call:
    image = np.full((2, 2, 3), level, np.uint8)
    step = m.Sequence(id, start, end, "a")
    return Call({"image": image}, sequence=step, parameters=parameters, form="prediction")


def _end(id: int | str = 5, *, start: bool = False, client: str = "a", **more: Any) -> Call:
    return Call(sequence=m.Sequence(id, start, True, client), **more)


def _sums(answers: list[list[Given]]) -> list[Any]:
    """Each call's last answer: its sum, its error's code, or None for an empty one."""
    found = []
    for *_, last in answers:
        if last.code:
            found.append(last.code)
        elif last.prediction is not None:
            found.append(last.prediction["sum"])
        else:
            found.append(last.tensors["OUTPUT"].item() if last.tensors else None)
    return found


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    with Rig(write_model(tmp_path, SUM), stateless=False, max_sequences=4) as rig:
        yield rig


@pytest.fixture
def functions(tmp_path: Path) -> Any:
    with Rig(write_model(tmp_path, FUNCTIONS), stateless=False) as rig:
        yield rig


def _told(rig: Rig) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = rig.backend._model.told  # type: ignore[attr-defined]
    return found


def _batches(rig: Rig) -> list[list[int]]:
    found: list[list[int]] = rig.backend._predict_batch.__globals__["batches"]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("form", ["tensors", "prediction"])
def test_a_bare_end_ends_the_sequence_and_is_answered_with_nothing(rig: Rig, form: str) -> None:
    (_,), (_,), (ended,), (late,) = rig.run(_step(1, start=True), _step(2), _end(form=form), _step(3))
    assert (ended.code, ended.final, ended.empty) == ("", True, False)
    assert (ended.tensors, ended.prediction, ended.parameters) == ({}, None, {})
    assert late.code == "SEQUENCE_LOST"
    assert _told(rig) == [("start", 5), ("ended", 5)]


def test_a_bare_end_that_starts_as_well_is_told_as_both(rig: Rig) -> None:
    assert _sums(rig.run(_end(start=True))) == [None]
    assert _told(rig) == [("start", 5), ("ended", 5)]
    (bad,) = rig.run(_end("bad", start=True))[0]
    assert (bad.code, bad.error) == ("MODEL_ERROR", "OSError: cannot start")


def test_a_bare_end_of_what_does_not_live_has_nothing_to_do(rig: Rig) -> None:
    assert _sums(rig.run(_end(), _end(client="b"))) == [None, None]
    assert _told(rig) == []


def test_a_request_without_tensors_that_ends_nothing_is_refused(rig: Rig) -> None:
    started = Call(sequence=m.Sequence(5, True, False, "a"))
    plain = Call(sequence=m.Sequence(5, False, False, "a"))
    for answer in (rig.one(started), rig.one(plain)):
        assert (answer.code, answer.error) == ("INVALID_REQUEST", "input 'INPUT': expected, not found in the request")


@pytest.mark.parametrize("more", [{"frames": [b"x"]}, {"raw_payload": b"\x05"}])
def test_a_bare_end_that_is_malformed_is_refused_and_ends_the_sequence(rig: Rig, more: dict[str, Any]) -> None:
    assert _sums(rig.run(_step(1, start=True), _end(**more))) == [1, "INVALID_REQUEST"]
    assert _told(rig)[-1] == ("ended", 5)


def test_a_start_that_fails_does_not_live_and_takes_the_steps_behind_it_along(rig: Rig) -> None:
    answers = rig.run(_step(-1, start=True), _step(2), _end())
    assert _sums(answers) == ["MODEL_ERROR", "SEQUENCE_LOST", None]
    assert _told(rig) == [("start", 5), ("failed", 5)]
    answers = rig.run(_step(99, 6, start=True), _step(2, 6))
    assert [[answer.code for answer in mine] for mine in answers] == [["", "MODEL_ERROR"], ["SEQUENCE_LOST"]]
    answers = rig.run(_step(1, 7, start=True, frames=[b"abc"]), _step(2, 7))
    assert _sums(answers) == ["INVALID_REQUEST", "SEQUENCE_LOST"]
    assert _told(rig)[2:] == [("start", 6), ("failed", 6)]


def test_a_bad_start_ends_what_lived_under_its_id(rig: Rig) -> None:
    assert _sums(rig.run(_step(1, start=True), _step(1, start=True, frames=[b"abc"]))) == [1, "INVALID_REQUEST"]
    assert _told(rig) == [("start", 5), ("ended", 5)]


@pytest.mark.parametrize("call", [_step(-1, end=True), _step(1, end=True, frames=[b"abc"]), _step(99, end=True)])
def test_a_last_step_that_fails_ends_the_sequence(rig: Rig, call: Call) -> None:
    (_,), (*_, last) = rig.run(_step(1, start=True), call)
    assert last.code
    assert _told(rig)[-1] == ("ended", 5)


def test_a_last_step_whose_time_is_over_ends_the_sequence_and_a_first_one_begins_none(rig: Rig) -> None:
    rig.run(_step(1, start=True))
    late = {"timeout_us": 1}
    found = _sums(rig.run(_step(1, end=True, **late), _step(1, 6, start=True, **late), _step(1, 6), _end(7, **late)))
    assert found == ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "SEQUENCE_LOST", "DEADLINE_EXCEEDED"]
    assert _told(rig) == [("start", 5), ("ended", 5)]


def test_what_the_model_raises_at_an_end_disturbs_nobody(rig: Rig) -> None:
    rig.run(_step(1, start=True))
    rig.executor.end_sequence(m.EndSequence(sequence=5, client="a", reason="idle"))
    assert _sums(rig.run(_step(7, start=True))) == [7]


def test_sequences_that_nobody_knows_any_more_have_failed(rig: Rig) -> None:
    rig.run(_step(1, start=True), _step(1, start=True, client="b"))
    rig.executor.end_sequences()
    assert _told(rig)[2:] == [("failed", 5), ("failed", "5@b")]
    assert _sums(rig.run(_step(1), _step(4, start=True))) == ["SEQUENCE_LOST", 4]


events = st.lists(
    st.tuples(st.integers(0, 50), st.sampled_from([1, 2]), st.booleans(), st.booleans(), st.sampled_from("ab")),
    min_size=1, max_size=30,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=events, cuts=st.lists(st.integers(1, 5), min_size=30, max_size=30))
def test_results_do_not_depend_on_how_steps_are_batched(
    rig: Rig, steps: list[tuple[int, int, bool, bool, str]], cuts: list[int]
) -> None:
    rig.executor.end_sequences()
    sums: dict[tuple[str, int], int] = {}
    expected: list[Any] = []
    for value, id, start, end, client in steps:
        if start:
            sums[client, id] = 0
        if (client, id) in sums:
            sums[client, id] += value
            expected.append(sums[client, id])
        else:
            expected.append("SEQUENCE_LOST")
        if end:
            sums.pop((client, id), None)
    found: list[Any] = []
    calls = [_step(value, id, start=start, end=end, client=client) for value, id, start, end, client in steps]
    for size in cuts:
        if calls:
            found += _sums(rig.run(*calls[:size]))
            calls = calls[size:]
    assert found == expected


def test_frames_of_a_sequence_share_batches_behind_the_first(functions: Rig) -> None:
    answers = functions.run(_frame(1, start=True, init={"start": 100}), _frame(2), _frame(3), _frame(4, end=True))
    assert _sums(answers) == [101, 103, 106, 110]
    assert _batches(functions) == [[1], [2, 3, 4]]
    assert _sums(functions.run(_frame(5))) == ["SEQUENCE_LOST"]


def test_the_frames_before_an_init_are_run_before_it(functions: Rig) -> None:
    functions.run(_frame(1, start=True))
    again, failing = {"init": {"start": 50}}, {"init": {"bad": True}}
    answers = functions.run(_frame(2), _frame(3, **again), _frame(4), _frame(5, **failing), _frame(6))
    assert _sums(answers) == [3, 53, 57, "MODEL_ERROR", 63]
    assert _batches(functions)[1:] == [[2], [3, 4], [6]]


def test_a_call_that_fails_fails_its_frames_alone_and_is_not_repeated(functions: Rig) -> None:
    functions.run(_frame(1, start=True))
    answers = functions.run(_frame(2), _frame(13), _frame(3, init={"start": 0}), _frame(4))
    assert _sums(answers) == ["MODEL_ERROR", "MODEL_ERROR", 3, 7]
    assert _batches(functions)[1:] == [[2, 13], [3, 4]]
    assert _sums(functions.run(_frame(13), _frame(1))) == ["MODEL_ERROR", "MODEL_ERROR"]
    assert _sums(functions.run(_frame(1))) == [8]


def test_a_first_frame_that_fails_leaves_nothing_to_go_on_with(functions: Rig) -> None:
    functions.run(_frame(1, start=True), _end())
    for first in (_frame(2, start=True, init={"bad": True}), _frame(13, start=True)):
        assert _sums(functions.run(first, _frame(3))) == ["MODEL_ERROR", "SEQUENCE_LOST"]
    assert _batches(functions) == [[1], [13]]


def test_several_results_of_one_frame_are_its_answers(functions: Rig) -> None:
    answers = functions.run(_frame(1, start=True), _frame(2, more=2), _frame(3))
    assert [[answer.prediction for answer in mine] for mine in answers] == [
        [{"sum": 1}],
        [{"left": 0, "finished": False}, {"left": 1, "finished": False}, {"sum": 3}],
        [{"sum": 6}],
    ]


def test_functions_may_end_bare_and_with_a_frame(functions: Rig) -> None:
    assert _sums(functions.run(_frame(1, start=True), _end())) == [1, None]
    assert _sums(functions.run(_frame(2), _frame(3, start=True, end=True), _frame(4))) == [
        "SEQUENCE_LOST", 3, "SEQUENCE_LOST",
    ]  # fmt: skip
    functions.executor.end_sequence(m.EndSequence(sequence=5, client="a", reason="idle"))


def test_a_sequence_without_init_does_not_go_on_with_the_state_of_the_one_before(functions: Rig) -> None:
    functions.run(_frame(1, start=True, init={"start": 100}), _end())
    assert _sums(functions.run(_frame(2, start=True), _frame(3))) == [2, 5]


def test_an_init_that_needs_arguments_is_called_only_with_them(tmp_path: Path) -> None:
    code = FUNCTIONS.replace("def init(start=0, bad=False):", "def init(start, bad=False):")
    with Rig(write_model(tmp_path, code), stateless=False) as rig:
        rig.run(_frame(1, start=True, init={"start": 100}), _end())
        assert _sums(rig.run(_frame(2, start=True))) == [103]


def test_functions_cannot_keep_several_sequences(tmp_path: Path) -> None:
    folder = write_model(tmp_path, FUNCTIONS)
    with pytest.raises(ModelUnavailable, match="max_sequences: expected 1, found 2: predict_batch keeps its state"):
        load(folder, stateless=False, max_sequences=2)
    load(folder, stateless=True, max_sequences=2)


def test_a_tensor_model_without_a_state_may_be_asked_in_sequences(tmp_path: Path) -> None:
    def rows(value: float, **step: Any) -> Call:
        return Call({"x": np.full((1, 4), value, np.float32)}, sequence=m.Sequence(1, client="a", **step))

    with Rig(onnx_models.doubler(tmp_path / "m.onnx"), runtime="onnx", stateless=False) as rig:
        answers = rig.run(rows(1, start=True), rows(2), rows(3), _end(1), rows(4))
        assert [answer.code for (answer,) in answers] == ["", "", "", "", "SEQUENCE_LOST"]
        assert [answer.tensors["y"][0, 0] for (answer,) in answers[:3]] == [2, 4, 6]


def test_a_stateless_model_answers_a_bare_end_too(tmp_path: Path) -> None:
    with Rig(onnx_models.doubler(tmp_path / "m.onnx"), runtime="onnx") as rig:
        x = Call({"x": np.ones((1, 4), np.float32)})
        (one,), (ended,), (two,) = rig.run(x, _end(), x)
        assert (one.code, ended.code, ended.tensors, two.code) == ("", "", {}, "")
        hello = hello_for(rig.config, rig.backend)
    assert hello.compute_us == int(rig.backend.warm_s * 1e6)
