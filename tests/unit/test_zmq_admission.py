"""What ZeroMQ clients may send."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.zmq.admission import admit
from bridges.zmq.clients import Clients
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError, InvalidRequest, PayloadTooLarge
from tests.unit.pictures import bomb, encoded

LIMITS = LimitSettings(body_mib=1.0)
JPEG = encoded("JPEG", 64, 48)


def request(*tensors: m.Tensor, **fields: Any) -> m.Request:
    payload = fields.pop("payload", None) or m.Payload(list(tensors), {"k": 1}, ["o"], "tensors", "", "mine")
    return m.Request(id=9, model="m", payload=wire.encode_payload(payload), **fields)


def test_what_bridges_fill_in_is_filled_in_anew() -> None:
    sent = request(m.Tensor("a", "FP32", (3, 2)), rows=99, key="lie", size=1, priority=5, timeout_us=7, trace="t")
    found = admit(sent, [b"x" * 24], LIMITS)
    assert (found.rows, found.key, found.size) == (3, "a:FP32:2", 24)
    assert (found.model, found.priority, found.timeout_us, found.trace) == ("m", 5, 7, "t")
    assert wire.decode_payload(found.payload) == wire.decode_payload(sent.payload)


def test_request_without_an_id_for_logs_gets_one() -> None:
    found = admit(request(payload=m.Payload([])), [], LIMITS)
    assert wire.decode_payload(found.payload).request_id


@pytest.mark.parametrize("shape", [(), (48, 64, 3), (64, 48, 3)])
def test_encoded_picture_gets_the_shape_that_its_header_says(shape: tuple[int, ...]) -> None:
    found = admit(request(m.Tensor("", "UINT8", shape, encoding="jpeg")), [JPEG], LIMITS)
    assert wire.decode_payload(found.payload).tensors == [m.Tensor("", "UINT8", (48, 64, 3), encoding="jpeg")]


@pytest.mark.parametrize(
    ("tensor", "frame", "message"),
    [
        (m.Tensor("a", "FP32", (2,)), b"x" * 7, "expected 8 bytes for FP32"),
        (m.Tensor("a", "FP32", (-2,)), b"", "negative dimension"),
        (m.Tensor("a", "FLOAT", (2,)), b"x" * 8, "datatype"),
        (m.Tensor("a", "FP32", (2,), m.Slot("s", 0, 8)), b"x" * 8, "found a slot"),
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
        admit(request(tensor), [frame], LIMITS)


def test_bomb_is_refused() -> None:
    with pytest.raises(PayloadTooLarge):
        admit(request(m.Tensor("", "UINT8", (), encoding="png")), [bomb()], LIMITS)


def test_tensors_over_the_limit_are_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="expected at most 1048576 bytes, found 1048577"):
        admit(request(m.Tensor("a", "UINT8", (2**20 + 1,))), [b"x" * (2**20 + 1)], LIMITS)


@pytest.mark.parametrize("frames", [[], [b"x" * 8, b"y"]])
def test_every_tensor_has_its_frame_and_every_frame_its_tensor(frames: list[bytes]) -> None:
    with pytest.raises(InvalidRequest, match="one for each"):
        admit(request(m.Tensor("a", "FP32", (2,))), frames, LIMITS)


def test_options_out_of_range_are_refused() -> None:
    for fields in ({"timeout_us": -1}, {"priority": 10**9}, {"sequence": m.Sequence("")}, {"trace": "t" * 999}):
        with pytest.raises(InvalidRequest):
            admit(request(m.Tensor("a", "FP32", (2,)), **fields), [b"x" * 8], LIMITS)


@given(payload=st.binary(max_size=60), frames=st.lists(st.binary(max_size=8), max_size=2))
def test_arbitrary_payloads_raise_only_our_errors(payload: bytes, frames: list[bytes]) -> None:
    try:
        admit(m.Request(id=1, model="m", payload=msgspec.Raw(payload)), frames, LIMITS)
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
