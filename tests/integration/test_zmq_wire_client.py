"""A client that was written from protos/wire.md alone (wire_client.py), against a real stack."""

import signal
import struct
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq

from tests.integration.client_models import SAMPLE, write_models
from tests.integration.sequence_models import SUMS
from tests.integration.stack import Stack
from tests.integration.wire_client import REQUEST, VERSION, Answer, Tensor, WireClient, pack, tensor, unpack
from tests.unit.test_wire import frames_of

MIRROR = """
from inferoxy.runtime import Model

class Mirror(Model):
    inputs = {name: (name, [-1, -1]) for name in DATATYPES}
    outputs = {name: (name, [-1, -1]) for name in DATATYPES}

    def infer_each(self, requests):
        return [{name: request[name] for name in DATATYPES} for request in requests]
"""
VALUES: dict[str, Any] = {
    "BOOL": [[True, False, True]],
    "UINT8": [[0, 255]], "UINT16": [[0, 2**16 - 1]], "UINT32": [[0, 2**32 - 1]], "UINT64": [[0, 2**64 - 1]],
    "INT8": [[-128, 127]], "INT16": [[-(2**15), 2**15 - 1]], "INT32": [[-(2**31), 2**31 - 1]],
    "INT64": [[-(2**63), 2**63 - 1]], "FP16": [[0.5, -65504.0]], "BF16": [[0x3F80, 0xC000]], "FP32": [[1.5, -2.5]],
    "FP64": [[1e300, -1e-300]], "BYTES": [[b"ab", b""], [b"\x00\xff", "é".encode()]],
}  # fmt: skip
ADD = """
from inferoxy.runtime import Model

class Add(Model):
    inputs = {"A": ("INT32", [-1, 1])}
    outputs = {"B": ("INT32", [-1, 1])}

    def infer(self, inputs):
        return {"B": inputs["A"] + 1}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("wire")
    lines = [write_models(folder)]
    mirror = MIRROR.replace("DATATYPES", repr(list(VALUES)))
    for name, source, more in (
        ("mirror", mirror, ""),
        ("add", ADD, ", batch_size: 64, queue_size: 20000"),
        ("sums", SUMS, f", stateless: false, max_sequences: 4, options: {{log: {folder / 'notes'}}}"),
    ):
        (folder / name).mkdir()
        (folder / name / "model.py").write_text(source)
        lines.append(f"{name}: {{artifact: {folder / name}, runtime: python{more}}}")
    with Stack("\n".join(lines) + "\n", rest="", grpc="") as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[WireClient]:
    with WireClient(stack.zmq_endpoint) as client:
        client.learn()
        yield client


def row(*values: float) -> Tensor:
    return tensor("IN", "FP32", [values])


def one(value: int) -> Tensor:
    return tensor("IN", "INT32", [value])


def sum_of(answer: Answer) -> Any:
    assert answer.code == "", answer.error
    return answer.tensors["SUM"].array().item()


@pytest.mark.parametrize(
    ("example", "header"),
    [
        (
            "request-tensors",
            [1, 1, 1, 7, "scale", [[["INPUT0", "FP32", [1, 2]]], {"threshold": 0.5}]],
        ),
        (
            "request-picture",
            [1, 1, 1, 8, "detector", [[["", "UINT8", [], None, "jpeg"]], {"confidence": 0.5}, [], "prediction", ""],
             "", 2_000_000, 0, None, "", "frame-0001"],
        ),
        ("request-bare-end", [1, 1, 0, 9, "tracker", [[]], "", 0, 0, ["cam-1", False, True]]),
        ("ping", [1, 4, 0, 0]),
        ("pong", [1, 5, 0, 77]),
        ("cancel", [1, 3, 0, [7, 8]]),
        ("other-version", [2, 1, 0, 7]),
    ],
)  # fmt: skip
def test_the_examples_are_what_this_client_would_send(example: str, header: list[Any]) -> None:
    assert pack(header) == frames_of(example)[0]
    assert unpack(frames_of(example)[0]) == header


def test_the_first_message_may_be_a_request(stack: Stack) -> None:
    with WireClient(stack.zmq_endpoint) as client:
        answer = client.ask("scale", row(1, 2, 3, 4))
        assert answer.tensors["DOUBLE"].array().tolist() == [[2, 4, 6, 8]]
        assert answer.tensors["SUM"].array().tolist() == [[10]]
        assert (answer.id, answer.final, answer.prediction) == (1, True, None)


def test_how_a_request_was_served_is_told(client: WireClient) -> None:
    client.ask("scale", row(1, 2, 3, 4))
    served = client.ask("scale", row(1, 2, 3, 4)).served
    assert served is not None
    queue_us, compute_us, batch_size, closed, instance, version, decode_us = served[:7]
    assert 0 <= queue_us < 10_000_000
    assert 0 < compute_us < 10_000_000
    assert (batch_size, version, decode_us) == (1, "1", 0)
    assert closed in ("full", "idle", "delay", "deadline", "alone")
    assert instance.startswith("scale-1-")


def test_every_datatype_travels_both_ways(client: WireClient) -> None:
    sent = {name: tensor(name, name, values) for name, values in VALUES.items()}
    found = client.ask("mirror", *sent.values())
    assert found.code == "", found.error
    for name, one_sent in sent.items():
        assert found.tensors[name] == one_sent._replace(shape=list(one_sent.shape)), name
        assert found.tensors[name].array().tolist() == one_sent.array().tolist()


def test_bytes_tensors_and_outputs_that_are_asked_for(client: WireClient) -> None:
    words = tensor("WORDS", "BYTES", [b"one", b"", b"three"])
    found = client.ask("words", words, payload=({}, ["LENGTH"]))
    assert {name: t.array().tolist() for name, t in found.tensors.items()} == {"LENGTH": [3, 0, 5]}
    found = client.ask("words", words)
    assert found.tensors["UPPER"].array().tolist() == [b"ONE", b"", b"THREE"]


def test_pictures_travel_as_files_and_as_arrays(client: WireClient) -> None:
    file = Tensor("", "UINT8", (), SAMPLE.read_bytes(), "jpeg")
    found = client.ask("detector", file, payload=({"confidence": 0.5}, [], "prediction", "png"))
    boxes = found.prediction
    assert len(boxes["boxes"]) == len(boxes["confidence"]) == len(boxes["class_id"]) == len(boxes["class_name"]) >= 5
    assert all(len(box) == 4 for box in boxes["boxes"])
    drawn = found.tensors["picture"]
    assert (drawn.encoding, drawn.data[:4], len(drawn.shape)) == ("png", b"\x89PNG", 3)
    picture = np.full((4, 6, 3), (10, 20, 30), np.uint8)
    array = Tensor("", "UINT8", picture.shape, picture.tobytes())
    found = client.ask("mean", array, payload=({"blind": True}, [], "prediction"))
    assert found.prediction["mean"] == [10, 20, 30]
    assert found.tensors == {}


def test_parameters_are_anything_a_map_can_hold(client: WireClient) -> None:
    known = {
        "blind": True, "none": None, "big": 2**64 - 1, "small": -(2**63), "half": 0.5, "text": "é" * 300,
        "list": list(range(20)), "map": {str(at): [at] for at in range(20)},
    }  # fmt: skip
    picture = Tensor("", "UINT8", (1, 1, 3), b"\x01\x02\x03")
    found = client.ask("mean", picture, payload=({**known, "raw": b"\x00"}, [], "prediction"))
    assert found.code == "", found.error
    assert {key: value for key, value in found.prediction["known"].items() if key != "raw"} == known


def test_several_answers_end_with_a_final_one(client: WireClient) -> None:
    picture = Tensor("", "UINT8", (1, 1, 3), b"\x01\x02\x03")
    found = client.wait(client.request("count", picture, payload=({}, [], "prediction")))
    assert [a.final for a in found] == [False] * (len(found) - 1) + [True]
    assert [a.prediction["step"] for a in found if a.prediction] == [1, 2, 3]


def test_ten_thousand_requests_are_under_way_at_once(client: WireClient) -> None:
    count, joined = 10_000, 50
    expected: dict[int, int] = {}
    for start in range(0, count, joined):
        frames: list[bytes] = []
        for value in range(start, start + joined):
            number, own = client.envelope("add", tensor("A", "INT32", [[value]]), fields=("", 60_000_000))
            expected[number] = value + 1
            frames += own
        client.send(*frames)
    found: Counter[int] = Counter()
    for _ in range(count):
        answer = client.next_answer()
        assert answer.code == "", answer.error
        assert answer.tensors["B"].array().item() == expected[answer.id]
        found[answer.id] += 1
    assert set(found.values()) == {1}
    assert len(found) == count


def test_what_is_registered_is_told_once(client: WireClient) -> None:
    models = client.learn()
    assert set(models) >= {"mean", "scale", "words", "count", "broken", "detector", "mirror", "add", "sums"}
    client.ask("scale", row(1, 2, 3, 4))
    until = time.monotonic() + 10.0
    while not client.models["scale"][3]:  # its inputs, once an instance has declared them
        assert time.monotonic() < until
        client.ping()
    spec, state, error, inputs, outputs = client.models["scale"][:5]
    assert (spec.get("stateless", True), spec["batch_size"], state, error) == (True, 4, "ready", "")
    assert [one[:3] for one in inputs] == [["IN", "FP32", [-1, 4]]]
    assert {one[0] for one in outputs} == {"DOUBLE", "SUM"}
    assert client.models["sums"][0]["stateless"] is False
    assert client.models["sums"][0].get("sequence_idle_s", 30) == 30
    client.models = {}
    epoch = client.ping()
    assert client.ping() == epoch != 0
    assert client.models == {}


@pytest.mark.parametrize(
    ("model", "tensors", "more", "code", "error"),
    [
        ("none", [row(1, 2, 3, 4)], {}, "MODEL_NOT_FOUND", "'none'"),
        ("scale", [row(1, 2, 3, 4)], {"fields": ("9",)}, "MODEL_NOT_FOUND", "'9'"),
        ("scale", [row(1, 2)], {}, "INVALID_REQUEST", "IN"),
        ("scale", [tensor("IN", "FP64", [[1, 2, 3, 4]])], {}, "INVALID_REQUEST", "expected datatype FP32, found FP64"),
        ("scale", [Tensor("IN", "FP32", (1, 4), b"123")], {}, "INVALID_REQUEST", "expected 16 bytes"),
        ("scale", [Tensor("IN", "FLOAT", (1, 4), bytes(16))], {}, "INVALID_REQUEST", "found 'FLOAT'"),
        ("scale", [], {}, "INVALID_REQUEST", "expected at least one, found none"),
        ("scale", [row(1, 2, 3, 4)], {"fields": ("", -1)}, "INVALID_REQUEST", "timeout: expected 0..86400000000"),
        ("scale", [row(1, 2, 3, 4)], {"fields": ("", 0, 10**7)}, "INVALID_REQUEST", "priority: expected"),
        ("scale", [row(1, 2, 3, 4)], {"fields": ("", 0, 0, None, "t" * 257)}, "INVALID_REQUEST", "trace: expected"),
        ("scale", [row(1, 2, 3, 4)], {"fields": ("", 0, 0, 5)}, "INVALID_REQUEST", "sequence: expected array or nil"),
        ("scale", [row(1, 2, 3, 4)], {"payload": (5,)}, "INVALID_REQUEST", "payload.parameters: expected map"),
        ("scale", [row(1, 2, 3, 4)], {"payload": ({}, [], "x")}, "INVALID_REQUEST", "found 'x'"),
        ("detector", [Tensor("", "UINT8", (), b"GIF89a", "gif")], {}, "INVALID_REQUEST", "expected an encoding of"),
        ("detector", [Tensor("", "UINT8", (), b"no file", "png")], {}, "INVALID_REQUEST", "expected"),
        ("mean", [Tensor("", "UINT8", (1, 1, 3), b"abc")], {"payload": ({"anger": 3},)}, "MODEL_ERROR", "anger 3"),
        ("sums", [one(1)], {}, "INVALID_REQUEST", "sequence"),
        ("sums", [one(1)], {"fields": ("", 0, 0, [0, True])}, "INVALID_REQUEST", "sequence"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_told_with_a_code_and_for_people(
    client: WireClient, model: str, tensors: list[Tensor], more: dict[str, Any], code: str, error: str
) -> None:
    found = client.ask(model, *tensors, **more)
    assert (found.code, found.final, found.tensors) == (code, True, {})
    assert error in found.error
    assert client.ask("scale", row(1, 2, 3, 4)).code == ""


def test_a_request_whose_time_is_over_is_told_so(client: WireClient) -> None:
    picture = Tensor("", "UINT8", (1, 1, 3), b"abc")
    began = time.monotonic()
    found = client.ask("mean", picture, payload=({"sleep_s": 2.0},), fields=("", 300_000))
    assert found.code == "DEADLINE_EXCEEDED"
    assert 0.25 < time.monotonic() - began < 1.9


def test_cancelled_requests_are_answered_at_once_and_once(client: WireClient) -> None:
    picture = Tensor("", "UINT8", (1, 1, 3), b"abc")
    ids = [client.request("mean", picture, payload=({"sleep_s": 0.4},)) for _ in range(3)]
    time.sleep(0.1)
    began = time.monotonic()
    client.cancel(*ids, 999)
    assert [(a.code, a.final) for number in ids for a in client.wait(number)] == [("CANCELLED", True)] * 3
    assert time.monotonic() - began < 0.3
    client.cancel(*ids)
    assert client.ask("mean", picture, id=ids[0], payload=({},)).code == ""  # the id is free again
    time.sleep(0.5)
    client.ping()
    assert client.answers == []


def test_a_repeated_request_is_answered_once(client: WireClient) -> None:
    picture = Tensor("", "UINT8", (1, 1, 3), b"abc")
    number, frames = client.envelope("mean", picture, payload=({"sleep_s": 0.2},))
    client.send(*frames, *frames)
    client.send(*frames)
    assert [a.code for a in client.wait(number)] == [""]
    client.ping()
    assert client.answers == []


@pytest.mark.parametrize("id", [5, 2**64 - 1, "cam-1", "5"])
def test_the_steps_of_a_sequence_are_run_in_order_without_waiting(client: WireClient, id: int | str) -> None:
    steps = [client.step("sums", [id, True], one(1)), *[client.step("sums", [id], one(1)) for _ in range(30)]]
    steps.append(client.step("sums", [id, False, True], one(100)))
    assert [sum_of(client.wait(number)[0]) for number in steps] == [*range(1, 32), 131]
    (unknown,) = client.wait(client.step("sums", [id], one(1)))
    assert unknown.code == "SEQUENCE_UNKNOWN"
    assert "start it anew" in unknown.error


def test_a_bare_end_is_not_run(client: WireClient) -> None:
    first, end = client.step("sums", ["bare", True], one(7)), client.step("sums", ["bare", False, True])
    assert sum_of(client.wait(first)[0]) == 7
    (ended,) = client.wait(end)
    assert (ended.code, ended.final, ended.tensors) == ("", True, {})
    assert client.wait(client.step("sums", ["bare", False, True]))[0].code == "SEQUENCE_UNKNOWN"
    assert client.wait(client.step("sums", ["both", True, True]))[0].code == ""


def test_ids_of_sequences_belong_to_a_connection(stack: Stack, client: WireClient) -> None:
    with WireClient(stack.zmq_endpoint) as other:
        assert sum_of(client.wait(client.step("sums", [9, True], one(1)))[0]) == 1
        assert other.wait(other.step("sums", [9], one(1)))[0].code == "SEQUENCE_UNKNOWN"
        assert sum_of(other.wait(other.step("sums", [9, True], one(10)))[0]) == 10
        assert sum_of(client.wait(client.step("sums", [9, False, True], one(1)))[0]) == 2
        assert sum_of(other.wait(other.step("sums", [9, False, True], one(10)))[0]) == 20


def test_a_sequence_whose_instance_died_is_lost_then_unknown_and_begins_from_nothing(client: WireClient) -> None:
    assert sum_of(client.wait(client.step("sums", ["lost", True], one(3)))[0]) == 3
    (lost,) = client.wait(client.step("sums", ["lost"], one(4)))  # 4 ends the instance
    assert lost.code == "SEQUENCE_LOST"
    assert client.wait(client.step("sums", ["lost"], one(1)))[0].code == "SEQUENCE_UNKNOWN"
    assert sum_of(client.wait(client.step("sums", ["lost", True, True], one(5 + 1)))[0]) == 6


def test_a_step_that_fails_leaves_its_sequence_alive_and_a_start_that_fails_does_not(client: WireClient) -> None:
    assert sum_of(client.wait(client.step("sums", ["f", True], one(1)))[0]) == 1
    assert client.wait(client.step("sums", ["f"], one(5)))[0].code == "MODEL_ERROR"
    assert sum_of(client.wait(client.step("sums", ["f", False, True], one(1)))[0]) == 2
    ids = [client.step("sums", ["g", True], one(5)), client.step("sums", ["g"], one(1))]
    assert client.wait(ids[0])[0].code == "MODEL_ERROR"
    assert client.wait(ids[1])[0].code in ("SEQUENCE_LOST", "SEQUENCE_UNKNOWN")


def test_another_version_is_answered_in_the_documented_bytes(client: WireClient) -> None:
    client.send(*frames_of("other-version"))
    assert client.socket.recv_multipart() == frames_of("other-version-answer")
    assert client.ask("scale", row(1, 2, 3, 4)).code == ""


@pytest.mark.parametrize(
    ("frame", "id", "error"),
    [
        (b"", 0, "header: expected a msgpack array of [version, kind, frames, ...], found an empty frame"),
        (b"\x00" * 64, 0, "found a first byte 0x00"),
        (pack({"version": 1}), 0, "found a map"),
        (pack([VERSION]), 0, "found an array of too few elements"),
        (b"\xdd\x00\x00\x00\x04\x01\x01\x00\x05", 5, "found an array32"),
        (pack([0, REQUEST, 0, 5]), 0, "expected protocol version 1, found 0"),
        (pack([3, REQUEST, 0, 5]), 0, "expected protocol version 1, found 3"),
        (pack([VERSION, 99, 0, 5]), 0, "kind 99 is not known"),
        (pack([VERSION, 2, 0, 5]), 0, "expected REQUEST, CANCEL or PING, found RESPONSE"),
        (pack([VERSION, 8, 0, []]), 0, "expected REQUEST, CANCEL or PING, found REQUESTS"),
        (pack([VERSION, REQUEST, 0, "x", "add", [[]]]), 0, "id: expected int, found str"),
        (pack([VERSION, REQUEST, 0, 2**63, "add", [[]]]), 0, f"id: expected 1..{2**63 - 1}, found {2**63}"),
        (pack([VERSION, REQUEST, 3, 5, "add", [[]]]), 5, "expected 3 tensor frames behind it, found 0"),
        (pack([VERSION, REQUEST, -1, 5, "add", [[]]]), 5, "expected -1 tensor frames"),
        (pack([VERSION, REQUEST, 0, 5, 7, [[]]]), 5, "model: expected str, found int"),
        (pack([VERSION, REQUEST, 0, 5, b"add", [[]]]), 5, "model: expected str, found bytes"),
        (pack([VERSION, REQUEST, 0, 5]), 5, "model: expected a name, found none"),
        (pack([VERSION, REQUEST, 0, 5, "add"]), 5, "payload: expected array, found nil"),
        (pack([VERSION, REQUEST, 0, 5, "add", []]), 5, "payload: expected at least 1 elements, found 0"),
        (pack([VERSION, REQUEST, 0, 5, "add", [[["A", "INT32"]]]]), 5, "payload.tensors[0]: expected at least 3"),
        (pack([VERSION, REQUEST, 0, 5, "add", [[["A", "INT32", [0.5]]]]]), 5, "tensors[0].shape[0]: expected int"),
        (pack([VERSION, REQUEST, 0, 5, "add", [[["A", "INT32", [1]]]]]), 5, "expected 1 frames, one for each, found 0"),
        (pack([VERSION, REQUEST, 0, 5, "add", [[]], "", 0.5]), 5, "timeout_us: expected int, found float"),
        (
            pack([VERSION, REQUEST, 0, 5, "add", [[]], "", 0, 0, [None]]),
            5,
            "sequence.id: expected int or str, found nil",
        ),
        (pack([VERSION, REQUEST, 0, 5, "add", [[]], "", 0, 0, [5, 1]]), 5, "sequence.start: expected bool, found int"),
        (pack([VERSION, REQUEST, 0, 5, "add", [[]], "", 0, 0, None, 5]), 5, "trace: expected str, found int"),
        (pack([VERSION, REQUEST, 0, 5, "add", [[], {}, [], "tensors", "gif"]]), 5, "payload.picture: expected"),
        (pack([VERSION, REQUEST, 0, 5, "add", [[]]])[:-2], 0, "REQUEST: expected one whole MessagePack array"),
        (pack([VERSION, REQUEST, 0, 5, "add", [[]]]) + b"!", 0, "REQUEST: expected one whole MessagePack array"),
        (pack([VERSION, 3, 0, 5]), 0, "ids: expected array, found int"),
        (pack([VERSION, 3, 0, ["x"]]), 0, "ids[0]: expected int, found str"),
        (pack([VERSION, 4, 0, "x"]), 0, "revision: expected int, found str"),
    ],
)
def test_what_cannot_be_read_is_answered_with_field_expected_and_found(
    client: WireClient, frame: bytes, id: int, error: str
) -> None:
    client.send(frame)
    found = client.next_answer()
    assert (found.id, found.code, found.final) == (id, "INVALID_REQUEST", True)
    assert error in found.error
    client.ping()
    assert client.answers == []


def test_what_cannot_be_read_does_not_end_an_open_request_of_its_id(client: WireClient) -> None:
    picture = Tensor("", "UINT8", (1, 1, 3), b"abc")
    number = client.request("mean", picture, payload=({"sleep_s": 0.3},))
    client.send(pack([VERSION, REQUEST, 0, number, 7]))
    assert [client.next_answer().id, client.next_answer().id] == [0, number]


def test_a_req_socket_is_told_that_it_does_not_work(stack: Stack) -> None:
    context: zmq.Context[Any] = zmq.Context()
    try:
        socket = context.socket(zmq.REQ)
        socket.set(zmq.RCVTIMEO, 5_000)
        socket.connect(stack.zmq_endpoint)
        socket.send(pack([VERSION, 4, 0, 0]))
        header = unpack(socket.recv())
        assert header[:5] == [1, 2, 0, 0, "INVALID_REQUEST"]
        assert "use a DEALER" in header[5]
    finally:
        context.destroy(linger=0)


def test_a_restarted_bridge_has_another_epoch_and_open_requests_may_be_sent_again(
    stack: Stack, client: WireClient
) -> None:
    before = client.ping()
    picture = Tensor("", "UINT8", (1, 1, 3), b"abc")
    number, frames = client.envelope("mean", picture, payload=({"sleep_s": 1.5},))
    client.send(*frames)
    client.step("sums", ["over", True], one(1))
    time.sleep(0.2)
    old = stack.kill("bridge_zmq")
    stack.wait_back("bridge_zmq", old)
    until = time.monotonic() + 10.0
    client.socket.set(zmq.RCVTIMEO, 200)
    while client.epoch == before:
        assert time.monotonic() < until
        try:
            client.ping()
        except zmq.Again:
            continue
    client.socket.set(zmq.RCVTIMEO, 10_000)
    client.answers.clear()
    client.send(*frames, *frames)
    assert [a.code for a in client.wait(number)] == [""]
    client.learn()
    assert client.wait(client.step("sums", ["over"], one(1)))[0].code == "SEQUENCE_UNKNOWN"


def test_a_restarted_batch_manager_is_not_noticed(stack: Stack, client: WireClient) -> None:
    before = client.ping()
    client.ask("scale", row(1, 2, 3, 4))
    old = stack.kill("batch_manager", signal.SIGKILL)
    ids = [client.request("scale", row(at, 0, 0, 0)) for at in range(20)]
    for at, number in enumerate(ids):
        (answer,) = client.wait(number)
        assert answer.code == "", answer.error
        assert answer.tensors["SUM"].array().item() == at
    stack.wait_back("batch_manager", old)
    assert client.ping() == before


def test_numbers_and_texts_of_every_length_are_packed_and_unpacked() -> None:
    numbers = [sign * (2**bits + more) for bits in range(63) for sign in (1, -1) for more in (-1, 0, 1)]
    texts: list[Any] = ["x" * size for size in (0, 31, 32, 255, 256, 65_535, 65_536)]
    lists: list[Any] = [[None] * size for size in (0, 15, 16, 65_535, 65_536)]
    maps = [{str(at): True for at in range(size)} for size in (0, 15, 16, 65_536)]
    for value in [*numbers, 2**64 - 1, -(2**63), 0.1, True, False, None, *texts, *lists, *maps]:
        assert unpack(pack(value)) == value
    assert unpack(b"\xca" + struct.pack(">f", 0.5)) == 0.5
