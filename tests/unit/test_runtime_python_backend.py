"""Models written as a `Model` class: found, checked, and run so that one request never disturbs another."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferoxy import messages as m
from inferoxy.errors import ModelUnavailable
from inferoxy.runtime.backend import SequenceBackend, StackedBackend
from tests.requests_for_models import Call
from tests.unit.runtime_rig import Rig, clean_import, load, write_model

__all__ = ["clean_import"]
pytestmark = pytest.mark.usefixtures("clean_import")

HEAD = "import numpy as np\nfrom inferoxy.runtime import Model\n"
HALVES = (
    HEAD
    + """
class Halves(Model):
    inputs = {"x": ("FP32", [-1, 2])}
    outputs = {"half": ("FP32", [-1, 2]), "rows": ("INT64", [-1])}
    calls = []
    def infer(self, inputs):
        x = inputs["x"]
        self.calls.append(len(x))
        if (x < 0).any():
            raise ValueError(f"negative: {x.min()}")
        if (x == 99).any():
            return {"half": x}
        x /= 2
        return {"half": x, "rows": np.full(len(x), len(x))}
"""
)
EACH = (
    HEAD
    + """
class Each(Model):
    inputs = {"x": ("FP32", [1])}
    outputs = {"y": ("FP32", [1])}
    decoupled = True
    def infer_each(self, requests):
        return [self.one(r) for r in requests]
    def one(self, r):
        kind = r.parameters.get("kind")
        if kind == "raise":
            return ZeroDivisionError("division by zero")
        if kind == "refuse":
            from inferoxy.runtime import InvalidRequest
            return InvalidRequest("x: expected something else")
        if kind == "shape":
            return {"y": np.zeros(2, "f4")}
        if kind == "write":
            r["x"][0] = 1
        if kind == "count":
            return ({"y": [float(i)]} for i in range(r.parameters["n"]))
        if kind == "stumble":
            return self.stumble()
        assert r.id == "id"
        return {"y": r["x"] * 2}
    def stumble(self):
        yield {"y": [0.0]}
        raise RuntimeError("in the middle")
"""
)
SUM = (
    HEAD
    + """
class Sum(Model):
    inputs = {"INPUT": ("INT32", [1])}
    outputs = {"OUTPUT": ("INT32", [1])}
    def load(self): self.sums, self.ended = {}, []
    def start_sequence(self, sequence_id):
        if sequence_id == "bad": raise OSError("cannot start")
        self.sums[sequence_id] = 0
    def infer_sequence(self, sequence_id, inputs):
        if inputs["INPUT"][0] < 0: raise ValueError("negative")
        self.sums[sequence_id] += int(inputs["INPUT"][0])
        return {"OUTPUT": [self.sums[sequence_id]]}
    def end_sequence(self, sequence_id, reason):
        self.ended.append((sequence_id, reason))
        del self.sums[sequence_id]
"""
)


def _x(*values: float, **more: Any) -> Call:
    return Call({"x": np.array(values, np.float32).reshape(-1, 2)}, **more)


def _each(kind: str = "", **parameters: Any) -> Call:
    return Call({"x": np.array([3], np.float32)}, parameters={"kind": kind, **parameters}, id="id")


def _step(value: int, id: int | str, *, start: bool = False, end: bool = False, client: str = "a") -> Call:
    return Call({"INPUT": np.array([value], np.int32)}, sequence=m.Sequence(id, start, end, client))


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One loaded model for many examples."""
    with Rig(write_model(tmp_path_factory.mktemp("halves"), HALVES)) as rig:
        yield rig


