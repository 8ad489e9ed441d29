"""What a stack checks before it starts anything, and what it sweeps up when it has ended.

Invariants: two stacks never share a data directory (a lock that dies with its holder); a taken port is found before any
process is started; nothing of another stack is touched.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from inferoxy.config import Settings, split_address
from inferoxy.errors import InferoxyError

SHARED_MEMORY = Path("/dev/shm")

# Each address, and how another one is given.
_ADDRESSES = {
    "rest": "with --rest HOST:PORT",
    "grpc": "with --grpc HOST:PORT",
    "admin": "with --admin HOST:PORT",
    "zmq": "with --zmq tcp://HOST:PORT",
    "legacy_requests": "in the settings",
    "legacy_results": "in the settings",
}


class Refused(InferoxyError):
    """The stack cannot be started here; the message says what to choose instead."""


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory.

    Raises:
        Refused: Another stack holds it, or it cannot be written.
    """
    path = data_dir / "lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise Refused(f"data directory {data_dir}: {exc.strerror}; choose another with --data-dir DIR") from exc
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.pread(fd, 20, 0).decode(errors="replace").strip()
            raise Refused(
                f"data directory {data_dir} is in use by another stack{f' (pid {holder})' if holder else ''};"
                " choose another with --data-dir DIR"
            ) from exc
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def with_free_ports(settings: Settings) -> Settings:
    """Check that every client address can be bound; port 0 becomes a free port.

    Raises:
        Refused: An address is taken or cannot be bound here.
    """
    chosen: dict[str, str] = {}
    with contextlib.ExitStack() as held:
        for name in _ADDRESSES:
            address = getattr(settings, name)
            scheme, separator, rest = address.rpartition("://")
            if not address or scheme == "ipc":
                continue
            chosen[name] = scheme + separator + _bind(name, rest, held)
    return settings.model_copy(update=chosen)


def prepare_run_dir(settings: Settings) -> None:
    """Make the folder of socket files anew, for this user alone.

    Raises:
        Refused: Something that is not ours stands in its place.
    """
    run = settings.run_dir
    sweep(settings)
    try:
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise Refused(f"{run}: {exc.strerror}; choose another place with --data-dir DIR") from exc
    if run.is_symlink() or run.stat().st_uid != os.getuid():
        raise Refused(f"{run} belongs to another user; choose another place with --data-dir DIR")


def sweep(settings: Settings) -> None:
    """Remove the socket files and shared-memory files of this stack; nothing of it may run any more."""
    if not settings.run_dir.is_symlink():
        shutil.rmtree(settings.run_dir, ignore_errors=True)
    for path in SHARED_MEMORY.glob(f"inferoxy-{settings.stack}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _bind(name: str, address: str, held: contextlib.ExitStack) -> str:
    """The address with a port that is free now; bound until `held` ends, so that no other gets the same."""
    host, port = split_address(address)
    if host == "*":
        host = "0.0.0.0"
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = held.enter_context(socket.socket(family, kind, protocol))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(1)
    except OSError as exc:
        why = "is already in use" if exc.errno == errno.EADDRINUSE else f"cannot be used: {exc.strerror}"
        raise Refused(f"{name}: {address} {why}; choose another {_ADDRESSES[name]}") from exc
    return address if port else f"{address.rpartition(':')[0]}:{sock.getsockname()[1]}"
