"""Claims about the client's connections: servers that are not there or die, clients that are closed or forgotten."""

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
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


CLIENT_NEEDS = ("grpcio", "httpx", "msgspec", "numpy", "protobuf", "pyzmq")


def normal(name: str) -> str:
    """A distribution's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def modules_not_of(distributions: tuple[str, ...]) -> set[str]:
    """The importable top-level modules of all that is installed here, but these and what they need."""
    wanted, needed = list(distributions), set[str]()
    installed = {normal(str(found.metadata["Name"])): found for found in metadata.distributions()}
    while wanted:
        name = normal(wanted.pop())
        if name in installed and name not in needed:
            needed.add(name)
            required = [line for line in installed[name].requires or () if "extra ==" not in line]
            wanted += [re.split(r"[^\w.-]", line)[0] for line in required]
    needed.add("inferoxy")
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {normal(owner) for owner in owners} & needed
    }


REFUSE = """
import sys
refused = set(sys.argv[1].split(","))
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
"""


def test_the_client_needs_only_six_packages_for_files_arrays_tensors_and_drawings(url: str, tmp_path: Path) -> None:
    refused = modules_not_of(CLIENT_NEEDS)
    assert {"fastapi", "pydantic", "yaml", "structlog", "cv2", "PIL", "simplejpeg", "rich", "typer"} <= refused
    code = f"""{REFUSE}
import numpy as np
from inferoxy import Client
with Client({url!r}) as client:
    found = client.predict("detector", {str(SAMPLE)!r}, draw="jpeg")
    found.save("drawn.jpg")
    assert client.predict("mean", np.full((4, 5, 3), 7, np.uint8)).value["mean"] == [7.0, 7.0, 7.0]
    assert client.infer("scale", {{"IN": np.ones((1, 4), np.float32)}})["SUM"].item() == 4.0
    items = list(client.predict_many("detector", [{str(SAMPLE)!r}] * 3, progress=True))
    assert [len(item.answer) for item in items] == [len(found)] * 3
    assert len(client.models()) == 7
    print(len(found), len(found.to_coco(1)))
"""
    command = [sys.executable, "-c", code, ",".join(refused)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) == int(done.stdout.split()[1]) >= 5
    assert (tmp_path / "drawn.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_importing_the_package_imports_nothing_but_the_standard_library() -> None:
    code = """
import sys
before = set(sys.modules)
import inferoxy
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20.0, check=True)
    assert done.stdout.split() == ["inferoxy"]


def test_each_protocol_imports_its_own_library_alone() -> None:
    libraries = {"http://127.0.0.1:1": "httpx", "grpc://127.0.0.1:1": "grpc", "tcp://127.0.0.1:1": "zmq"}
    for address, library in libraries.items():
        code = f"import sys; from inferoxy import Client; Client({address!r}).close(); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20.0, check=True)
        assert {"httpx", "grpc", "zmq"} & set(done.stdout.split()) == {library}
