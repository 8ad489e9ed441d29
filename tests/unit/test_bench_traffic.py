"""The bytes that are sent, and what answers mean."""

from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import pytest

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.bench import traffic
from inferoxy.bench.http_load import read_reply, request_bytes
from inferoxy.bench.plan import Plan, parse_tensor, synthesize
from inferoxy.bench.samples import PER_SECOND, Samples, Stride
from inferoxy.bench.zmq_load import join, split_request
from inferoxy.client.http_protocol import HttpExchange, HttpReply
from inferoxy.client.results import InferResult, Prediction, Served
from inferoxy.client.zmq_session import Part
from inferoxy.errors import InvalidRequest, ModelError
from inferoxy.messages import Tensor

TENSOR = "INPUT0:FP32:1x4"
SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "detector" / "sample.jpg"


def only_question(url: str, **fields: object) -> traffic.Question:
    (question,) = traffic.questions(Plan(url=url, model="m", **fields))  # type: ignore[arg-type]
    return question


def test_a_tensor_travels_over_http_as_v2_with_binary_data() -> None:
    sent = only_question("http://h:1", tensors=[TENSOR]).exchange()
    values = synthesize(parse_tensor(TENSOR), 0).tobytes()
    assert (sent.method, sent.path) == ("POST", "/v2/models/m/infer")
    head = msgspec.json.decode(sent.body[: -len(values)])
    assert head["inputs"] == [
        {"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}
    ]
    assert sent.body.endswith(values)


def test_http_bytes_are_one_request_without_empty_headers() -> None:
    exchange = HttpExchange("POST", "/v2/x", 1.0, {"content-type": "text/plain", "x-request-id": ""}, b"body")
    assert request_bytes(exchange, "h:1", "/base/") == (
        b"POST /base/v2/x HTTP/1.1\r\nhost: h:1\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nbody"
    )


def test_a_kept_http_answer_is_read_with_its_headers() -> None:
    data = b"HTTP/1.1 429 Too Many\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
    assert read_reply(data) == HttpReply(429, {"x-a": "1", "transfer-encoding": "chunked"}, b"abcd")


def test_a_picture_goes_to_predict_or_as_v2_text_of_bytes() -> None:
    picture = SAMPLE.read_bytes()
    plain = only_question("http://h:1", pictures=[str(SAMPLE)]).exchange()
    assert (plain.path, plain.body) == ("/v1/models/m/predict", picture)
    wrapped = only_question("http://h:1", pictures=[str(SAMPLE)], form="v2").exchange()
    assert wrapped.path == "/v2/models/m/infer"
    assert wrapped.body.endswith(len(picture).to_bytes(4, "little") + picture)


def test_grpc_requests_hold_the_same_tensor() -> None:
    sent = only_question("grpc://h:1", tensors=[TENSOR]).exchange()
    assert sent.method == "ModelInfer"
    assert sent.request.raw_input_contents[0] == synthesize(parse_tensor(TENSOR), 0).tobytes()


def test_the_id_is_put_into_a_zmq_header_without_encoding_it_again() -> None:
    ask = only_question("tcp://h:1", tensors=[TENSOR]).exchange()
    before, behind, frames = split_request(ask)
    header = wire.decode_header(before + b"\xce\x00\x00\x00\x07" + behind)
    assert isinstance(header, m.Request)
    assert (header.id, header.model, header.frames) == (7, "m", 1)
    assert wire.decode_payload(header.payload).tensors == [Tensor("INPUT0", "FP32", (1, 4))]
    assert bytes(frames[0]) == synthesize(parse_tensor(TENSOR), 0).tobytes()


def test_joined_messages_hold_every_envelope_and_not_too_many_frames() -> None:
    envelopes = [[b"h%d" % number, b"t"] for number in range(300)]
    messages = join(envelopes)
    assert list(chain(*messages)) == list(chain(*envelopes))
    assert max(map(len, messages)) <= 256


def test_a_zmq_answer_is_read_with_how_it_was_served() -> None:
    question = only_question("tcp://h:1", tensors=[TENSOR])
    payload = wire.encode_payload(m.ResultPayload([Tensor("Y", "FP32", (1,))]))
    response = m.Response(id=1, payload=payload, served=m.Served(queue_us=1_500, compute_us=40, batch_size=3))
    answer = question.read([Part(response, [np.float32(2.5).tobytes()])])
    assert traffic.content_of(answer)["Y"] == np.float32([2.5])
    assert (answer.served.queue_ms, answer.served.batch_size) == (1.5, 3)
    assert traffic.unexpected(answer, {"Y": [2.5]}) == ""
    assert traffic.unexpected(answer, {"Y": [2.6]}) == "output 'Y': expected [2.6] …, found [2.5] …"
    assert "expected 1 values, found none" in traffic.unexpected(answer, {"Z": [1.0]})


def test_a_v2_body_of_the_users_is_sent_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"inputs": []}')
    question = only_question("http://h:1", body=str(file), version="2")
    sent = question.exchange()
    assert (sent.path, sent.body) == ("/v2/models/m/versions/2/infer", b'{"inputs": []}')
    answer = question.read(HttpReply(200, {"x-inferoxy-batch-size": "2"}, b'{"outputs": [{"name": "Y"}]}'))
    assert traffic.content_of(answer) == {"outputs": [{"name": "Y"}]}
    assert answer.served.batch_size == 2
    with pytest.raises(ModelError, match="no"):
        question.read(HttpReply(500, {}, b'{"code": "MODEL_ERROR", "error": "no"}'))
    file.write_text("{")
    with pytest.raises(InvalidRequest, match=r"expected JSON in .*body.json"):
        only_question("http://h:1", body=str(file))


