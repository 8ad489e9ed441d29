"""Addresses of servers as users write them."""

import pytest

from inferoxy.client.address import parse
from inferoxy.errors import InvalidRequest


@pytest.mark.parametrize(
    ("url", "protocol", "target", "loopback"),
    [
        ("http://127.0.0.1:8698", "http", "http://127.0.0.1:8698", True),
        ("http://example.com", "http", "http://example.com", False),
        ("https://example.com:8443/vision/", "http", "https://example.com:8443/vision", False),
        ("grpc://localhost:50099", "grpc", "localhost:50099", True),
        ("  GRPC://[::1]:50051 ", "grpc", "[::1]:50051", True),
        ("tcp://10.0.0.7:7001", "zmq", "tcp://10.0.0.7:7001", False),
        ("ipc:///run/inferoxy/zmq.sock", "zmq", "ipc:///run/inferoxy/zmq.sock", True),
    ],
)
def test_every_form_names_its_protocol_and_target(url: str, protocol: str, target: str, loopback: bool) -> None:
    found = parse(url)
    assert (found.protocol, found.target, found.loopback) == (protocol, target, loopback)
    assert parse(found.url) == found


def test_grpc_and_zeromq_have_default_ports() -> None:
    assert parse("grpc://host").target == "host:50051"
    assert parse("tcp://host").target == "tcp://host:7789"


def test_an_address_without_a_scheme_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InvalidRequest, match=r"found '127\.0\.0\.1:8698': did you mean http://127\.0\.0\.1:8698\?"):
        parse("127.0.0.1:8698")


@pytest.mark.parametrize(
    "url",
    ["", "ws://host:1", "http://", "http://host:99999", "http://host:port", "tcp://*:0", "grpc://host:1/path",
     "http://host:1/?q=1", "ipc://", "http://user:secret@host:1"],
)  # fmt: skip
def test_anything_else_is_refused_with_the_known_forms(url: str) -> None:
    with pytest.raises(InvalidRequest, match="address: expected"):
        parse(url)