def test_importing_the_sdk_is_light() -> None:
    code = (
        "import sys, inferoxy.runtime; "
        "heavy = {'zmq', 'cv2', 'onnxruntime', 'simplejpeg', 'pydantic', 'structlog', 'httpx'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=8))
def test_every_request_of_a_stacked_batch_gets_its_own_rows(halves: Rig, sizes: list[int]) -> None:
    calls = [_x(*range(10 * i, 10 * i + 2 * rows)) for i, rows in enumerate(sizes)]
    for call, (answer,) in zip(calls, halves.run(*calls), strict=True):
        np.testing.assert_array_equal(answer.tensors["half"], call.inputs["x"] / 2)
        assert answer.tensors["rows"].tolist() == [sum(sizes)] * len(call.inputs["x"])


def test_a_stacked_batch_is_one_call_and_one_message(tmp_path: Path) -> None:
    with Rig(write_model(tmp_path, HALVES)) as rig:
        rig.run(_x(1, 2), _x(3, 4), _x(5, 6, 7, 8))
        assert rig.backend._model.calls == [4]  # type: ignore[attr-defined]
        assert len(rig.messages) == 1
        assert rig.messages[0].batch == 7


def test_only_the_guilty_request_of_a_stacked_batch_fails(halves: Rig) -> None:
    (good,), (bad,), (late,) = halves.run(_x(2, 4), _x(-1, 0), _x(6, 8))
    assert good.tensors["half"].tolist() == [[1, 2]]
    assert (bad.code, bad.error) == ("MODEL_ERROR", "ValueError: negative: -1.0")
    assert late.tensors["half"].tolist() == [[3, 4]]


def test_a_stacked_result_of_the_wrong_form_fails_the_batch_naming_both(halves: Rig) -> None:
    for (answer,) in halves.run(_x(99, 0), _x(1, 2)):
        assert (answer.code, answer.error) == ("MODEL_ERROR", "outputs: expected half, rows, found half")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call({"x": np.zeros((1, 3), np.float32)}), "expected shape [-1, 2], found [1, 3]"),
        (Call({"x": np.zeros((1, 2), np.float64)}), "expected datatype FP32, found FP64"),
        (Call({"z": np.zeros((1, 2), np.float32)}), "input 'z': expected one of x"),
        (_x(1, 2, outputs=["third"]), "output 'third': expected one of half, rows"),
        (_x(1, 2, draw="jpeg"), "this model draws none"),
        (_x(1, 2, frames=[b"1234"]), "expected 8 bytes for FP32 [1, 2], found 4"),
        (_x(1, 2, frames=[]), "expected 1 frames and 0 bytes, found 0 and 0"),
        (_x(1, 2, frames=[bytes(8), b"more"]), "expected 1 frames and 0 bytes, found 2 and 0"),
        (_x(1, 2, raw_payload=b"\xc1"), "payload: "),
        (
            _x(1, 2, raw_payload=b"\x91\x91\x93\xa1x\xa4FP32\x92\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\x00"),
            "found [9223372036854775807, 0]",
        ),
    ],
)
def test_a_bad_request_is_refused_alone(halves: Rig, call: Call, words: str) -> None:
    (first,), (bad,), (last,) = halves.run(_x(2, 4), call, _x(6, 8))
    assert bad.code == "INVALID_REQUEST"
    assert words in bad.error
    assert first.tensors["half"].tolist() == [[1, 2]]
    assert last.tensors["half"].tolist() == [[3, 4]]


def test_only_the_wanted_outputs_are_sent(halves: Rig) -> None:
    (some,), (all_of_them,) = halves.run(_x(2, 4, outputs=["rows"]), _x(2, 4))
    assert list(some.tensors) == ["rows"]
    assert list(all_of_them.tensors) == ["half", "rows"]


def test_a_prediction_is_the_outputs_as_lists(halves: Rig) -> None:
    answer = halves.one(_x(2, 4, form="prediction"))
    assert answer.prediction == {"half": [[1.0, 2.0]], "rows": [1]}
    assert not answer.tensors


def test_a_request_whose_time_is_over_is_not_run(halves: Rig) -> None:
    halves.backend._model.calls.clear()  # type: ignore[attr-defined]
    batch = [_x(2, 4, timeout_us=1), _x(6, 8)]
    (late,), (good,) = halves.run(*batch)
    assert late.code == "DEADLINE_EXCEEDED"
    assert not good.code
    assert halves.backend._model.calls == [1]  # type: ignore[attr-defined]