@pytest.mark.parametrize(
    ("url", "fields", "why"),
    [
        ("tcp://h:1", {"tensors": [TENSOR], "form": "v2"}, "v2 is spoken over http"),
        ("grpc://h:1", {"body": "x.json"}, "sent over http"),
        ("http://h:1", {}, "nothing to send"),
    ],
)
def test_what_a_protocol_cannot_carry_is_refused(url: str, fields: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        only_question(url, **fields)


def test_contents_are_alike_within_rounding() -> None:
    one = {"boxes": [[1.0, 2.0]], "names": ["a"], "y": np.float32([1.0, 2.0])}
    assert traffic.alike(one, {"boxes": [[1.0001, 2.0]], "names": ["a"], "y": np.float32([1.0, 2.0001])})
    for other in (
        {"boxes": [[1.1, 2.0]], "names": ["a"], "y": np.float32([1.0, 2.0])},
        {"boxes": [[1.0, 2.0]], "names": ["b"], "y": np.float32([1.0, 2.0])},
        {"boxes": [], "names": ["a"], "y": np.float32([1.0, 2.0])},
        {"boxes": [[1.0, 2.0]], "names": ["a"], "y": np.float32([1.0, 3.0])},
        {"boxes": [[1.0, 2.0]], "names": ["a"], "y": np.int32([1, 2])},
        {"boxes": [[1.0, 2.0]], "names": ["a"]},
    ):
        assert not traffic.alike(one, other)
    assert traffic.content_of(Prediction(value={"a": 1})) == {"a": 1}
    assert list(traffic.content_of(InferResult({"a": np.zeros(1)}))) == ["a"]


def test_the_mean_batch_is_what_the_model_saw() -> None:
    samples, half = Samples(), Samples()
    for size in (1, 1, *[8] * 8):  # two batches of one, and one of eight
        samples.take(Served(queue_ms=1.0, batch_size=size))
    assert samples.mean_batch == pytest.approx(10 / 3)
    half.merge(Samples.from_dict(samples.to_dict()))
    assert (half.mean_batch, half.count) == (samples.mean_batch, 10)
    assert half.queue.mean_s == pytest.approx(0.001)
    half.take(Served())  # a server that does not say
    assert half.count == 10


def test_of_many_answers_an_odd_part_is_looked_at() -> None:
    stride = Stride()
    assert [stride.next() for _ in range(3)] == [True, True, True]
    stride.set_rate(20_000)
    taken = [number for number in range(1, 20_001) if stride.next()]
    assert len(taken) == pytest.approx(PER_SECOND, rel=0.05)
    assert (taken[1] - taken[0]) % 2 == 1
