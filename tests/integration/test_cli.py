"""Claims about the `inferoxy` command as a person meets it: quick, clear about errors, right about a running stack."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from inferoxy import __version__
from tests.integration.stack import Stack, processes_of, wait_until

REPOSITORY = Path(__file__).parents[2]
MODELS = REPOSITORY / "examples" / "detector" / "models.yaml"
SAMPLE = REPOSITORY / "examples" / "detector" / "sample.jpg"
FREE = ["--rest=127.0.0.1:0", "--grpc=", "--zmq=", "--admin=127.0.0.1:0"]


def inferoxy(*arguments: str | Path, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inferoxy", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("INFEROXY_")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment, cwd=REPOSITORY
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(MODELS, grpc="", zmq="") as running:
        url = f"{running.rest_url}/v1/models/detector/predict"
        headers = {"content-type": "image/jpeg"}
        answer = httpx.post(url, content=SAMPLE.read_bytes(), headers=headers, timeout=60.0, trust_env=False)
        assert answer.status_code == 200
        wait_until(lambda: '"executed": 1' in inferoxy("status", f"--admin={running.admin_url}", "--json").stdout, 10.0)
        yield running


def test_help_comes_in_less_than_half_a_second() -> None:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        assert inferoxy("--help").returncode == 0
        took.append(time.perf_counter() - began)
    assert min(took) < 0.5


def test_version_is_the_packages() -> None:
    assert inferoxy("--version").stdout == f"inferoxy {__version__}\n"


def test_help_lists_every_command() -> None:
    text = inferoxy("--help").stdout
    for command in ("up", "infer", "models", "status", "demo", "bridge", "batch-manager", "task-manager"):
        assert command in text
    for arguments in (["up"], ["models", "list"], ["status"], ["demo"], ["bridge", "rest"], ["model-manager"]):
        assert inferoxy(*arguments, "--help").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["nope"], 2, "error: No such command 'nope'."),
        (["up", "--nope"], 2, "error: No such option: --nope"),
        (["up", "--launcher", "magic"], 2, "error: Invalid value for '--launcher'"),
        (
            ["up", "--rest", "here"],
            2,
            "error: settings: rest: expected HOST:PORT with a port of 0..65535, found 'here'",
        ),
        (["up", "--zmq", "here:1"], 2, "error: settings: zmq: expected tcp://HOST:PORT or ipc://PATH, found 'here:1'"),
        (["up", "--models", "/nowhere.yaml"], 2, "error: /nowhere.yaml: cannot be read: No such file or directory"),
        (["up", "--config", "/nowhere.yaml"], 2, "error: /nowhere.yaml: cannot be read: No such file or directory"),
        (["bridge", "rest", "--rest", ""], 2, "error: rest: expected an address, found none; give one with --rest"),
        (["models", "show"], 2, "error: Missing argument 'NAME[@VERSION]'."),
        (["demo", "--models", str(MODELS), "--picture", "gone.jpg"], 2, "error: gone.jpg: no such picture"),
    ],
)
def test_an_error_is_one_clear_line_and_a_code(
    arguments: list[str], code: int, error: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    where = [f"--data-dir={tmp_path}"] if arguments[0] in ("up", "bridge", "demo") else []
    done = inferoxy(*arguments, *where)
    assert done.returncode == code
    assert done.stderr.startswith(error)
    assert len(done.stderr.splitlines()) == 1


def test_no_stack_at_the_admin_address_is_told_with_what_to_do() -> None:
    for arguments in (["status"], ["models", "list"], ["models", "show", "detector"]):
        done = inferoxy(*arguments, "--admin", "127.0.0.1:1")
        assert done.returncode == 1
        assert done.stderr.startswith("error: no admin API answers at http://127.0.0.1:1 (")
        assert done.stderr.endswith("; start a stack with `inferoxy up` or name its address with --admin\n")


def test_status_shows_components_models_and_instances(stack: Stack) -> None:
    text = inferoxy("status", f"--admin={stack.admin_url}").stdout
    for word in ("supervisor", "model_manager", "batch_manager", "task_manager", "bridge_rest", "detector", "ready"):
        assert word in text
    wait_until(lambda: "shared memory" in inferoxy("status", f"--admin={stack.admin_url}").stdout, 5.0)
    found = json.loads(inferoxy("status", f"--admin={stack.admin_url}", "--json").stdout)
    assert [each["model"] for each in found["instances"]] == ["detector"]
    assert found["components"]["batch_manager"]["models"][0]["executed"] == 1


def test_models_list_and_show_tell_state_and_figures(stack: Stack) -> None:
    (listed,) = json.loads(inferoxy("models", "list", f"--admin={stack.admin_url}", "--json").stdout)
    assert (listed["name"], listed["load"]["state"], listed["load"]["executed"]) == ("detector", "ready", 1)
    assert "detector" in inferoxy("models", "list", f"--admin={stack.admin_url}").stdout
    shown = inferoxy("models", "show", "detector@1", f"--admin={stack.admin_url}").stdout
    assert "detector.onnx" in shown
    assert "ready" in shown
    missing = inferoxy("models", "show", "nobody", f"--admin={stack.admin_url}")
    assert missing.returncode == 1
    assert missing.stderr == "error: model 'nobody' is not registered\n"


def test_the_admin_address_may_come_from_the_environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "inferoxy", "models", "list"]
    environment = os.environ | {"INFEROXY_ADMIN": stack.admin_url.removeprefix("http://")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, env=environment)
    assert "detector" in done.stdout


def test_a_demo_ends_with_its_ok_line_and_the_drawn_picture(tmp_path: Path) -> None:
    done = inferoxy("demo", "--models", MODELS, "--picture", SAMPLE, f"--data-dir={tmp_path}", *FREE)
    assert done.returncode == 0, done.stderr
    drawn = tmp_path / "drawn" / "sample.jpg"
    last = done.stdout.splitlines()[-1]
    assert last.startswith("ok: ")
    assert last.endswith(f" objects in {SAMPLE}, drawn: {drawn}")
    assert int(last.split()[1]) > 0
    assert drawn.read_bytes().startswith(b"\xff\xd8")
    assert processes_of(tmp_path) == {}


def test_a_demo_says_why_it_failed(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    done = inferoxy("demo", "--models", MODELS, "--picture", text, f"--data-dir={tmp_path}", *FREE)
    assert done.returncode == 2
    assert "expected JPEG, PNG or WebP" in done.stderr
    assert "ok:" not in done.stdout
    model = tmp_path / "model.py"
    model.write_text("raise ValueError('will not load')\n")
    models = tmp_path / "models.yaml"
    models.write_text("broken: {artifact: model.py}\n")
    done = inferoxy("demo", "--models", models, "--picture", SAMPLE, f"--data-dir={tmp_path}", *FREE)
    assert done.returncode == 1
    assert "ValueError: will not load" in done.stderr
    assert processes_of(tmp_path) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_served_demo_ends_on_ctrl_c_within_five_seconds_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "inferoxy", "demo", "--serve", f"--models={MODELS}", f"--picture={SAMPLE}"]
    command += [f"--data-dir={tmp_path}", *FREE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        said = []
        while not said or "inferoxy status" not in said[-1]:
            line = process.stdout.readline()
            assert line, said
            said.append(line)
        rest = next(line.split()[1] for line in said if line.startswith("  rest "))
        assert httpx.get(f"{rest}/readyz", trust_env=False).status_code == 200
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 5.0
    assert processes_of(tmp_path) == {}
    assert not (tmp_path / "run").exists()