def test_slots_that_fail_fail_alone(tmp_path: Path) -> None:
    with Rig(write_model(tmp_path, EACH)) as rig:
        (a,), (b,), (c,), (d,) = rig.run(_each(), _each("raise"), _each("refuse"), _each("shape"))
    assert a.tensors["y"].tolist() == [6]
    assert (b.code, b.error) == ("MODEL_ERROR", "ZeroDivisionError: division by zero")
    assert (c.code, c.error) == ("INVALID_REQUEST", "x: expected something else")
    assert (d.code, d.error) == ("MODEL_ERROR", "output 'y': expected shape [1], found [2]")


def test_a_call_that_raises_is_repeated_for_each_alone(tmp_path: Path) -> None:
    with Rig(write_model(tmp_path, EACH)) as rig:
        (a,), (b,), (c,) = rig.run(_each(), _each("write"), _each())
    assert (a.tensors["y"].tolist(), c.tensors["y"].tolist()) == ([6], [6])
    assert (b.code, b.error) == ("MODEL_ERROR", "ValueError: assignment destination is read-only")


def test_a_generator_answers_several_times_and_others_do_not_wait_for_it(tmp_path: Path) -> None:
    with Rig(write_model(tmp_path, EACH)) as rig:
        many, (one,), none, short = rig.run(_each("count", n=3), _each(), _each("count", n=0), _each("stumble"))
        first = rig.messages[0]
    assert [answer.tensors["y"].tolist() for answer in many[:-1]] == [[0], [1], [2]]
    assert many[-1].empty
    assert one.tensors["y"].tolist() == [6]
    assert [item.ticket for item in first.items] == [1]
    assert [answer.empty for answer in none] == [True]
    assert (short[0].tensors["y"].tolist(), short[1].error) == ([0], "RuntimeError: in the middle")


def test_a_list_of_another_length_fails_every_request(tmp_path: Path) -> None:
    code = EACH.replace("return [self.one(r) for r in requests]", "return [{'y': [1.0]}]")
    with Rig(write_model(tmp_path, code)) as rig:
        answers = rig.run(_each(), _each())
        assert {answer.error for (answer,) in answers} == {"results: expected 2, one for each request, found 1"}
        assert not rig.one(_each()).code


def test_a_model_of_sequences_keeps_a_state_for_each(tmp_path: Path) -> None:
    with Rig(write_model(tmp_path, SUM), stateless=False) as rig:
        answers = rig.run(
            _step(1, 5, start=True), _step(10, 5, start=True, client="b"), _step(2, 5), _step(20, 5, client="b"),
            _step(3, 5, end=True), _step(30, 5, client="b"),
        )  # fmt: skip
        assert [answer.tensors["OUTPUT"].tolist() for (answer,) in answers] == [[1], [10], [3], [30], [6], [60]]
        ended = rig.backend._model.ended  # type: ignore[attr-defined]
        assert ended == [(5, "ended")]
        rig.executor.end_sequence(m.EndSequence(sequence=5, client="b", reason="client_gone"))
        rig.executor.end_sequence(m.EndSequence(sequence=5, client="b", reason="client_gone"))
        assert ended[1:] == [("5@b", "client_gone")]
        rig.run(_step(1, 9, start=True))
    assert ended[2:] == [(9, "failed")]


def test_a_step_that_fails_leaves_its_sequence_alive(tmp_path: Path) -> None:
    with Rig(write_model(tmp_path, SUM), stateless=False) as rig:
        (_,), (bad,), (good,) = rig.run(_step(1, 5, start=True), _step(-1, 5), _step(2, 5))
        assert (bad.code, good.tensors["OUTPUT"].tolist()) == ("MODEL_ERROR", [3])


