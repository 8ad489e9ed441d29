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
    assert (payload.form, payload.parameters, request.request_id) == ("prediction", {"confidence": 0.5}, "frame-0001")


def test_documented_bare_end_is_read() -> None:
    ((request, tensors),) = wire.decode(frames_of("request-bare-end"))
    assert (request.id, request.model, list(tensors)) == (9, "tracker", [])
    assert request.sequence == m.Sequence("cam-1", end=True)
    assert wire.decode_payload(request.payload) == m.Payload([])
    ((response, _),) = wire.decode(frames_of("response-bare-end"))
    assert (response.id, response.code, response.final) == (9, "", True)
    assert wire.decode_result(response.payload) == m.ResultPayload([])
    assert response.served == m.Served(40, 210, 1, "idle", "tracker-1-0", "1", 0)


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
    payload = wire.encode_payload(m.Payload([], {"a": 1}, ["o"], "prediction", "png"))
    expected = bytes.fromhex("90 81a16101 91a16f aa") + b"prediction" + b"\xa3png"
    assert bytes(payload)[1:].startswith(expected)
    request = m.Request(
        id=1, model="m", payload=payload, model_version="2", timeout_us=3, priority=4,
        sequence=m.Sequence(5, True, False, "c"), trace="t", rows=6, key="k", size=8, flags=1, request_id="i",
        data=b"d",
        places=wire.encode_payload(m.Places([None, m.Slot("s", 2, 3)], m.Slot("r", 4, 5))),
    )  # fmt: skip
    literal = (
        "010100 01 a16d" + bytes(payload).hex() + "a132 03 04 9405c3c2a163 a174 a169"  # between clients and bridges
        "06 a16b 08 01 c40164 92 92c093a1730203 93a1720405"  # between our own parts
    )
    assert body_of(request).startswith(bytes.fromhex(literal))


@pytest.mark.parametrize("example", ["response-tensors", "response-error", "response-bare-end"])
def test_an_answer_says_the_same_without_the_elements_that_clients_ignore(example: str) -> None:
    head = frames_of(example)[0]
    assert (head[:1], head[-4:]) == (b"\x9c", bytes.fromhex("00 c400 c0"))  # fate, data, places
    assert wire.decode_header(b"\x99" + head[1:-4]) == wire.decode_header(head)
    assert wire.decode_header(b"\x9d" + head[1:] + b"\xa3new") == wire.decode_header(head)


def test_every_field_of_a_response_stands_where_it_always_stood() -> None:
    places = wire.encode_payload(m.Places([m.Slot("s", 2, 3)]))
    response = m.Response(id=1, code="C", error="e", final=False, fate=2, data=b"d", places=places)
    literal = "010200 01 a143 a165 c2 c0 c0 02 c40164 92 9193a1730203 c0"
    assert body_of(response).startswith(bytes.fromhex(literal))


def test_joined_requests_and_responses_are_arrays_of_headers() -> None:
    request, response = m.Request(id=1, model="m", frames=1), m.Response(id=2)
    (head, frame) = wire.encode_joined(m.Requests, [request], [b"x"])
    assert (head, frame) == (bytes.fromhex("94010801 91") + wire.encode_body(request), b"x")
    (head,) = wire.encode_joined(m.Responses, [response, response], [])
    assert head == bytes.fromhex("94010900 92") + 2 * wire.encode_body(response)


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


def joined(*counts: int) -> m.Requests:
    """Requests that say that so many frames are theirs."""
    return m.Requests(items=[m.Request(id=at, frames=count) for at, count in enumerate(counts)])


@given(st.lists(st.lists(st.binary(max_size=3), max_size=3), max_size=6), st.booleans())
def test_what_was_joined_is_given_each_with_its_own_frames(own: list[list[bytes]], of_requests: bool) -> None:
    item, kind = (m.Request, m.Requests) if of_requests else (m.Response, m.Responses)
    items = [item(id=at, frames=len(frames)) for at, frames in enumerate(own)]
    ((header, frames),) = wire.decode(wire.encode_joined(kind, items, [f for mine in own for f in mine]))
    assert type(header) is kind
    assert [(found.id, list(mine)) for found, mine in wire.each(header, frames)] == list(enumerate(own))


@pytest.mark.parametrize("header", [m.Request(id=3), m.Response(id=3), m.Ping(), m.Cancel(ids=[1])])
def test_an_envelope_that_joins_nothing_is_given_as_it_is(header: m.Header) -> None:
    assert list(wire.each(header, [b"x", b"y"])) == [(header, [b"x", b"y"])]


@pytest.mark.parametrize("counts", [(1, 3), (1, -1, 1), (2, 2), (1 << 63,), (-1,)])
def test_items_that_count_more_frames_than_there_are_are_refused_behind_those_before(counts: tuple[int, ...]) -> None:
    items = wire.each(joined(*counts), [b"x", b"y"])
    for count in counts[:-1]:
        if count > 0:
            assert len(next(items)[1]) == count
    with pytest.raises(InvalidRequest, match="tensor frames"):
        list(items)


