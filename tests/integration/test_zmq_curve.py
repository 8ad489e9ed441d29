"""Claims about encrypted ZeroMQ connections: who gets in, and what the others are told."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import zmq

from inferoxy.client import AsyncClient, Client, ConnectionFailed
from inferoxy.client.calls import CONNECT_S
from inferoxy.errors import InvalidRequest
from inferoxy.keys import KeyPair, write_pair
from tests.integration.answering_router import AnsweringRouter
from tests.integration.bridge_process import Bridge
from tests.integration.wire_client import WireClient, tensor

ROW = np.arange(16, dtype=np.float32).reshape(1, 16)


class Keys(NamedTuple):
    """Key files of a bridge that lets in one client, and of two clients."""

    folder: Path
    bridge: KeyPair
    friend: KeyPair
    stranger: KeyPair

    @property
    def server(self) -> Path:
        return self.folder / "bridge.key.pub"

    @property
    def clients(self) -> Path:
        return self.folder / "clients"

    def of(self, name: str) -> Path:
        return self.folder / f"{name}.key"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    found = Keys(folder, *(write_pair(folder / f"{name}.key") for name in ("bridge", "friend", "stranger")))
    found.clients.write_text(f"# who may connect\n{(folder / 'friend.key.pub').read_text()}")
    return found


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path_factory.mktemp("zmq")) as router:
        yield router


@pytest.fixture(scope="module")
def gated(router: AnsweringRouter, keys: Keys) -> Iterator[str]:
    """A bridge that lets in whom it knows."""
    curve = {"secret_key": str(keys.of("bridge")), "clients": str(keys.clients)}
    with Bridge("zmq", router.endpoint, log_level="warning", curve=curve) as bridge:
        yield f"tcp://{bridge.address}"


@pytest.fixture(scope="module")
def closed(router: AnsweringRouter, keys: Keys) -> Iterator[str]:
    """A bridge that lets in whoever knows its key."""
    with Bridge("zmq", router.endpoint, log_level="warning", curve={"secret_key": str(keys.of("bridge"))}) as bridge:
        yield f"tcp://{bridge.address}"


@pytest.fixture(scope="module")
def plain(router: AnsweringRouter) -> Iterator[str]:
    """A bridge that does not encrypt."""
    with Bridge("zmq", router.endpoint, log_level="warning") as bridge:
        yield f"tcp://{bridge.address}"


def infer(url: str, **more: str | Path) -> None:
    with Client(url, **more) as client:
        assert client.infer("echo", {"INPUT0": ROW})["OUTPUT0"].tolist() == ROW.tolist()


def test_a_known_client_is_served(gated: str, keys: Keys) -> None:
    infer(gated, server_key=keys.server, client_key=keys.of("friend"))
    infer(gated, server_key=keys.bridge.public.decode(), client_key=str(keys.of("friend")))


def test_a_client_of_asyncio_is_served(gated: str, keys: Keys) -> None:
    async def ask() -> None:
        async with AsyncClient(gated, server_key=keys.server, client_key=keys.of("friend")) as client:
            found = await client.infer("echo", {"INPUT0": ROW})
            assert found["OUTPUT0"].tolist() == ROW.tolist()

    asyncio.run(ask())


def test_the_environment_may_name_the_keys(gated: str, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFEROXY_ZMQ_SERVER_KEY", str(keys.server))
    monkeypatch.setenv("INFEROXY_ZMQ_CLIENT_KEY", str(keys.of("friend")))
    infer(gated)
    monkeypatch.setenv("INFEROXY_ZMQ_SERVER_KEY", "nonsense")
    with pytest.raises(InvalidRequest, match="INFEROXY_ZMQ_SERVER_KEY: expected a public key"):
        Client(gated)


def test_whoever_knows_the_key_gets_in_where_nobody_is_listed(closed: str, keys: Keys) -> None:
    infer(closed, server_key=keys.server)
    infer(closed, server_key=keys.server, client_key=keys.of("stranger"))


def test_a_client_in_another_language_needs_libzmq_s_options_only(gated: str, keys: Keys) -> None:
    with WireClient(gated, (keys.bridge.public, *keys.friend)) as client:
        answer = client.ask("echo", tensor("INPUT0", "FP32", ROW))
        assert answer.tensors["OUTPUT0"].array().tolist() == ROW.tolist()


def test_a_unix_socket_may_be_encrypted_too(router: AnsweringRouter, keys: Keys, tmp_path: Path) -> None:
    url = f"ipc://{tmp_path}/zmq.sock"
    curve = {"secret_key": str(keys.of("bridge")), "clients": str(keys.clients)}
    with Bridge("zmq", router.endpoint, zmq=url, curve=curve):
        infer(url, server_key=keys.server, client_key=keys.of("friend"))


def arguments_of(keys: Keys, kind: str) -> dict[str, str | Path]:
    """The arguments of a client that is not let in."""
    friend, stranger = keys.of("friend"), keys.of("stranger")
    return {
        "no keys": {},
        "wrong server": {"server_key": keys.of("stranger").with_suffix(".key.pub"), "client_key": friend},
        "unknown client": {"server_key": keys.server, "client_key": stranger},
        "new client": {"server_key": keys.server},
        "keys": {"server_key": keys.server, "client_key": friend},
    }[kind]


@pytest.mark.parametrize(
    ("bridge", "kind", "why"),
    [
        ("gated", "no keys", "the server encrypts: give its public key as server_key"),
        ("closed", "no keys", "the server encrypts: give its public key as server_key"),
        ("gated", "wrong server", "the server ended it while keys were exchanged: is server_key its public key"),
        ("closed", "wrong server", "the server ended it while keys were exchanged: is server_key its public key"),
        ("gated", "unknown client", "the server does not let this client in"),
        ("gated", "new client", "the server does not let this client in"),
        ("plain", "keys", "the server does not encrypt, and server_key was given"),
    ],
)
def test_who_is_not_let_in_is_told_why_in_time(
    request: pytest.FixtureRequest, keys: Keys, bridge: str, kind: str, why: str
) -> None:
    url = request.getfixturevalue(bridge)
    arguments = arguments_of(keys, kind)
    began = time.monotonic()
    with Client(url, **arguments) as client, pytest.raises(ConnectionFailed, match=f"cannot connect to {url}: {why}"):
        client.infer("echo", {"INPUT0": ROW})
    assert time.monotonic() - began < CONNECT_S + 2.0

    async def ask() -> None:
        async with AsyncClient(url, **arguments) as client:
            found, is_ready = await asyncio.gather(client.models(), client.is_ready(), return_exceptions=True)
        assert isinstance(found, ConnectionFailed)
        assert found.message.startswith(f"cannot connect to {url}: {why}")
        assert is_ready is False

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("bridge", "kind", "told"),
    [
        ("gated", "no keys", (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, 0x11000002)),
        ("plain", "keys", (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, 0x11000002)),
        ("gated", "unknown client", (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400)),
        ("gated", "wrong server", (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, None)),
    ],
)
def test_a_client_in_another_language_is_told_by_its_library_as_documented(
    request: pytest.FixtureRequest, keys: Keys, bridge: str, kind: str, told: tuple[int, int | None]
) -> None:
    server, own = {
        "no keys": (None, None),
        "keys": (keys.bridge.public, keys.friend),
        "unknown client": (keys.bridge.public, keys.stranger),
        "wrong server": (keys.stranger.public, keys.friend),
    }[kind]
    with WireClient(request.getfixturevalue(bridge), (server, *own) if server and own else None) as client:
        event, value = client.refusal()
        while event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL != told[0]:  # the other end gave up first
            event, value = client.refusal()
        assert event == told[0]
        assert told[1] in (None, value)


def test_a_list_that_changes_holds_for_the_next_connection(router: AnsweringRouter, keys: Keys, tmp_path: Path) -> None:
    clients = tmp_path / "clients"
    clients.write_text(keys.friend.public.decode())
    curve = {"secret_key": str(keys.of("bridge")), "clients": str(clients)}
    with Bridge("zmq", router.endpoint, log_level="error", curve=curve) as bridge:
        url = f"tcp://{bridge.address}"
        with (
            Client(url, server_key=keys.server, client_key=keys.of("friend")) as friend,
            Client(url, server_key=keys.server, client_key=keys.of("stranger")) as stranger,
        ):
            assert friend.is_ready()
            assert not stranger.is_ready()
            clients.write_text(keys.stranger.public.decode())
            assert stranger.is_ready()  # the same client: it connects anew
            assert friend.is_ready()  # who is there stays
        with Client(url, server_key=keys.server, client_key=keys.of("friend")) as friend:
            assert not friend.is_ready()


def test_a_client_finds_a_bridge_that_is_mended_while_it_tries(router: AnsweringRouter, keys: Keys) -> None:
    with Bridge("zmq", router.endpoint) as bridge:
        port = bridge.port
        client = Client(f"tcp://127.0.0.1:{port}", server_key=keys.server)
        assert not client.is_ready()
    with Bridge("zmq", router.endpoint, port=port, curve={"secret_key": str(keys.of("bridge"))}), client:
        assert client.is_ready()


def test_what_is_sent_cannot_be_read_on_the_way(closed: str, keys: Keys) -> None:
    """A relay between client and bridge sees neither model names nor tensors."""
    seen: list[bytes] = []

    async def relay() -> None:
        host, port = closed.removeprefix("tcp://").split(":")

        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65_536):
                seen.append(data)
                writer.write(data)
            writer.close()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            other_reader, other_writer = await asyncio.open_connection(host, int(port))
            await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            async with AsyncClient(url, server_key=keys.server) as client:
                await client.infer("echo", {"INPUT0": ROW})
            await asyncio.sleep(0.1)

    asyncio.run(relay())
    wire = b"".join(seen)
    assert b"CURVE" in wire
    assert len(wire) > 500
    for secret in (b"echo", b"INPUT0", b"OUTPUT0", ROW.tobytes()):
        assert secret not in wire


@pytest.mark.parametrize(
    ("curve", "why"),
    [
        ({"secret_key": "/nowhere/k"}, "curve.secret_key: /nowhere/k: cannot be read: No such file"),
        ({"clients": "CLIENTS"}, "curve.clients: expected curve.secret_key beside it, found none"),
        ({"secret_key": "PUBLIC"}, "curve.secret_key: expected a file with a secret key"),
        ({"secret_key": "SECRET", "clients": "/nowhere/c"}, "curve.clients: /nowhere/c: cannot be read"),
        ({"secret_key": "SECRET", "clients": "SECRET"}, "entry 1: expected a public key"),
    ],
)
def test_a_bridge_with_wrong_keys_does_not_start(keys: Keys, tmp_path: Path, curve: dict[str, str], why: str) -> None:
    places = {"CLIENTS": keys.clients, "PUBLIC": keys.server, "SECRET": keys.of("bridge")}
    file = tmp_path / "settings.yaml"
    lines = [f"  {name}: {places.get(value, value)}" for name, value in curve.items()]
    file.write_text("\n".join(["zmq: tcp://127.0.0.1:0", f"data_dir: {tmp_path}", "curve:", *lines]))
    command = [sys.executable, "-m", "inferoxy", "bridge", "zmq", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2, done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert keys.bridge.secret.decode() not in done.stderr


def test_keys_are_made_on_the_command_line(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "inferoxy", "keys", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path)

    made = run("new", "camera.key")
    assert (made.returncode, made.stderr) == (0, "")
    assert (tmp_path / "camera.key.pub").read_text().split() == [made.stdout.strip(), "camera"]
    assert os.stat(tmp_path / "camera.key").st_mode & 0o077 == 0
    assert run("show", "camera.key").stdout == made.stdout
    again = run("new", "camera.key")
    assert (again.returncode, again.stdout) == (2, "")
    assert "error: camera.key: there is such a file already" in again.stderr
    assert "error: FILE: expected a file with a secret key" in run("show", "camera.key.pub").stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "grpc://127.0.0.1:1"])
def test_keys_are_refused_where_they_would_not_be_used(keys: Keys, url: str) -> None:
    for arguments in ({"server_key": keys.server}, {"client_key": keys.of("friend")}):
        with pytest.raises(InvalidRequest, match="server_key, client_key: expected an address tcp://… or ipc://…"):
            Client(url, **arguments)
    with pytest.raises(InvalidRequest, match="client_key: expected server_key beside it"):
        Client("tcp://127.0.0.1:1", client_key=keys.of("friend"))
