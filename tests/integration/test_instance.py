"""A real instance process against a real socket: everything the batch manager may say to it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inferoxy import messages as m
from inferoxy import wire
from tests import onnx_models
from tests.integration.batch_manager_end import BatchManagerEnd
from tests.requests_for_models import Call, make_batch

HEAD = "import os, time\nimport numpy as np\nfrom inferoxy.runtime import Model\n"
DOUBLE = (
    HEAD
    + """
class Double(Model):
    inputs = {"x": ("FP32", [-1, 4])}
    outputs = {"y": ("FP32", [-1, 4])}
    def infer(self, inputs):
        x = inputs["x"]
        if (x == -1).any(): raise ZeroDivisionError("division by zero")
        if (x == -2).any(): time.sleep(2.5)
        return {"y": x * 2}
"""
)
MEANS = (
    HEAD
    + """
class Means(Model):
    inputs = {"IMAGE": ("UINT8", [-1, -1, 3])}
    outputs = {"MEAN": ("FP32", [3])}
    decoupled = True
    def infer_each(self, requests):
        return [self.one(r) for r in requests]
    def one(self, r):
        if r["IMAGE"].max() == 0: return ValueError("a black picture")
        if r.parameters.get("slowly"): return self.slowly(r)
        return {"MEAN": r["IMAGE"].mean((0, 1), dtype="float32")}
    def slowly(self, r):
        for row in r["IMAGE"]:
            yield {"MEAN": row.mean(0, dtype="float32")}
            time.sleep(0.05)
"""
)
FUNCTIONS = """
def predict_batch(samples, draw):
    results = []
    for sample in samples:
        for index in range(sample.get("more", 0)):
            results.append({"prediction": {"index": index, "finished": False}, "image": sample["image"]})
        results.append({"prediction": {"size": list(sample["image"].shape)}, "image": sample["image"]})
    return results
"""
SUM = (
    HEAD
    + """
class Sum(Model):
    inputs = {"INPUT": ("INT32", [1])}
    outputs = {"OUTPUT": ("INT32", [1])}
    def load(self): self.sums = {}
    def start_sequence(self, sequence_id): self.sums[sequence_id] = 0
    def infer_sequence(self, sequence_id, inputs):
        self.sums[sequence_id] += int(inputs["INPUT"][0])
        return {"OUTPUT": [self.sums[sequence_id]]}
    def end_sequence(self, sequence_id, reason):
        del self.sums[sequence_id]
        print("ended", sequence_id, reason, flush=True)
"""
)
LARGE = (
    HEAD
    + """
class Large(Model):
    inputs = {"x": ("UINT8", [-1, 262144])}
    outputs = {"y": ("UINT8", [-1, 262144])}
    def load(self): self.kept = np.zeros((8, 262144), "u1")
    def infer(self, inputs):
        out = self.kept[:len(inputs["x"])]
        np.add(inputs["x"], 1, out=out)
        return {"y": out}
