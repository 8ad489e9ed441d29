"""How gRPC calls are refused: on a real server in a process of its own, without a batch manager behind it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from inferoxy.errors import STATUS, V2_STATUS, Code
from tests.integration.test_bridges_grpc import refused


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    command = [sys.executable, "-m", "tests.integration.refusing_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        with grpc.insecure_channel(f"127.0.0.1:{int(server.stdout.readline())}") as channel:
            yield channel
        server.terminate()


def asking(text: str = "no", code: str = "INVALID_REQUEST", how: str = "") -> bytes:
    return json.dumps({"text": text, "code": code, "how": how}).encode()


def held(channel: grpc.Channel) -> list[bool]:
    found: list[bool] = json.loads(channel.unary_unary("/refusing/Held")(b""))
    return found


@pytest.mark.parametrize("kind", ["unary", "stream"])
@pytest.mark.parametrize("how", ["", "bug", "caused"])
def test_a_refused_call_keeps_nothing_of_its_message(channel: grpc.Channel, kind: str, how: str) -> None:
    before = len(held(channel))
    for _ in range(3):
        if kind == "unary":
            refused(channel.unary_unary("/refusing/Ours"), asking(how=how))
        else:
            with pytest.raises(grpc.RpcError):
                list(channel.stream_stream("/refusing/Stream")(iter([asking(how=how)])))
    end = time.monotonic() + 5.0
    while any(found := held(channel)):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    assert len(found) == before + 3


@pytest.mark.parametrize("code", Code)
def test_every_code_has_its_status_and_never_empty_details(channel: grpc.Channel, code: Code) -> None:
    for method, statuses in (("Ours", STATUS), ("V2", V2_STATUS)):
        status, details, metadata = refused(channel.unary_unary(f"/refusing/{method}"), asking("", code))
        assert status.value[0] == statuses[code].grpc  # type: ignore[index]
        assert (details, metadata["x-inferoxy-code"]) == (code.value, code.value)


@pytest.mark.parametrize("text", ["ü" * 10_000, "line\n" * 5_000, "a" * 100_000, "\x00\ud800 rest", "😀" * 3_000])
def test_details_of_any_length_and_content_reach_the_client(channel: grpc.Channel, text: str) -> None:
    call: Any = channel.unary_unary("/refusing/Ours")
    status, details, metadata = refused(call, asking(text, "MODEL_ERROR"), metadata=(("x-request-id", "m" * 128),))
    assert (status, metadata["x-inferoxy-code"]) == (grpc.StatusCode.INTERNAL, "MODEL_ERROR")
    shown = details.removesuffix("…")
    assert shown
    assert text.encode("utf-8", "replace").decode().startswith(shown)
