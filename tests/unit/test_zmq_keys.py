"""CURVE keys as text and in files."""

import stat
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from inferoxy import keys
from inferoxy.errors import InvalidRequest


def test_a_pair_is_written_so_that_only_its_owner_reads_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "bridge.key"
    pair = keys.write_pair(file)
    assert zmq.curve_public(pair.secret) == pair.public
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keys.read_pair(file, "x") == pair
    assert keys.read_public(tmp_path / "bridge.key.pub", "x") == pair.public
    assert keys.read_public(str(tmp_path / "bridge.key.pub"), "x") == pair.public
    assert keys.read_public(pair.public.decode(), "x") == pair.public
    assert pair.secret.decode() not in repr(pair)


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "bridge.key"
    pair = keys.write_pair(file)
    with pytest.raises(InvalidRequest, match="there is such a file already"):
        keys.write_pair(file)
    assert keys.read_pair(file, "x") == pair
    (tmp_path / "other.key.pub").touch()
    with pytest.raises(InvalidRequest, match=r"other\.key\.pub: there is such a file already"):
        keys.write_pair(tmp_path / "other.key")
    assert not (tmp_path / "other.key").exists()
    with pytest.raises(InvalidRequest, match="cannot be written: No such file"):
        keys.write_pair(tmp_path / "none" / "k")


def test_secret_and_public_files_are_not_taken_for_each_other(tmp_path: Path) -> None:
    file = tmp_path / "bridge.key"
    secret = keys.write_pair(file).secret.decode()
    with pytest.raises(InvalidRequest, match=r"curve: expected a file with a secret key .* found .*bridge\.key\.pub"):
        keys.read_pair(tmp_path / "bridge.key.pub", "curve")
    with pytest.raises(
        InvalidRequest, match=r"curve: expected a public key, found the secret key in .*; give"
    ) as found:
        keys.read_public(file, "curve")
    assert secret not in found.value.message


@pytest.mark.parametrize(
    "text", ["", "nonsense\n", "secret nonsense\n", "secret " + "#" * 40 + "\n", "# only a remark\n"]
)
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "k"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match="curve: expected a file with a secret key"):
        keys.read_pair(file, "curve")
    with pytest.raises(InvalidRequest, match="curve: expected a"):
        keys.read_public(file, "curve")


def test_what_is_neither_key_nor_file_is_refused(tmp_path: Path) -> None:
    for given_text in ("nonsense", "a" * 39, "a" * 41, "#" * 40):
        with pytest.raises(InvalidRequest, match="server_key: expected a public key of 40 characters or a file"):
            keys.read_public(given_text, "server_key")
    with pytest.raises(InvalidRequest, match="cannot be read: Is a directory"):
        keys.read_pair(tmp_path, "x")
    (tmp_path / "k").write_bytes(b"\xff")
    with pytest.raises(InvalidRequest, match="expected text"):
        keys.read_pair(tmp_path / "k", "x")


def test_a_list_of_clients_may_be_made_of_public_files(tmp_path: Path) -> None:
    pairs = [keys.write_pair(tmp_path / f"client {at}.key") for at in range(3)]
    file = tmp_path / "clients"
    file.write_text("# cameras\n\n" + "".join((tmp_path / f"client {at}.key.pub").read_text() for at in range(3)))
    assert keys.read_clients(file, "x") == keys.ClientList(frozenset(pair.public for pair in pairs), [])
    file.write_text((tmp_path / "client 0.key").read_text())
    found = keys.read_clients(file, "x")
    assert (found.keys, len(found.wrong)) == (frozenset(), 1)
    assert pairs[0].secret.decode() not in found.wrong[0]


@given(st.binary(min_size=32, max_size=32))
def test_keys_as_text_are_those_of_zeromq(raw: bytes) -> None:
    assert keys.as_text(raw) == z85.encode(raw)
    assert keys.is_key(keys.as_text(raw).decode())


@given(st.text(max_size=42))
def test_only_a_key_has_a_keys_form(text: str) -> None:
    assert not keys.is_key(text) or len(z85.decode(text)) == 32
