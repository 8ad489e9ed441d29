"""Claims about the line that says where a stack is."""

import pytest

from inferoxy.config import Settings
from inferoxy.supervisor import ready_line


@pytest.mark.parametrize(
    ("rest", "grpc", "zmq", "admin", "line"),
    [
        (
            "127.0.0.1:1",
            "127.0.0.1:2",
            "tcp://127.0.0.1:3",
            "127.0.0.1:4",
            "ready: rest http://127.0.0.1:1 grpc 127.0.0.1:2 zmq tcp://127.0.0.1:3 admin http://127.0.0.1:4",
        ),
        ("0.0.0.0:1", ":2", "tcp://*:3", "", "ready: rest http://127.0.0.1:1 grpc 127.0.0.1:2 zmq tcp://127.0.0.1:3"),
        ("[::]:1", "host:2", "ipc:///a/b", "", "ready: rest http://[::1]:1 grpc host:2 zmq ipc:///a/b"),
        ("", "", "", "", "ready:"),
    ],
)
def test_the_ready_line_names_addresses_that_can_be_connected_to(
    rest: str, grpc: str, zmq: str, admin: str, line: str
) -> None:
    assert ready_line(Settings.model_construct(rest=rest, grpc=grpc, zmq=zmq, admin=admin)) == line
