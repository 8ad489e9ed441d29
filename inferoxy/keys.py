"""CURVE keys, which encrypt ZeroMQ connections: what they look like as text, and the files that hold them.

A key is 40 characters of Z85. A secret file has the line `secret KEY`, so that it is never taken for a public one; a
public file, and each line of a list of clients, is a key and perhaps a name behind it. Lines that begin with `# ` and
empty ones say nothing.
Invariant: no error message repeats a secret.
"""

import os
from pathlib import Path
from typing import NamedTuple

import zmq

from inferoxy.errors import InvalidRequest

KEY_LENGTH = 40
LIST_LIMIT_BYTES = 2**24  # of a list of clients, some 200,000 of them
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_DIGITS = {character: value for value, character in enumerate(_Z85)}
_SECRET = "secret "


class KeyPair(NamedTuple):
    """One party's keys, as ZeroMQ takes them: 40 bytes each."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.public.decode()!r})"


class Curve(NamedTuple):
    """What a client needs for an encrypted connection: the server's public key, and its own pair."""

    server: bytes
    own: KeyPair


class ClientList(NamedTuple):
    """The clients that may connect; `wrong` says which lines hold no key."""

    keys: frozenset[bytes]
    wrong: list[str]


def new_pair() -> KeyPair:
    """Keys that nobody else has."""
    return KeyPair(*zmq.curve_keypair())


def is_key(text: str) -> bool:
    """Whether it has a key's form: eight groups of five digits to the base of 85, each less than 2^32."""
    if len(text) != KEY_LENGTH or not all(character in _DIGITS for character in text):
        return False
    return all(_number(text[at : at + 5]) < 2**32 for at in range(0, KEY_LENGTH, 5))


def as_text(raw: bytes) -> bytes:
    """The 40 characters of a key of 32 bytes."""
    found = bytearray()
    for at in range(0, len(raw), 4):
        value = int.from_bytes(raw[at : at + 4], "big")
        found += bytes(ord(_Z85[value // 85**power % 85]) for power in range(4, -1, -1))
    return bytes(found)


def write_pair(path: Path) -> KeyPair:
    """Make a key pair: the secret key in a new file that only its owner can read, the public one in PATH.pub.

    Raises:
        InvalidRequest: One of the files is there already, or cannot be written.
    """
    pair = new_pair()
    public = public_path(path)
    _write_new(path, f"# The secret key of {path.name}: keep it to yourself.\n{_SECRET}{pair.secret.decode()}\n", 0o600)
    try:
        _write_new(public, f"{pair.public.decode()} {path.stem}\n", 0o644)
    except InvalidRequest:
        path.unlink()
        raise
    return pair


def public_path(path: Path) -> Path:
    """Where the public key of a secret file lies."""
    return path.with_name(path.name + ".pub")


def read_pair(path: Path, what: str) -> KeyPair:
    """The keys of a secret file.

    Args:
        path: As `write_pair` made it.
        what: The setting or argument that names it, for messages.

    Raises:
        InvalidRequest: It cannot be read, or holds no secret key.
    """
    for line in _lines(path, what):
        key = line.removeprefix(_SECRET).strip()
        if line.startswith(_SECRET) and is_key(key):
            return KeyPair(zmq.curve_public(key.encode()), key.encode())
        break
    raise InvalidRequest(f"{what}: expected a file with a secret key as `inferoxy keys new` makes it, found {path}")


def read_public(given: str | Path, what: str) -> bytes:
    """A public key, from the key itself or from a file that holds it.

    Raises:
        InvalidRequest: It is neither, or a secret key.
    """
    if isinstance(given, str) and is_key(given) and not Path(given).exists():
        return given.encode()
    path = Path(given).expanduser()
    if not path.exists():
        raise InvalidRequest(
            f"{what}: expected a public key of {KEY_LENGTH} characters or a file, found {str(given)!r}"
        )
    for line in _lines(path, what):
        if line.startswith(_SECRET):
            raise InvalidRequest(f"{what}: expected a public key, found the secret key in {path}; give {path}.pub")
        key = line.split()[0]
        if is_key(key):
            return key.encode()
        break
    raise InvalidRequest(f"{what}: expected a file with a public key in its first line, found {path}")


def read_clients(path: Path, what: str) -> ClientList:
    """The public keys in a list of clients, one a line.

    Raises:
        InvalidRequest: It cannot be read.
    """
    keys: set[bytes] = set()
    wrong: list[str] = []
    for number, line in enumerate(_lines(path, what), 1):
        key = line.split()[0]
        if is_key(key) and not line.startswith(_SECRET):
            keys.add(key.encode())
        else:
            wrong.append(
                f"{path}, entry {number}: expected a public key of {KEY_LENGTH} characters, found another text"
            )
    return ClientList(frozenset(keys), wrong)


def _number(group: str) -> int:
    value = 0
    for character in group:
        value = value * 85 + _DIGITS[character]
    return value


def _lines(path: Path, what: str) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(LIST_LIMIT_BYTES + 1)
        if len(text) > LIST_LIMIT_BYTES:
            raise InvalidRequest(f"{what}: {path}: expected at most {LIST_LIMIT_BYTES} bytes, found more")
        lines = [line.strip() for line in text.decode().splitlines()]
    except OSError as exc:
        raise InvalidRequest(f"{what}: {path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{what}: {path}: expected text, found other bytes") from exc
    return [line for line in lines if line and line != "#" and not line.startswith("# ")]


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
    except FileExistsError as exc:
        raise InvalidRequest(f"{path}: there is such a file already; keys are never overwritten") from exc
    except OSError as exc:
        raise InvalidRequest(f"{path}: cannot be written: {exc.strerror}") from exc
