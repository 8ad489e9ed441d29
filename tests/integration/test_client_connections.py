"""Claims about the client's connections: servers that are not there or die, clients that are closed or forgotten."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inferoxy.client import AsyncClient, Client, ConnectionFailed
from inferoxy.errors import InferoxyError
from tests.integration.client_models import PROTOCOLS, SAMPLE, colour, serve, url_of
from tests.integration.stack import Stack, wait_until

BRIDGES = {"http": "bridge_rest", "grpc": "bridge_grpc", "zmq": "bridge_zmq"}
NOBODY = ("http://127.0.0.1:1", "grpc://127.0.0.1:1", "tcp://127.0.0.1:1")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from serve(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=PROTOCOLS)
def url(stack: Stack, request: pytest.FixtureRequest) -> str:
    return url_of(stack, request.param)


def test_a_server_that_is_not_there_is_named_with_what_to_check() -> None:
    def refused(url: str) -> None:
        with (
            Client(url) as client,
            pytest.raises(ConnectionFailed, match=rf"cannot connect to {url}.*is the server running.*inferoxy up"),
        ):
            client.predict("mean", colour(0, 0, 0))

    async def refused_async(url: str) -> None:
        async with AsyncClient(url) as client:
            with pytest.raises(ConnectionFailed, match=f"cannot connect to {url}"):
                await client.models()
            assert not await client.is_ready()

    async def all_refused() -> None:
        await asyncio.gather(*map(refused_async, NOBODY))

    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(refused, NOBODY))
    asyncio.run(all_refused())
    assert time.monotonic() - began < 10.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_bridge_that_is_killed_breaks_only_what_was_under_way(stack: Stack, protocol: str) -> None:
    with Client(url_of(stack, protocol)) as client, ThreadPoolExecutor(1) as pool:
        client.predict("mean", colour(0, 0, 0))
        slow = pool.submit(client.predict, "mean", colour(0, 0, 0), sleep_s=2.0)
        time.sleep(1.2 if protocol == "zmq" else 0.3)  # a ZeroMQ client must have heard the server since it sent
        old = stack.kill(BRIDGES[protocol])
        with pytest.raises(ConnectionFailed, match="broke before the answer came"):
            slow.result(15.0)
        stack.wait_back(BRIDGES[protocol], old)
        wait_until(client.is_ready, 10.0)
        assert client.predict("mean", colour(3, 0, 0)).value["mean"][0] == 3


def test_closing_fails_what_is_under_way_and_what_comes_after(url: str) -> None:
    client = Client(url)
    client.predict("mean", colour(0, 0, 0))
    failure: list[BaseException] = []

    def wait() -> None:
        try:
            client.predict("mean", colour(0, 0, 0), sleep_s=0.5)
        except InferoxyError as exc:
            failure.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    client.close()
    thread.join(10.0)
    assert [type(exc) for exc in failure] in ([ConnectionFailed], [])
    with pytest.raises(ConnectionFailed, match="is closed"):
        client.predict("mean", colour(0, 0, 0))
    client.close()


def test_a_client_that_nobody_closed_does_not_keep_the_process_alive(url: str) -> None:
    code = f"from inferoxy import Client; print(Client({url!r}).infer('scale', {{'IN': [[1.5, 2, 3, 4]]}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20.0, check=False)
    assert "expected datatype FP32, found FP64" in done.stderr
    assert done.returncode == 1


def test_the_client_needs_nothing_of_the_server_s_dependencies(url: str, tmp_path: Path) -> None:
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"pydantic", "fastapi", "yaml", "structlog", "cv2", "PIL", "simplejpeg", "uvicorn"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from inferoxy import Client
with Client({url!r}) as client:
    print(len(client.predict("detector", {str(SAMPLE)!r}, draw="jpeg")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30.0, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5
