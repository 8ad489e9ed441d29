"""The socket of a ZeroMQ client: its keys, and why a server does not let it in.

A connection that was refused is given up by ZeroMQ: `try_again` begins it anew.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq

from inferoxy import keys, sockets
from inferoxy.client.address import Address
from inferoxy.client.calls import unreachable
from inferoxy.errors import InvalidRequest
from inferoxy.keys import Curve
from inferoxy.sockets import Refusal

SERVER_KEY = "INFEROXY_ZMQ_SERVER_KEY"
CLIENT_KEY = "INFEROXY_ZMQ_CLIENT_KEY"
RETRY_S = 0.1  # between attempts at a server that refuses


def curve_of(server_key: str | Path | None, client_key: str | Path | None) -> Curve | None:
    """What is needed to encrypt, as arguments or else the environment say it; None: nothing is encrypted.

    Args:
        server_key: The server's public key, or a file that holds it.
        client_key: The client's secret file as `inferoxy keys new` makes it; None: new keys, for servers that let all
            in that know theirs.

    Raises:
        InvalidRequest: A key or file is wrong, or there is only the client's.
    """
    what, server = ("server_key", server_key) if server_key else (SERVER_KEY, os.environ.get(SERVER_KEY))
    whose, client = ("client_key", client_key) if client_key else (CLIENT_KEY, os.environ.get(CLIENT_KEY))
    if not server:
        if client_key:
            raise InvalidRequest("client_key: expected server_key beside it, found none")
        return None
    own = keys.read_pair(Path(client).expanduser(), whose) if client else keys.new_pair()
    return Curve(keys.read_public(server, what), own)


class Connection:
    """A DEALER that tells why it was refused.

    Attributes:
        socket: To send to and receive from.
        refusals: Readable when the server has refused it; for `refused`.

    Raises:
        ConnectionFailed: No connection can be made to such an address.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._is_refused = False
        self._retry_at = 0.0
        curve = address.curve
        self._has_keys = curve is not None
        self.context: zmq.Context[Any] = sockets.context()
        try:
            self.socket = sockets.dealer(self.context, address.target, immediate=True, curve=curve)
        except zmq.ZMQError as exc:
            self.context.destroy(linger=0)
            raise unreachable(address.url, exc.strerror) from exc
        self.refusals = sockets.watch_refusals(self.socket)

    def refused(self, frames: Sequence[Any], now: float) -> tuple[str, bool]:
        """Take in a message of `refusals`; what it means, for people, and whether that is certain."""
        found = sockets.refusal_of(frames)
        if found is Refusal.BROKEN:
            if self._has_keys:
                return "the server ended it while keys were exchanged: is server_key its public key?", False
            return "the server ended it at once: is this the port of a ZeroMQ bridge, and does it encrypt?", False
        if not self._is_refused:
            self._is_refused, self._retry_at = True, now + RETRY_S
        if found is Refusal.REJECTED:
            why = f"the server does not let this client in: give a key that it knows as client_key, or in {CLIENT_KEY}"
        elif self._has_keys:
            why = "the server does not encrypt, and server_key was given"
        else:
            why = f"the server encrypts: give its public key as server_key, or in {SERVER_KEY}"
        return why, True

    def try_again(self, now: float) -> None:
        """Connect anew when that is due."""
        if self._is_refused and now >= self._retry_at:
            self._is_refused = False
            self.socket.disconnect(self._address.target)
            self.socket.connect(self._address.target)

    def close(self) -> None:
        """Close both sockets."""
        self.context.destroy(linger=0)