def test_steps_of_an_unknown_sequence_are_lost(tmp_path: Path) -> None:
    with Rig(write_model(tmp_path, SUM), stateless=False) as rig:
        (lost,), (bad,), (after,), (none,) = rig.run(
            _step(1, 5), _step(1, "bad", start=True), _step(1, "bad"), Call({"INPUT": np.array([1], np.int32)})
        )
    assert (lost.code, after.code) == ("SEQUENCE_LOST", "SEQUENCE_LOST")
    assert bad.error == "OSError: cannot start"
    assert none.code == "INVALID_REQUEST"
    assert "sequence_id" in none.error


def test_starting_a_living_sequence_again_begins_anew(tmp_path: Path) -> None:
    with Rig(write_model(tmp_path, SUM), stateless=False) as rig:
        answers = rig.run(_step(1, 5, start=True), _step(7, 5, start=True))
        assert [answer.tensors["OUTPUT"].tolist() for (answer,) in answers] == [[1], [7]]
        assert rig.backend._model.ended == [(5, "ended")]  # type: ignore[attr-defined]


def test_the_model_is_told_its_options_and_finds_its_folder(tmp_path: Path) -> None:
    code = SUM.replace(
        "def load(self): ", "def load(self):\n        import weights; self.told = (self.options, self.device, "
        "self.batch_size, weights.W, __import__('pathlib').Path('weights.py').read_text())\n        "
    )  # fmt: skip
    folder = write_model(tmp_path / "m", code)
    (folder / "weights.py").write_text("W = 5")
    backend = load(folder, stateless=False, options={"a": 1}, device="cuda:1", batch_size=3)
    assert backend._model.told == ({"a": 1}, "cuda:1", 3, 5, "W = 5")  # type: ignore[attr-defined]
    sys.modules.pop("weights")


def test_a_py_file_is_an_artifact_too(tmp_path: Path) -> None:
    path = write_model(tmp_path, HALVES) / "model.py"
    assert isinstance(load(path.rename(tmp_path / "other.py")), StackedBackend)


def test_only_classes_defined_in_the_file_count_and_bases_do_not(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "from base import Base, Other\n" + SUM.replace("Sum(Model)", "Sum(Mine)").replace(
        "class Sum", "class Mine(Base): pass\nclass Sum"))  # fmt: skip
    (folder / "base.py").write_text(HEAD + "class Base(Model): pass\nclass Other(Model): pass\n")
    assert isinstance(load(folder, stateless=False), SequenceBackend)
    sys.modules.pop("base")


@pytest.mark.parametrize(
    ("code", "stateless", "words"),
    [
        ("x = 1", True, "expected one subclass of inferoxy.runtime.Model, or predict_batch.*found neither"),
        (HALVES + "class B(Model): pass", True, "found Halves, B"),
        (HALVES + "def predict_batch(s, draw): pass", True, "found Halves, predict_batch"),
        (SUM, True, "expected one of infer, infer_each, because the model is registered as stateless; found infer_seq"),
        (HALVES, False, "expected one of infer_sequence, because the model is registered as stateful; found infer"),
        (HALVES + "    def infer_each(self, r): pass", True, "found infer, infer_each"),
        (HALVES.replace('"FP32", [-1, 2])}', '"FP32", [2])}', 1), True, r"the batch axis -1 in front, found \[2\]"),
        (HALVES.replace('("FP32", [-1, 2])}', '("FLOAT", [-1])}', 1), True, r"Halves.inputs\['x'\]: expected .*FLOAT"),
        (HALVES.replace('{"x": ("FP32", [-1, 2])}', "[]"), True, "Halves.inputs: expected a dict"),
    ],
)
def test_a_folder_without_one_fitting_model_is_refused(tmp_path: Path, code: str, stateless: bool, words: str) -> None:
    with pytest.raises(ModelUnavailable, match=words):
        load(write_model(tmp_path, code), stateless=stateless)


def test_what_no_runtime_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no such file or folder"):
        load(tmp_path / "absent")
    with pytest.raises(ModelUnavailable, match=r"expected a .onnx file, a .py file or a folder with model.py"):
        load(tmp_path)
    with pytest.raises(ModelUnavailable, match="runtime: expected one of python, onnx, yolo, found 'caffe'"):
        load(tmp_path, runtime="caffe")
