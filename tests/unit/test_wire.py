"""The wire's literal bytes, and the examples of protos/wire.md."""

import re
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import InferoxyError, InvalidRequest, UnsupportedVersion

DOCUMENT = Path(__file__).parents[2] / "protos" / "wire.md"


def frames_of(example: str) -> list[bytes]:
    """The frames of a fenced example: hexadecimal before the comment, `-- next frame` between frames."""
    found = re.search(rf"```{example}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found, f"wire.md has no example {example}"
    frames = [b""]
    for line in found[1].splitlines():
        if line.startswith("-- next frame"):
            frames.append(b"")
            continue
        pairs = re.match(r"((?:[0-9a-f]{2} ?)*)(?:\s{2,}|$)", line)
        assert pairs, line
        frames[-1] += bytes.fromhex(pairs[1])
    return frames


def test_documented_tensor_request_is_read_with_defaults_for_what_it_leaves_out() -> None:
    ((request, tensors),) = wire.decode(frames_of("request-tensors"))
    assert (request.id, request.model, request.model_version, request.timeout_us) == (7, "scale", "", 0)
    payload = wire.decode_payload(request.payload)
    assert payload == m.Payload([m.Tensor("INPUT0", "FP32", (1, 2))], {"threshold": 0.5})
    assert struct.unpack("<2f", tensors[0]) == (1.0, 2.0)


def test_documented_tensor_response_is_read() -> None:
    ((response, tensors),) = wire.decode(frames_of("response-tensors"))
    assert (response.id, response.code, response.final) == (7, "", True)
    assert response.served == m.Served(120, 850, 1, "idle", "scale-1-0", "1", 0)
    assert wire.decode_result(response.payload) == m.ResultPayload([m.Tensor("OUTPUT0", "FP32", (1, 2))])
    assert struct.unpack("<2f", tensors[0]) == (2.0, 4.0)


def test_documented_picture_request_is_read() -> None:
    (header,) = frames_of("request-picture")
    ((request, tensors),) = wire.decode([header, b"\xff\xd8\xff"])
    assert (request.id, request.model, request.timeout_us, len(tensors)) == (8, "detector", 2_000_000, 1)
    payload = wire.decode_payload(request.payload)
    assert payload.tensors == [m.Tensor("", "UINT8", (), encoding="jpeg")]
    assert (payload.form, payload.parameters, payload.request_id) == ("prediction", {"confidence": 0.5}, "frame-0001")


@pytest.mark.parametrize(
    ("example", "header"),
    [
        (
            "response-error",
            m.Response(id=8, code="MODEL_NOT_FOUND", error="Request for unknown model: 'detector' is not found"),
        ),
        ("ping", m.Ping()),
        ("pong", m.Pong(epoch=77)),
        ("cancel", m.Cancel(ids=[7, 8])),
    ],
)
def test_documented_header_is_what_it_says(example: str, header: m.Header) -> None:
    (frame,) = frames_of(example)
    assert wire.decode_header(frame) == header


def body_of(header: m.Header, *frames: bytes) -> bytes:
    """Our encoding, without the array's length: later versions of us may append fields."""
    head = wire.encode(header, frames)[0]
    assert head[0] & 0xF0 == 0x90 or head[0] == 0xDC
    return head[1:] if head[0] != 0xDC else head[3:]


def test_our_encoding_begins_with_the_documented_bytes() -> None:
    result = m.ResultPayload([m.Tensor("OUTPUT0", "FP32", (1, 2))])
    served = m.Served(120, 850, 1, "idle", "scale-1-0", "1", 0)
    response = m.Response(id=7, payload=wire.encode_payload(result), served=served)
    assert body_of(response, bytes(8)).startswith(frames_of("response-tensors")[0][1:])
    error = m.Response(id=8, code="MODEL_NOT_FOUND", error="Request for unknown model: 'detector' is not found")
    assert body_of(error).startswith(frames_of("response-error")[0][1:])
    assert body_of(m.Ping()).startswith(frames_of("ping")[0][1:])
    assert body_of(m.Pong(epoch=77)).startswith(frames_of("pong")[0][1:])
    assert body_of(m.Cancel(ids=[7, 8])).startswith(frames_of("cancel")[0][1:])


def test_every_field_of_a_request_stands_where_it_always_stood() -> None:
    payload = wire.encode_payload(m.Payload([], {"a": 1}, ["o"], "prediction", "png", "r"))
    expected = bytes.fromhex("90 81a16101 91a16f aa") + b"prediction" + b"\xa3png\xa1r"
    assert bytes(payload)[1:].startswith(expected)
    request = m.Request(
        id=1, model="m", payload=payload, model_version="2", timeout_us=3, priority=4,
        sequence=m.Sequence(5, True, False), trace="t", rows=6, key="k", size=8,
    )  # fmt: skip
    literal = "010100 01 a16d" + bytes(payload).hex() + "a132 03 04 9305c3c2 a174 06 a16b 08"
    assert body_of(request).startswith(bytes.fromhex(literal))


def test_header_of_more_than_15_elements_begins_with_array16() -> None:
    grown = bytes.fromhex("dc0012 01 05 00 03") + b"\xc0" * 14
    assert wire.decode_header(grown) == m.Pong(epoch=3)


def test_unknown_trailing_fields_are_ignored() -> None:
    assert wire.decode_header(bytes.fromhex("9601050003a178c0")) == m.Pong(epoch=3)


@pytest.mark.parametrize("head", ["94020400 00", "dc0004020400 00", "94cc800400"])
def test_other_protocol_version_is_told_apart(head: str) -> None:
    with pytest.raises(UnsupportedVersion, match="expected protocol version 1"):
        wire.decode_header(bytes.fromhex(head))


@pytest.mark.parametrize(
    "head", ["", "c0", "93", "9301", "80", "9301ff00", "93017f00", "94010400a161", "dd00000004010400"]
)
def test_what_is_no_header_is_refused(head: str) -> None:
    with pytest.raises(InvalidRequest):
        wire.decode_header(bytes.fromhex(head))


def test_envelopes_before_a_broken_one_are_given() -> None:
    message = [*wire.encode(m.Ping(revision=1)), *wire.encode(m.Ping(revision=2), [b"x"]), b"\xc0"]
    envelopes = wire.decode(message)
    assert next(envelopes)[0].revision == 1
    assert next(envelopes)[1] == [b"x"]
    with pytest.raises(InvalidRequest):
        next(envelopes)


@pytest.mark.parametrize("count", [1, -1, 1000])
def test_header_that_counts_other_frames_than_there_are_is_refused(count: int) -> None:
    lying = b"\x94\x01\x05" + wire.encode_body(count) + b"\x00"
    with pytest.raises(InvalidRequest, match="tensor frames"):
        list(wire.decode([lying]))


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_decode_raises_only_our_errors_whatever_came(frames: list[bytes]) -> None:
    try:
        for header, _ in wire.decode(frames):
            assert isinstance(header, m.Header)
    except InferoxyError:
        pass


@given(st.data())
def test_decode_of_a_damaged_request_raises_only_our_errors(data: st.DataObject) -> None:
    (header, _) = frames_of("request-tensors")
    damaged = bytearray(header)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        for found, _ in wire.decode([bytes(damaged), b"\0" * 8]):
            if isinstance(found, m.Request):
                wire.decode_payload(found.payload)
    except InferoxyError:
        pass


def test_deeply_nested_payload_is_refused_not_fatal() -> None:
    bomb: Any = b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(InvalidRequest):
        wire.decode_header(b"\x96\x01\x01\x00\x01\xa1m" + bomb)
    with pytest.raises(InvalidRequest):
        wire.decode_payload(msgspec.Raw(b"\x92\x90\x81\xa1a" + bomb))