"""
)
IMAGE = np.arange(1, 61, dtype=np.uint8).reshape(4, 5, 3)
PNG = cv2.imencode(".png", IMAGE[..., ::-1])[1].tobytes()


@pytest.fixture
def end(tmp_path: Path) -> Iterator[BatchManagerEnd]:
    with BatchManagerEnd(tmp_path) as end:
        yield end


def _x(*values: float) -> Call:
    return Call({"x": np.array(values, np.float32).reshape(-1, 4)})


def _picture(**more: Any) -> Call:
    return Call(picture=(PNG, "png", IMAGE.shape), **more)


def _step(value: int, id: int, *, start: bool = False, end: bool = False) -> Call:
    return Call({"INPUT": np.array([value], np.int32)}, sequence=m.Sequence(id, start, end))


def test_hello_says_what_the_model_is(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE, batch_size=5, device="cpu")
    hello = end.welcome(instance)
    assert (hello.instance, hello.model, hello.model_version, hello.token) == ("i0", "x", "1", "t")
    assert (hello.batch_size, hello.stacked, hello.stateless, hello.decoupled) == (5, True, True, False)
    assert [(s.name, s.datatype, s.shape) for s in hello.inputs] == [("x", "FP32", (-1, 4))]
    assert (hello.platform, hello.device, hello.pid) == ("python", "cpu", instance.process.pid)
    end.stop(instance)


def test_stacked_requests_are_answered_each_and_only_the_guilty_fails(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE)
    end.welcome(instance)
    (a,), (b,), (c,), (d,) = end.ask(instance, _x(1, 2, 3, 4), _x(-1, 0, 0, 0), _x(*range(8)), Call())
    assert a.tensors["y"].tolist() == [[2, 4, 6, 8]]
    assert (b.code, b.error) == ("MODEL_ERROR", "ZeroDivisionError: division by zero")
    assert c.tensors["y"].shape == (2, 4)
    assert (d.code, d.error) == ("INVALID_REQUEST", "input 'x': expected, not found in the request")
    end.stop(instance)
    assert "ZeroDivisionError: division by zero" in instance.output()


def test_two_batches_in_flight_are_both_answered_with_their_times(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE)
    end.welcome(instance)
    for id in (end.post(instance, _x(1, 1, 1, 1)), end.post(instance, _x(2, 2, 2, 2))):
        result, _ = end.expect(instance, m.Result)
        assert (result.batch, result.done, len(result.items)) == (id, True, 1)
        assert 0 <= result.compute_us < 5_000_000
        assert result.decode_us == 0
    end.stop(instance)


def test_several_batches_in_one_message_are_answered(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE)
    end.welcome(instance)
    frames = [frame for id in (91, 92) for frame in wire.encode(*make_batch(id, [_x(1, 2, 3, id)]))]
    end.send_raw(instance, frames)
    for id in (91, 92):
        ((answer,),) = end.results(instance, id)
        assert answer.tensors["y"][0, 3] == 2 * id
    end.stop(instance)


def test_results_stay_what_they_were_when_a_model_uses_its_memory_again(end: BatchManagerEnd) -> None:
    instance = end.launch(LARGE)
    end.welcome(instance)
    calls = [[Call({"x": np.full((1, 262_144), 16 * i + j, np.uint8)}) for j in range(4)] for i in range(6)]
    ids = [end.post(instance, *some) for some in calls]
    for i, id in enumerate(ids):
        for j, (answer,) in enumerate(end.results(instance, id)):
            assert (answer.tensors["y"] == 16 * i + j + 1).all()
    end.stop(instance)


def test_pictures_and_tensors_are_given_each_and_one_slot_may_fail(end: BatchManagerEnd) -> None:
    instance = end.launch(MEANS)
    hello = end.welcome(instance)
    assert (hello.stacked, hello.decoupled) == (False, True)
    black = Call({"IMAGE": np.zeros((2, 2, 3), np.uint8)})
    (a,), (b,), (c,) = end.ask(instance, _picture(), black, Call({"IMAGE": IMAGE}))
    np.testing.assert_allclose(a.tensors["MEAN"], IMAGE.mean((0, 1)))
    assert (b.code, b.error) == ("MODEL_ERROR", "ValueError: a black picture")
    np.testing.assert_array_equal(a.tensors["MEAN"], c.tensors["MEAN"])
    end.stop(instance)


def test_a_generators_answers_come_as_they_are_made(end: BatchManagerEnd) -> None:
    instance = end.launch(MEANS)
    end.welcome(instance)
    end.post(instance, _picture(parameters={"slowly": True}), _picture())
    arrivals = []
    while not arrivals or not arrivals[-1][0].done:
        result, _ = end.expect(instance, m.Result)
        arrivals.append((result, time.monotonic()))
    tickets = [[(item.ticket, item.final) for item in result.items] for result, _ in arrivals]
    assert tickets[0] == [(1, True)]
    assert tickets[1:-1] == [[(0, False)]] * 4
    assert tickets[-1] == [(0, True)]
    assert arrivals[-1][0].items[0].payload == m.NO_PAYLOAD
    assert arrivals[-1][1] - arrivals[1][1] > 0.1
    end.stop(instance)


def test_predict_batch_with_unfinished_results_and_drawn_pictures(end: BatchManagerEnd) -> None:
    instance = end.launch(FUNCTIONS)
    end.welcome(instance)
    (one,), many = end.ask(
        instance, _picture(form="prediction", draw="jpeg"), _picture(form="prediction", parameters={"more": 2})
    )
    assert one.prediction == {"size": [4, 5, 3]}
    assert one.encoded["picture"][0] == "jpeg"
    assert [(answer.final, answer.prediction.get("index")) for answer in many] == [(False, 0), (False, 1), (True, None)]
    end.stop(instance)


def test_a_bare_end_is_answered_and_told_to_the_model(end: BatchManagerEnd) -> None:
    instance = end.launch(SUM, stateless=False)
    assert end.welcome(instance).compute_us == 0
    bare = Call(sequence=m.Sequence(7, end=True))
    (first,), (ended,), (late,) = end.ask(instance, _step(1, 7, start=True), bare, _step(1, 7))
    assert first.tensors["OUTPUT"].tolist() == [1]
    assert (ended.code, ended.tensors, ended.prediction) == ("", {}, None)
    assert late.code == "SEQUENCE_LOST"
    end.stop(instance)
    assert "ended 7 ended" in instance.output()


def test_a_batch_manager_that_has_forgotten_an_instance_has_forgotten_its_sequences(end: BatchManagerEnd) -> None:
    instance = end.launch(SUM, stateless=False, max_sequences=2)
    end.welcome(instance)
    end.ask(instance, _step(1, 7, start=True), _step(1, 8, start=True))
    end.send(instance, m.Who(epoch=2))
    end.welcome(instance)
    ((again,),) = end.ask(instance, _step(5, 7, start=True))
    assert again.tensors["OUTPUT"].tolist() == [5]
    assert instance.output().count("failed") == 2
    end.stop(instance)
    assert instance.output().count("ended 7 failed") == 2


def test_sequences_keep_their_state_until_they_end(end: BatchManagerEnd) -> None:
    instance = end.launch(SUM, stateless=False, max_sequences=2)
    hello = end.welcome(instance)
    assert (hello.stateless, hello.max_sequences) == (False, 2)
    (a,), (b,) = end.ask(instance, _step(1, 7, start=True), _step(2, 7))
    assert (a.tensors["OUTPUT"].tolist(), b.tensors["OUTPUT"].tolist()) == ([1], [3])
    end.send(instance, m.EndSequence(sequence=7, reason="idle"))
    ((lost,), (new,)) = end.ask(instance, _step(4, 7), _step(5, 8, start=True, end=True))
    assert lost.code == "SEQUENCE_LOST"
    assert new.tensors["OUTPUT"].tolist() == [5]
    end.stop(instance)
    assert "ended 7 idle" in instance.output()
    assert "ended 8 ended" in instance.output()


def test_heartbeats_come_while_a_model_believed_quick_computes_for_long(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE)
    end.welcome(instance, heartbeat_s=0.2)
    end.ask(instance, _x(1, 2, 3, 4))
    end.post(instance, _x(-2, 0, 0, 0))
    kinds = []
    while not kinds or kinds[-1] is not m.Result:
        message, _ = end.receive(instance)
        kinds.append(type(message))
    assert kinds.count(m.Heartbeat) >= 5
    for _ in range(3):
        ((answer,),) = end.ask(instance, _x(1, 2, 3, 4))
        assert answer.tensors["y"].tolist() == [[2, 4, 6, 8]]
    end.stop(instance)


def test_the_link_changes_hands_without_losing_anything(end: BatchManagerEnd) -> None:
    code = HEAD + (
        "class Uneven(Model):\n"
        "    inputs = outputs = {'x': ('FP32', [-1, 4])}\n"
        "    def infer(self, inputs):\n"
        "        time.sleep(float(inputs['x'][0, 0]))\n"
        "        return inputs\n"
    )
    instance = end.launch(code)
    end.welcome(instance, heartbeat_s=0.05)
    rng = np.random.default_rng(3)
    pauses = rng.choice([0, 0, 0, 0.0004, 0.002, 0.01], 400)
    waiting: list[tuple[int, float]] = []
    for pause in pauses:
        waiting.append((end.post(instance, _x(pause, 1, 2, 3)), pause))
        if len(waiting) == 2:
            id, expected = waiting.pop(0)
            ((answer,),) = end.results(instance, id)
            assert answer.tensors["x"][0, 0] == np.float32(expected)
    end.results(instance, waiting[0][0])
    end.stop(instance)


def test_sigterm_asks_to_leave_and_finishes_what_is_in_flight(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE)
    end.welcome(instance)
    end.post(instance, _x(-2, 0, 0, 0))
    end.post(instance, _x(1, 2, 3, 4))
    time.sleep(0.3)  # the first is being computed
    instance.terminate()
    end.expect(instance, m.Stop, timeout_s=1.5)
    end.results(instance, 1)
    ((answer,),) = end.results(instance, 2)
    assert answer.tensors["y"].tolist() == [[2, 4, 6, 8]]
    end.stop(instance)


def test_stop_while_batches_wait_sends_their_results_first(end: BatchManagerEnd) -> None:
    instance = end.launch(FUNCTIONS)
    end.welcome(instance)
    ids = [end.post(instance, *[_picture(form="prediction", draw="png")] * 3) for _ in range(4)]
    end.send(instance, m.Stop())
    given = end.drain(instance, ids)
    assert [len(given[id]) for id in ids] == [3] * 4
    assert all(answer.encoded for id in ids for answer in given[id])
    assert instance.wait() == 0


def test_sigterm_without_a_batch_manager_ends_soon(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE)
    end.welcome(instance, heartbeat_s=0.2)
    end.ask(instance, _x(1, 2, 3, 4))
    end.socket.close(0)
    instance.terminate()
    assert instance.wait(5) == 0


@pytest.mark.parametrize("code", [DOUBLE, HEAD + "time.sleep(60)\n"], ids=["unwelcomed", "loading"])
def test_sigterm_before_serving_ends_at_once(end: BatchManagerEnd, code: str) -> None:
    instance = end.launch(code)
    if code == DOUBLE:
        end.expect(instance, m.Hello)
    else:
        _wait_for_handler(instance.process.pid)
    instance.terminate()
    assert instance.wait(5) == 0


def _wait_for_handler(pid: int) -> None:
    """Until the process catches SIGTERM."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if int(status["SigCgt"], 16) >> 14 & 1:
            return
        time.sleep(0.02)
    raise TimeoutError("the process never installed its handler")