@pytest.mark.parametrize("counts", [(), (0,), (1,), (0, 1, 0)])
def test_items_that_count_fewer_frames_than_there_are_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="found 2"):
        list(wire.each(joined(*counts), [b"x", b"y"]))


@given(st.data())
def test_decode_of_damaged_joined_requests_raises_only_our_errors(data: st.DataObject) -> None:
    items = [m.Request(id=at, model="m", frames=at, data=b"ab", places=b"\xc0") for at in range(3)]  # type: ignore[arg-type]
    head, *frames = wire.encode_joined(m.Requests, items, [b"x"] * 3)
    damaged = bytearray(head)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        for header, behind in wire.decode([bytes(damaged), *frames]):
            for item, own in wire.each(header, behind):
                assert len(own) == item.frames
    except InferoxyError:
        pass


@given(st.lists(st.integers(0, 2 * wire.INLINE_BYTES), max_size=8))
def test_what_travels_inline_is_small_together(sizes: list[int]) -> None:
    found = wire.inline_sizes(sizes)
    inline = [size for size in found if size is not None]
    assert sum(inline) <= wire.INLINE_BYTES
    assert all(size == chosen for size, chosen in zip(sizes, found, strict=True) if chosen is not None)
    left = wire.INLINE_BYTES - sum(inline)
    assert all(size > left or not size for size, chosen in zip(sizes, found, strict=True) if chosen is None)


def inline_tensors(sizes: list[int | None]) -> list[m.Tensor]:
    return [m.Tensor("", "UINT8", (), size) for size in sizes]


@given(st.lists(st.tuples(st.binary(max_size=5), st.booleans()), max_size=6))
def test_bytes_are_spread_over_their_tensors(parts: list[tuple[bytes, bool]]) -> None:
    tensors = inline_tensors([len(part) if is_inline else None for part, is_inline in parts])
    data = b"".join(part for part, is_inline in parts if is_inline)
    frames = [part for part, is_inline in parts if not is_inline]
    assert [bytes(found) for found in wire.spread(tensors, data, frames)] == [part for part, _ in parts]


@pytest.mark.parametrize(
    ("sizes", "data", "frames"),
    [
        ([2], b"", []), ([2], b"a", []), ([2], b"abc", []), ([2], b"ab", [b"x"]), ([2], b"", [b"ab"]),
        ([None], b"a", []), ([None], b"", []), ([None], b"a", [b"x"]), ([None], b"", [b"x", b"y"]),
        ([0], b"", [b"x"]), ([], b"", [b"x"]), ([], b"a", []), ([2, None], b"", [b"ab", b"x"]),
        ([-1], b"", []), ([3, -1], b"ab", []), ([1 << 63], b"ab", []),
    ],
)  # fmt: skip
def test_other_bytes_than_the_tensors_say_are_refused(
    sizes: list[int | None], data: bytes, frames: list[bytes]
) -> None:
    with pytest.raises(InvalidRequest, match=r"^tensors: expected"):
        wire.spread(inline_tensors(sizes), data, frames)


@given(
    st.lists(st.none() | st.integers(-3, 4), max_size=4), st.binary(max_size=6), st.lists(st.just(b"frame"), max_size=4)
)
def test_spread_gives_what_the_tensors_say_or_raises_our_error(
    sizes: list[int | None], data: bytes, frames: list[bytes]
) -> None:
    try:
        found = wire.spread(inline_tensors(sizes), data, frames)
    except InvalidRequest:
        return
    expected = [len(b"frame") if size is None else size for size in sizes]
    assert [len(part) for part in found] == expected


def test_places_say_where_tensors_are() -> None:
    places = m.Places([m.Slot("s", 64, 8), None], m.Slot("r", 0, 4))
    assert wire.decode_places(wire.encode_payload(places)) == places
    assert wire.decode_places(m.NO_PAYLOAD) == m.Places()
    assert wire.decode_places(msgspec.Raw(b"\x91\x91\x93\xa1s\x40\x08")) == m.Places([m.Slot("s", 64, 8)])


@given(st.binary(max_size=20))
def test_malformed_places_raise_only_our_errors(raw: bytes) -> None:
    try:
        assert isinstance(wire.decode_places(msgspec.Raw(raw)), m.Places)
    except InvalidRequest:
        pass


def test_deeply_nested_payload_is_refused_not_fatal() -> None:
    bomb: Any = b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(InvalidRequest):
        wire.decode_header(b"\x96\x01\x01\x00\x01\xa1m" + bomb)
    with pytest.raises(InvalidRequest):
        wire.decode_payload(msgspec.Raw(b"\x92\x90\x81\xa1a" + bomb))
