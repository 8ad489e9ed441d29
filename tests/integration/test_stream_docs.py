"""The examples of docs/streaming.md and docs/first_inferoxy.md, run as they stand but for their addresses."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.integration.bridge_process import free_port
from tests.integration.client_models import REPOSITORY
from tests.integration.stack import Stack, wait_until

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WAIT_S = 40.0

pytestmark = pytest.mark.timeout(120)


class Addresses:
    """Where a stack is that stands in for the documents' one."""

    def __init__(self, stack: Stack, requests: str, results: str) -> None:
        self.rest = stack.rest_url.removeprefix("http://")
        self._own = {"127.0.0.1:8698": self.rest, "tcp://127.0.0.1:7787": requests, "tcp://127.0.0.1:7788": results}

    def put_into(self, text: str) -> str:
        """An example with these addresses."""
        for documented, own in self._own.items():
            text = text.replace(documented, own)
        return text


@pytest.fixture(scope="module")
def addresses() -> Iterator[Addresses]:
    detector = REPOSITORY / "examples" / "detector" / "detector.onnx"
    requests, results = f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"
    settings = {"legacy_requests": requests, "legacy_results": results}
    with Stack(f"detector: {{artifact: {detector}, batch_size: 4}}", settings=settings, grpc="", zmq="") as stack:
        wait_until(lambda: httpx.get(f"{stack.rest_url}/readyz", trust_env=False).status_code == 200, WAIT_S)
        yield Addresses(stack, requests, results)


def example(document: str, language: str, *, holding: str = "") -> str:
    """The only example in this language, or the one that holds a word."""
    text = (REPOSITORY / "docs" / document).read_text()
    found = [block for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if holding in block]
    assert len(found) == 1
    return str(found[0])


def run(command: list[str]) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=WAIT_S)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_streaming_client_runs(addresses: Addresses) -> None:
    lines = run([sys.executable, "-c", addresses.put_into(example("streaming.md", "python"))]).splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]


def test_the_zeromq_client_of_the_first_inferoxy_runs(addresses: Addresses) -> None:
    shown = run([sys.executable, "-c", addresses.put_into(example("first_inferoxy.md", "python"))])
    assert shown.startswith("{'boxes': ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_command_line_for_infer_runs(addresses: Addresses) -> None:
    command = addresses.put_into(example("first_inferoxy.md", "sh", holding="curl"))
    answer = json.loads(run(["sh", "-c", command]))
    documented = json.loads(example("first_inferoxy.md", "json"))
    assert answer.keys() == documented.keys()
    (output,), (shown,) = answer["outputs"], documented["outputs"]
    assert list(output) == list(shown)
    assert [output[name] for name in ("shape", "datatype", "parameters", "error")] == [
        shown[name] for name in ("shape", "datatype", "parameters", "error")
    ]


class Browser:
    """A browser without a screen, whose camera is a moving test picture."""

    def __init__(self, page: Path, folder: Path) -> None:
        switches = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--remote-debugging-port=0",
            "--remote-allow-origins=*", f"--user-data-dir={folder}",
        ]  # fmt: skip
        self._left = ExitStack()
        self._port_file = folder / "DevToolsActivePort"
        self._process = subprocess.Popen(
            [str(BROWSER), *switches, page.as_uri()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> "Browser":
        wait_until(lambda: self._port_file.exists() and self._port_file.read_text().count("\n") > 0, WAIT_S)
        port = self._port_file.read_text().split()[0]

        def pages() -> list[dict[str, Any]]:
            targets = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            return [target for target in targets if target["type"] == "page"]

        wait_until(lambda: bool(pages()), WAIT_S)
        self._tools = self._left.enter_context(connect(pages()[0]["webSocketDebuggerUrl"], max_size=None, proxy=None))
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()
        self._process.terminate()
        self._process.wait(20)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        self._tools.send(json.dumps({"id": 1, "method": "Runtime.evaluate", "params": {"expression": expression}}))
        while True:
            answer = json.loads(self._tools.recv(timeout=WAIT_S))
            if answer.get("id") == 1:
                return answer["result"]["result"].get("value")


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_the_page_shows_what_the_model_drew(addresses: Addresses, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(addresses.put_into(example("streaming.md", "html")))
    with Browser(page, tmp_path / "browser") as browser:

        def shown() -> str:
            return str(browser.evaluate("document.getElementById('found').textContent"))

        wait_until(lambda: re.match(r"\d+: ", shown()) is not None, WAIT_S, shown)
        wait_until(lambda: browser.evaluate("document.getElementById('drawn').naturalWidth") == 640, WAIT_S, shown)
        before = int(shown().partition(":")[0])
        time.sleep(2.0)
        assert int(shown().partition(":")[0]) > before + 5