def test_a_restarted_batch_manager_gets_hello_again(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE)
    end.welcome(instance, heartbeat_s=0.1)
    end.ask(instance, _x(1, 2, 3, 4))
    end.restart()
    end.expect(instance, m.Heartbeat)
    end.send(instance, m.Who(epoch=2))
    hello = end.welcome(instance)
    assert hello.instance == "i0"
    ((answer,),) = end.ask(instance, _x(1, 2, 3, 4))
    assert answer.tensors["y"].tolist() == [[2, 4, 6, 8]]
    end.stop(instance)


def test_hello_is_repeated_until_somebody_answers(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE)
    end.expect(instance, m.Hello)
    end.expect(instance, m.Hello)
    end.send(instance, m.Welcome(epoch=1))
    end.ask(instance, _x(1, 2, 3, 4))
    end.stop(instance)


def test_a_refused_instance_says_why_and_exits_78(end: BatchManagerEnd) -> None:
    instance = end.launch(DOUBLE)
    end.welcome(instance, error="token: expected one for model y")
    assert instance.wait() == 78
    assert "token: expected one for model y" in instance.output()


@pytest.mark.parametrize(
    ("code", "last"),
    [
        (HEAD + "raise RuntimeError('weights are missing')\n", "RuntimeError: weights are missing"),
        (
            DOUBLE + "    def load(self): open('absent')\n",
            "No such file or directory: 'absent'",
        ),
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("x = 1\n", "found neither"),
    ],
)
def test_a_load_failure_ends_with_its_traceback_and_exit_code_70(end: BatchManagerEnd, code: str, last: str) -> None:
    instance = end.launch(code)
    assert instance.wait() == 70
    lines = instance.output().strip().splitlines()
    assert lines[-1].endswith(last)
    assert any(line.startswith("Traceback") for line in lines)


