"""Claims about completion of `inferoxy infer`, in a bash as a person has it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferoxy.client import Client
from tests.integration.client_models import REPOSITORY
from tests.integration.stack import Stack, wait_until
from tests.integration.terminal import Terminal

PROGRAM = Path(sys.executable).parent / "inferoxy"
DETECTOR = REPOSITORY / "examples" / "detector" / "detector.onnx"
MODELS = f"""
detector: {{artifact: {DETECTOR}, runtime: yolo}}
describer: {{artifact: {DETECTOR}, runtime: yolo, version: "2"}}
other: {{artifact: {DETECTOR}, runtime: yolo}}
"""
END = "· "  # the prompt

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or not PROGRAM.exists(), reason="needs bash, and the command `inferoxy` installed"
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(MODELS, grpc="") as running:
        for url in (running.rest_url, running.zmq_endpoint):
            with Client(url) as client:
                wait_until(client.is_ready, 10.0)
        yield running


def environment(home: Path, url: str = "") -> dict[str, str]:
    known = {k: v for k, v in os.environ.items() if not k.startswith(("INFEROXY_", "_INFEROXY", "BASH_"))}
    known |= {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "HOME": str(home), "PS1": END, "TERM": "dumb"}
    return known | ({"INFEROXY_URL": url} if url else {})


def offered(words: str, home: Path, url: str = "") -> list[str]:
    """What a shell is told for the last of these words."""
    count = len(words.split(" ")) - 1
    known = environment(home, url) | {
        "COMP_WORDS": words, "COMP_CWORD": str(count), "_INFEROXY_COMPLETE": "complete_bash",
    }  # fmt: skip
    done = subprocess.run([PROGRAM], env=known, capture_output=True, text=True, timeout=30.0, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture
def bash(tmp_path: Path, stack: Stack) -> Iterator[Terminal]:
    """An interactive bash that has read the script which `inferoxy --show-completion` prints."""
    with Terminal(["bash", "--norc", "--noprofile", "-i"], environment(tmp_path, stack.rest_url)) as terminal:
        terminal.type('eval "$(inferoxy --show-completion)"; echo lo""aded\n')
        terminal.wait_shown("loaded\r\n", 30.0)
        terminal.wait_shown(END)
        yield terminal


def test_a_model_s_name_is_completed_while_it_is_typed(bash: Terminal) -> None:
    bash.type("inferoxy infer det\t")
    bash.wait_shown("inferoxy infer detector ", 30.0)


def test_so_is_a_version_behind_the_name(bash: Terminal) -> None:
    bash.type("inferoxy infer describer@\t")
    bash.wait_shown("describer@")
    bash.wait_shown("2 ", 30.0)  # readline moves the cursor between them


def test_an_address_before_the_name_is_the_server_that_is_asked(bash: Terminal, stack: Stack) -> None:
    bash.type("unset INFEROXY_URL\n")
    bash.wait_shown(END)
    bash.type(f"inferoxy infer --url {stack.zmq_endpoint} ot\t")
    bash.wait_shown(f"{stack.zmq_endpoint} other ", 30.0)


def test_installing_writes_a_script_that_a_new_bash_reads(tmp_path: Path, stack: Stack) -> None:
    known = environment(tmp_path, stack.rest_url)
    with Terminal(["bash", "--norc", "--noprofile", "-i"], known) as terminal:
        terminal.type("inferoxy --install-completion\n")
        terminal.wait_shown("bash completion installed in", 30.0)
        terminal.wait_shown(END)
    with Terminal(["bash", "--noprofile", "-i"], known) as terminal:
        terminal.type("inferoxy infer --quie\t")
        terminal.wait_shown("inferoxy infer --quiet ", 30.0)


def test_all_models_are_offered_over_every_address(stack: Stack, tmp_path: Path) -> None:
    for url in (stack.rest_url, stack.zmq_endpoint):
        assert offered("inferoxy infer ", tmp_path, url) == ["describer", "detector", "other"]
        assert offered("inferoxy infer de", tmp_path, url) == ["describer", "detector"]
    assert offered("inferoxy infer --sav", tmp_path) == ["--save", "--save-as"]


def test_a_server_that_is_away_or_silent_offers_nothing_quickly_and_says_nothing(tmp_path: Path) -> None:
    took = {}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name, url in {
            "help": None,
            "away": "http://127.0.0.1:1",
            "no socket file": f"ipc://{tmp_path}/x",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "no address": "nonsense",
        }.items():
            began = time.perf_counter()
            words = "inferoxy infer --sav" if url is None else "inferoxy infer d"
            assert offered(words, tmp_path, url or "") == (["--save", "--save-as"] if url is None else [])
            took[name] = time.perf_counter() - began
    assert max(took.values()) - took["help"] < 2.0, took
