"""Where a server is, from what a user writes: http://host:port, grpc://host:port, tcp://host:port, ipc://path.

Pure.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

from inferoxy.errors import InvalidRequest

if TYPE_CHECKING:
    from inferoxy.keys import Curve

DEFAULT_URL = "http://127.0.0.1:8698"
GRPC_PORT = 50051
ZMQ_PORT = 7789

_FORMS = "http://HOST:PORT, https://HOST:PORT, grpc://HOST:PORT, tcp://HOST:PORT or ipc://PATH"
_LOOPBACK = ("localhost", "::1")


class Address(NamedTuple):
    """A server's address.

    `target` is what the protocol's library wants: a base URL, HOST:PORT or a ZeroMQ endpoint; `url` is for people.
    `curve` are the keys of a ZeroMQ connection, if it is encrypted.
    """

    protocol: Literal["http", "grpc", "zmq"]
    target: str
    url: str
    loopback: bool
    curve: "Curve | None" = None


def parse(url: str) -> Address:
    """The address that a URL names.

    Raises:
        InvalidRequest: It is none of the known forms.
    """
    text = url.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        guess = f": did you mean http://{text}?" if text else ""
        raise InvalidRequest(f"address: expected {_FORMS}, found {url!r}{guess}")
    scheme = scheme.lower()
    if scheme == "ipc":
        if not rest:
            raise InvalidRequest(f"address: expected ipc://PATH, found {url!r}")
        return Address("zmq", f"ipc://{rest}", f"ipc://{rest}", True)
    if scheme not in ("http", "https", "grpc", "tcp"):
        raise InvalidRequest(f"address: expected {_FORMS}, found {url!r}")
    host, port, path = _split(url, text)
    loopback = host in _LOOPBACK or host.startswith("127.")
    name = f"[{host}]" if ":" in host else host
    if scheme in ("http", "https"):
        base = f"{scheme}://{name}{f':{port}' if port else ''}{path.rstrip('/')}"
        return Address("http", base, base, loopback)
    if path.strip("/"):
        raise InvalidRequest(f"address: expected {scheme}://HOST:PORT without a path, found {url!r}")
    place = f"{name}:{port or (GRPC_PORT if scheme == 'grpc' else ZMQ_PORT)}"
    return (
        Address("grpc", place, f"grpc://{place}", loopback)
        if scheme == "grpc"
        else Address("zmq", f"tcp://{place}", f"tcp://{place}", loopback)
    )


def _split(url: str, text: str) -> tuple[str, int | None, str]:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise InvalidRequest(f"address: expected {_FORMS}, found {url!r}: {exc}") from exc
    if not host or parts.query or parts.fragment or parts.username or port == 0:
        raise InvalidRequest(f"address: expected {_FORMS}, found {url!r}")
    return host, port, parts.path
