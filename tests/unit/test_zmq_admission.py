"""What ZeroMQ clients may send."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.zmq.admission import MAX_KEPT_BYTES, Admission
from bridges.zmq.clients import Clients
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError, InvalidRequest, PayloadTooLarge
from tests.unit.pictures import bomb, encoded

LIMITS = LimitSettings(body_mib=1.0)
JPEG = encoded("JPEG", 64, 48)


def request(*tensors: m.Tensor, **fields: Any) -> m.Request:
    payload = fields.pop("payload", None) or m.Payload(list(tensors), {"k": 1}, ["o"])
    fields = {"request_id": "mine"} | fields
    return m.Request(id=9, model="m", payload=wire.encode_payload(payload), **fields)


def admit(sent: m.Request, frames: Sequence[bytes]) -> m.Request:
    """By a bridge that has seen nothing before."""
    return Admission(LIMITS).admit(sent, frames)[0]


def test_what_bridges_fill_in_is_filled_in_anew() -> None:
    places = wire.encode_payload(m.Places([m.Slot("s", 0, 8)]))
    sent = request(
        m.Tensor("a", "FP32", (3, 2)), rows=99, key="lie", size=1, flags=3, request_id="mine", data=b"lie",
        places=places, priority=5, timeout_us=7, trace="t", model_version="2", sequence=m.Sequence(4),
    )  # fmt: skip
    found = admit(sent, [b"x" * 24])
    assert (found.rows, found.key, found.size, found.flags) == (3, "a:FP32:2", 24, 0)
    assert (found.request_id, found.data, found.places) == ("mine", b"x" * 24, m.NO_PAYLOAD)
    assert (found.model, found.priority, found.timeout_us, found.trace) == ("m", 5, 7, "t")
    assert (found.model_version, found.sequence) == ("2", m.Sequence(4))
    expected = m.Payload([m.Tensor("a", "FP32", (3, 2), 24)], {"k": 1}, ["o"])
    assert wire.decode_payload(found.payload) == expected


@pytest.mark.parametrize("lie", ["", "zmq-00000000:00"])
def test_the_client_of_a_sequence_is_who_the_bridge_says(lie: str) -> None:
    sent = request(m.Tensor("a", "INT8", (1,)), sequence=m.Sequence("cam", True, client=lie))
    found, _ = Admission(LIMITS).admit(sent, [b"x"], "zmq-1:ab")
    assert found.sequence == m.Sequence("cam", True, client="zmq-1:ab")


def test_a_request_without_tensors_may_only_end_a_sequence() -> None:
    admission, bare = Admission(LIMITS), m.Payload([])
    stateless, stateful = (m.ModelView(m.ModelSpec(name="m", stateless=flag)) for flag in (True, False))
    ends = request(payload=bare, sequence=m.Sequence(5, end=True))
    for view in (None, stateful):
        found, frames = admission.admit(ends, [], "c", view)
        assert (wire.decode_payload(found.payload), found.size, list(frames)) == (bare, 0, [])
    for step in (None, m.Sequence(5), m.Sequence(5, True)):
        with pytest.raises(InvalidRequest, match="inputs: expected at least one, found none"):
            admission.admit(request(payload=bare, sequence=step), [], "c", stateful)
    with pytest.raises(InvalidRequest, match="model 'm' is stateless, it has no sequences"):
        admission.admit(ends, [], "c", stateless)


def test_small_tensors_go_on_inline_and_large_ones_in_their_frames() -> None:
    small, large = m.Tensor("a", "INT8", (2,)), m.Tensor("b", "INT8", (5_000,))
    frames = [b"ab", b"x" * 5_000]
    found, left = Admission(LIMITS).admit(request(small, large), frames)
    assert (found.data, left[0] is frames[1], len(left)) == (b"ab", True, 1)
    assert [t.inline for t in wire.decode_payload(found.payload).tensors] == [2, None]


def test_request_without_an_id_for_logs_gets_one_of_its_own() -> None:
    admission = Admission(LIMITS)
    sent = request(m.Tensor("a", "INT8", (1,)), request_id="")
    first, second = (admission.admit(sent, [b"x"])[0].request_id for _ in range(2))
    assert first
    assert second
    assert first != second


def test_the_clients_id_is_kept_each_time_and_an_unusable_one_replaced() -> None:
    admission = Admission(LIMITS)
    for name in ("mine", "mine", "other", "mine"):
        sent = request(m.Tensor("a", "INT8", (1,)), request_id=name)
        assert admission.admit(sent, [b"x"])[0].request_id == name
    unusable = admission.admit(request(m.Tensor("a", "INT8", (1,)), request_id="no\nline"), [b"x"])[0]
    assert unusable.request_id not in ("", "no\nline", "mine")


wishes = st.builds(
    m.Payload,
    st.lists(
        st.builds(
            m.Tensor,
            st.sampled_from(["a", "b", ""]),
            st.sampled_from(["INT8", "FP32", "BYTES", "FLOAT"]),
            st.sampled_from([(), (0,), (1,), (4,), (2, 3), (5_000,), (-1,)]),
        ),
        max_size=3,
    ),
    st.dictionaries(
        st.sampled_from("pq"), st.integers(-(2**63), 2**64 - 1) | st.lists(st.text(max_size=3), max_size=2), max_size=2
    ),
    st.lists(st.sampled_from("xy"), max_size=2),
    st.sampled_from(["tensors", "prediction"]),
    st.sampled_from(["", "png"]),
)


def size_of(tensor: m.Tensor) -> int:
    """Bytes that fit its description, if any do."""
    return abs(math.prod(tensor.shape)) * (4 if tensor.datatype == "FP32" else 1)


def outcome(
    admission: Admission, sent: m.Request, frames: Sequence[bytes]
) -> tuple[Any, list[bytes]] | tuple[Any, str]:
    """What was admitted apart from the id made up for logs, or the error."""
    try:
        found, left = admission.admit(sent, frames)
    except InferoxyError as exc:
        return type(exc), exc.message
    found.request_id = ""
    return found, list(left)


@given(payload=wishes, seed=st.integers(0, 255), other=st.sampled_from([0, 0, 0, 1]))
def test_a_request_is_admitted_as_if_nothing_had_come_before(payload: m.Payload, seed: int, other: int) -> None:
    raw = wire.encode_payload(payload)
    seen, sizes = Admission(LIMITS), [size_of(tensor) for tensor in payload.tensors]
    before = m.Request(id=1, model="m", payload=raw)
    outcome(seen, before, [bytes(size) for size in sizes])
    again = m.Request(id=2, model="n", payload=raw, model_version="2", timeout_us=5, priority=1, trace="t")
    frames = [bytes([seed]) * (size + other) for size in sizes]
    assert outcome(seen, again, frames) == outcome(Admission(LIMITS), again, frames)


@pytest.mark.parametrize("size", [7, 9, 0])
def test_a_known_description_with_other_bytes_than_it_says_is_refused(size: int) -> None:
    admission = Admission(LIMITS)
    sent = request(payload=m.Payload([m.Tensor("a", "FP32", (2,))]))
    admission.admit(sent, [b"x" * 8])
    with pytest.raises(InvalidRequest, match="expected 8 bytes for FP32"):
        admission.admit(sent, [b"x" * size])
    with pytest.raises(InvalidRequest, match="one for each"):
        admission.admit(sent, [])
    with pytest.raises(InvalidRequest, match="one for each"):
        admission.admit(sent, [b"x" * 8, b""])


def test_options_of_a_known_description_are_checked_each_time() -> None:
    admission = Admission(LIMITS)
    payload = m.Payload([m.Tensor("a", "FP32", (2,))])
    admission.admit(request(payload=payload), [b"x" * 8])
    for fields in ({"timeout_us": -1}, {"priority": 10**9}, {"sequence": m.Sequence("")}, {"trace": "t" * 999}):
        with pytest.raises(InvalidRequest):
            admission.admit(request(payload=payload, **fields), [b"x" * 8])


def test_a_picture_is_examined_each_time() -> None:
    admission = Admission(LIMITS)
    sent = request(payload=m.Payload([m.Tensor("", "UINT8", (), encoding="jpeg")]))
    turned = encoded("JPEG", 48, 64).ljust(len(JPEG), b"\0")
    same_size = JPEG.ljust(len(turned), b"\0")
    for data, shape in ((same_size, (48, 64, 3)), (turned, (64, 48, 3)), (same_size, (48, 64, 3))):
        found, _ = admission.admit(sent, [data])
        assert wire.decode_payload(found.payload).tensors[0].shape == shape
    with pytest.raises(InvalidRequest, match="found bytes that begin with"):
        admission.admit(sent, [b"x" * len(same_size)])


def test_a_large_description_is_admitted_like_a_small_one() -> None:
    admission = Admission(LIMITS)
    sent = request(payload=m.Payload([m.Tensor("a", "INT8", (1,))], {"k": "v" * MAX_KEPT_BYTES}))
    for data in (b"a", b"b"):
        assert admission.admit(sent, [data])[0].data == data


@pytest.mark.parametrize("shape", [(), (48, 64, 3), (64, 48, 3)])
def test_encoded_picture_gets_the_shape_that_its_header_says(shape: tuple[int, ...]) -> None:
    found = admit(request(m.Tensor("", "UINT8", shape, encoding="jpeg")), [JPEG])
    assert wire.decode_payload(found.payload).tensors == [m.Tensor("", "UINT8", (48, 64, 3), len(JPEG), "jpeg")]


@pytest.mark.parametrize(
    ("tensor", "frame", "message"),
    [
        (m.Tensor("a", "FP32", (2,)), b"x" * 7, "expected 8 bytes for FP32"),
        (m.Tensor("a", "FP32", (-2,)), b"", "negative dimension"),
        (m.Tensor("a", "FLOAT", (2,)), b"x" * 8, "datatype"),
        (m.Tensor("a", "FP32", (2,), 8), b"x" * 8, "expected nil as its fourth element, found 8"),
        (m.Tensor("n" * 300, "FP32", (2,)), b"x" * 8, "at most 256 characters"),
        (m.Tensor("", "UINT8", (), encoding="gif"), b"GIF89a", "encoding of jpeg, png, webp or none, found 'gif'"),
        (m.Tensor("", "UINT8", (), encoding="png"), JPEG, "expected png as declared, found jpeg"),
        (m.Tensor("", "UINT8", (5, 5, 3), encoding="jpeg"), JPEG, r"expected \[5, 5, 3\] as declared"),
        (m.Tensor("", "UINT8", (), encoding="jpeg"), b"", "found none"),
        (m.Tensor("", "UINT8", (), encoding="jpeg"), b"hello", "found bytes that begin with"),
    ],
)
def test_tensor_that_is_not_what_it_says_is_refused(tensor: m.Tensor, frame: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        admit(request(tensor), [frame])


def test_bomb_is_refused() -> None:
    with pytest.raises(PayloadTooLarge):
        admit(request(m.Tensor("", "UINT8", (), encoding="png")), [bomb()])


def test_tensors_over_the_limit_are_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="expected at most 1048576 bytes, found 1048577"):
        admit(request(m.Tensor("a", "UINT8", (2**20 + 1,))), [b"x" * (2**20 + 1)])


@pytest.mark.parametrize("frames", [[], [b"x" * 8, b"y"]])
def test_every_tensor_has_its_frame_and_every_frame_its_tensor(frames: list[bytes]) -> None:
    with pytest.raises(InvalidRequest, match="one for each"):
        admit(request(m.Tensor("a", "FP32", (2,))), frames)


def test_options_out_of_range_are_refused() -> None:
    for fields in ({"timeout_us": -1}, {"priority": 10**9}, {"sequence": m.Sequence("")}, {"trace": "t" * 999}):
        with pytest.raises(InvalidRequest):
            admit(request(m.Tensor("a", "FP32", (2,)), **fields), [b"x" * 8])


@given(payload=st.binary(max_size=60), frames=st.lists(st.binary(max_size=8), max_size=2))
def test_arbitrary_payloads_raise_only_our_errors(payload: bytes, frames: list[bytes]) -> None:
    try:
        admit(m.Request(id=1, model="m", payload=msgspec.Raw(payload)), frames)
    except InferoxyError:
        pass


def test_ids_of_clients_do_not_meet() -> None:
    clients = Clients()
    clients.open(b"a", 1, 10)
    clients.open(b"b", 1, 20)
    assert clients.close(b"a", 1) == 10
    assert not clients.is_open(b"a", 1)
    assert clients.is_open(b"b", 1)
    assert clients.close(b"a", 1) is None


def test_client_that_is_gone_gives_up_all_it_had() -> None:
    clients = Clients()
    for number in range(3):
        clients.open(b"a", number, number + 10)
    assert sorted(clients.forget(b"a")) == [10, 11, 12]
    assert clients.forget(b"a") == []
