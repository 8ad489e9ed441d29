"""What ZeroMQ allows in Python: a bare echo, every part in a process of its own.

    two hops     client DEALER -> ROUTER, broker, ROUTER -> DEALER, worker -> and back
    three hops   client DEALER -> ROUTER, bridge, DEALER -> ROUTER, broker, ROUTER -> DEALER, worker -> and back

The second is the path that a request takes through us. The worker answers as the wire protocol says success, so that
the same load generator asks it as asks the bridge; that is three slices of bytes, and nothing is decoded. One message
for each request and answer, as ZeroMQ is mostly used. All processes end at the end of their standard input.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import zmq

from inferoxy import sockets

_WORKER = b"worker"
_PING = 4
_PONG = b"\x94\x01\x05\x00\x01"
_SUCCESS = b"\xa0\xa0\xc3"  # code "", error "", final true


@contextmanager
def running(folder: Path, *, hops: int = 2) -> Iterator[str]:
    """The endpoint of an echo, while the context lasts.

    Args:
        folder: For the sockets between its parts.
        hops: 2 or 3.
    """
    back, front = (f"ipc://{folder}/echo-{hops}-{name}.sock" for name in ("back", "front"))
    any_port = "tcp://127.0.0.1:0"
    with ExitStack() as parts:
        told = parts.enter_context(_part("broker", front if hops == 3 else any_port, back))
        parts.enter_context(_part("worker", back))
        yield parts.enter_context(_part("bridge", any_port, front)) if hops == 3 else told


@contextmanager
def _part(role: str, *endpoints: str) -> Iterator[str]:
    """What the process prints first, while the context lasts."""
    command = [sys.executable, "-m", "inferoxy.bench.suite.echo", role, *endpoints]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip() if process.stdout else ""
        process.communicate()


def broker(front: str, back: str) -> None:
    """Pass messages between clients, or a bridge, and the worker."""
    context = sockets.context()
    clients, behind = sockets.router(context, front), sockets.router(context, back)
    _pass(clients, behind, [_WORKER], 1)
    context.destroy(linger=0)


def bridge(front: str, back: str) -> None:
    """Pass messages between clients and the broker."""
    context = sockets.context()
    clients, behind = sockets.router(context, front), sockets.dealer(context, back)
    _pass(clients, behind, [], 0)
    context.destroy(linger=0)


def _pass(clients: "zmq.Socket[bytes]", behind: "zmq.Socket[bytes]", added: list[bytes], taken: int) -> None:
    """Add so many frames on the way there, take them off on the way back."""
    print(sockets.bound_endpoint(clients), flush=True)
    poller = _poller(clients, behind)
    while True:
        ready = dict(poller.poll())
        if sys.stdin.fileno() in ready:
            return
        if clients in ready:
            for parts in _all(clients):
                behind.send_multipart([*added, *parts], zmq.DONTWAIT)
        if behind in ready:
            for parts in _all(behind):
                clients.send_multipart(parts[taken:], zmq.DONTWAIT)


def worker(back: str) -> None:
    """Answer."""
    context = sockets.context()
    sock = sockets.dealer(context, back, _WORKER)
    print(back, flush=True)
    poller = _poller(sock)
    while True:
        ready = dict(poller.poll())
        if sys.stdin.fileno() in ready:
            break
        for parts in _all(sock):
            at = 0
            while not parts[at][0]:  # the names that ROUTERs give begin with a zero byte, headers never do
                at += 1
            way, header, frames = parts[:at], parts[at], parts[at + 1 :]
            if header[2] == _PING:
                sock.send_multipart([*way, _PONG], zmq.DONTWAIT)
            else:  # behind array16, version and kind: the count of frames and the id, a uint32
                answer = b"\x97\x01\x02" + header[5:11] + _SUCCESS
                sock.send_multipart([*way, answer, *frames], zmq.DONTWAIT)
    context.destroy(linger=0)


def _poller(*found: "zmq.Socket[bytes]") -> zmq.Poller:
    poller = zmq.Poller()
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    for sock in found:
        poller.register(sock, zmq.POLLIN)
    return poller


def _all(sock: "zmq.Socket[bytes]") -> Iterator[list[Any]]:
    """What is there to be read."""
    while True:
        try:
            yield sock.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return


if __name__ == "__main__":
    role, *endpoints = sys.argv[1:]
    if role == "worker":
        worker(*endpoints)
    else:
        (broker if role == "broker" else bridge)(*endpoints)
