"""PULL sockets."""

from pathlib import Path

import pytest
import zmq

from inferoxy import sockets


def test_what_is_pushed_is_pulled_and_a_taken_address_is_named(tmp_path: Path) -> None:
    context = sockets.context()
    try:
        bound = sockets.pull(context, "tcp://127.0.0.1:0", max_message_bytes=1_024, heartbeats=True)
        where = sockets.bound_endpoint(bound)
        small, large = context.socket(zmq.PUSH), context.socket(zmq.PUSH)
        for one in (small, large):
            one.connect(where)
        large.send(bytes(1_025))  # this one's connection ends
        small.send_multipart([b"a", b"b"])
        assert bound.poll(5_000)
        assert sockets.recv(bound) == [b"a", b"b"]
        assert not bound.poll(100)
        with pytest.raises(OSError, match=f"cannot listen on {where}: Address already in use"):
            sockets.pull(context, where)
        file = sockets.pull(context, f"ipc://{tmp_path}/new/pull.sock")
        assert (tmp_path / "new" / "pull.sock").is_socket()
        file.close(0)
    finally:
        context.destroy(linger=0)