def test_an_instance_that_is_told_nothing_exits_64() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "INFEROXY_INSTANCE"}
    done = subprocess.run(
        [sys.executable, "-m", "inferoxy.runtime"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 64
    assert "INFEROXY_INSTANCE: expected an instance's configuration as JSON" in done.stderr


def test_broken_messages_are_dropped_and_broken_requests_refused(end: BatchManagerEnd) -> None:
    instance = end.launch(MEANS)
    end.welcome(instance)
    for junk in ([b""], [b"\xc1\xc1\xc1"], [b"\x93\x09\x12\x00"], [b"\x93\x01\x12\x05"], [b"\x93\x01\x63\x00", b"x"]):
        end.send_raw(instance, junk)
    bad = [
        _picture(raw_payload=b"\x05"),
        _picture(frames=[]),
        _picture(frames=[PNG[:50]]),
        _picture(frames=[b"\xff\xd8\xff" + os.urandom(200)]),
        _picture(frames=[PNG, PNG]),
        Call({"IMAGE": IMAGE}, frames=[b"short"]),
        Call({"IMAGE": IMAGE[..., 0]}),
        Call(picture=(PNG, "jpeg", IMAGE.shape)),
    ]
    answers = end.ask(instance, *[call for one in bad for call in (one, _picture())][:8])
    answers += end.ask(instance, *[call for one in bad for call in (one, _picture())][8:])
    assert [answer.code for (answer,) in answers] == ["INVALID_REQUEST", ""] * len(bad)
    end.stop(instance)


def test_a_detector_answers_pictures(end: BatchManagerEnd, tmp_path: Path) -> None:
    head = np.zeros((6, 20), np.float32)
    head[:, 0] = (32, 32, 16, 8, 0.1, 0.9)
    metadata = {"names": "{0: 'cat', 1: 'dog'}", "stride": "32", "task": "detect"}
    path = onnx_models.constant_head(tmp_path / "m.onnx", head, metadata=metadata)
    instance = end.launch(path)
    hello = end.welcome(instance)
    assert hello.metadata["names"] == metadata["names"]
    assert hello.compute_us > 0
    image = np.full((64, 128, 3), 50, np.uint8)
    png = cv2.imencode(".png", image)[1].tobytes()
    calls = [Call(picture=(png, "png", image.shape), form="prediction", draw="jpeg"), Call({"x": image})]
    result_id = end.post(instance, *calls)
    result, _ = end.expect(instance, m.Result)
    assert (result.batch, result.done) == (result_id, True)
    assert result.decode_us > 0
    (a,), (b,) = end.ask(instance, *calls)
    assert a.prediction == {"boxes": [[48, 24, 80, 40]], "confidence": [0.9], "class_id": [1], "class_name": ["dog"]}
    assert a.encoded["picture"][0] == "jpeg"
    np.testing.assert_allclose(b.tensors["boxes"], [[48, 24, 80, 40]], atol=1e-3)
    end.stop(instance)
