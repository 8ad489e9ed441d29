"""What ZeroMQ allows in Python: a bare echo over two hops, broker and worker in processes of their own.

    client DEALER -> ROUTER, broker, ROUTER -> DEALER, worker -> and back

The worker answers as the wire protocol says success, so that the same load generator asks it as asks the bridge; that
is three slices of bytes, and nothing is decoded. One message for each request and answer, as ZeroMQ is mostly used.
Both processes end at the end of their standard input.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from inferoxy import sockets

_WORKER = b"worker"
_PING = 4
_PONG = b"\x94\x01\x05\x00\x01"
_SUCCESS = b"\xa0\xa0\xc3"  # code "", error "", final true


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The endpoint of an echo, while the context lasts.

    Args:
        folder: For the socket between broker and worker.
    """
    back = f"ipc://{folder}/echo.sock"
    broker = _start("broker", back)
    worker = _start("worker", back)
    try:
        yield broker.stdout.readline().decode().strip() if broker.stdout else ""
    finally:
        for process in (broker, worker):
            if process.stdin:
                process.stdin.close()
            process.wait()
            if process.stdout:
                process.stdout.close()


def _start(role: str, back: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "inferoxy.bench.suite.echo", role, back]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def broker(back: str) -> None:
    """Pass messages to and fro."""
    context = sockets.context()
    clients = sockets.router(context, "tcp://127.0.0.1:0")
    worker = sockets.router(context, back)
    print(sockets.bound_endpoint(clients), flush=True)
    poller = _poller(clients, worker)
    while True:
        ready = dict(poller.poll())
        if sys.stdin.fileno() in ready:
            break
        if clients in ready:
            for parts in _all(clients):
                worker.send_multipart([_WORKER, *parts], zmq.DONTWAIT)
        if worker in ready:
            for parts in _all(worker):
                clients.send_multipart(parts[1:], zmq.DONTWAIT)
    context.destroy(linger=0)


def worker(back: str) -> None:
    """Answer."""
    context = sockets.context()
    sock = sockets.dealer(context, back, _WORKER)
    poller = _poller(sock)
    while True:
        ready = dict(poller.poll())
        if sys.stdin.fileno() in ready:
            break
        for client, header, *frames in _all(sock):
            if header[2] == _PING:
                sock.send_multipart([client, _PONG], zmq.DONTWAIT)
            else:  # behind array16, version and kind: the count of frames and the id, a uint32
                answer = b"\x97\x01\x02" + header[5:11] + _SUCCESS
                sock.send_multipart([client, answer, *frames], zmq.DONTWAIT)
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
    {"broker": broker, "worker": worker}[sys.argv[1]](sys.argv[2])
