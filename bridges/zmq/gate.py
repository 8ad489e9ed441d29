"""Which clients may connect to an encrypted bridge: those whose public keys are in a file, read anew when it changes.

Answers the questions of the ZeroMQ Authentication Protocol 1.0 (https://rfc.zeromq.org/spec/27/). They are asked when a
client connects: who is connected stays so when his key is taken out.
Invariant: while the file cannot be read nobody is let in.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq

from inferoxy import logs, sockets
from inferoxy.errors import InvalidRequest
from inferoxy.keys import as_text, read_clients

SETTING = "curve.clients"
QUIET_S = 1.0  # refusals are told at most so often, whoever tries

_VERSION = b"1.0"
_CURVE = b"CURVE"


class AllowedClients:
    """The keys in a file.

    Args:
        path: One public key a line.

    Raises:
        InvalidRequest: It cannot be read, or a line holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = logs.get()
        self._stamp = _stamp(path)
        found = read_clients(path, SETTING)
        if found.wrong:
            raise InvalidRequest(f"{SETTING}: {found.wrong[0]}")
        self._keys = found.keys

    def __contains__(self, key: bytes) -> bool:
        """Whether this client, by its 40 characters, may connect now."""
        stamp = _stamp(self._path)
        if stamp is None or stamp != self._stamp:
            self._stamp = stamp
            self._read()
        return key in self._keys

    def _read(self) -> None:
        try:
            found = read_clients(self._path, SETTING)
        except InvalidRequest as exc:
            self._keys = frozenset()
            self._log.error("nobody is let in", reason=exc.message)
            return
        self._keys = found.keys
        for why in found.wrong:
            self._log.warning("a line is left out", reason=why)
        self._log.info("clients that may connect were read anew", clients=len(self._keys))


class Gate:
    """Answers ZeroMQ's questions on the loop."""

    def __init__(self, context: zmq.Context[Any], allowed: AllowedClients) -> None:
        self._allowed = allowed
        self._log = logs.get()
        self._loop = asyncio.get_running_loop()
        self._quiet_until = 0.0
        self._socket = sockets.LoopSocket(sockets.gate(context), self._on_message)

    def close(self) -> None:
        """Answer no more."""
        self._socket.close()

    def _on_message(self, parts: list[Any]) -> None:
        body = parts.index(b"") + 1
        answer, key = answer_to(parts[body:], self._allowed)
        if key and self._loop.time() >= self._quiet_until:
            self._quiet_until = self._loop.time() + QUIET_S
            address = bytes(parts[body + 3]).decode(errors="replace")
            self._log.warning("client refused: its key is not in the file", address=address, key=key)
        self._socket.send([*parts[:body], *answer])


def answer_to(question: Sequence[Any], allowed: AllowedClients | frozenset[bytes]) -> tuple[list[bytes], str]:
    """What to answer to version, request id, domain, address, identity, mechanism and credentials.

    Returns:
        The answer's frames, and the key that was refused, if one was.
    """
    number = bytes(question[1]) if len(question) > 1 else b""
    if len(question) != 7 or question[0] != _VERSION or question[5] != _CURVE or len(question[6]) != 32:
        return [_VERSION, number, b"500", b"expected CURVE", b"", b""], ""
    key = as_text(bytes(question[6]))
    if key in allowed:
        return [_VERSION, number, b"200", b"OK", key, b""], ""
    return [_VERSION, number, b"400", b"this key may not connect", b"", b""], key.decode()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
