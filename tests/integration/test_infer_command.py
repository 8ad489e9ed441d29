"""Claims about `inferoxy infer` as a person meets it, and about the ZeroMQ bridge on a unix socket."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from inferoxy.cli.infer import targets_for
from inferoxy.client import Client
from inferoxy.errors import InvalidRequest
from tests.integration.client_models import SAMPLE, write_models
from tests.integration.stack import Stack, wait_until


class Served:
    """A stack whose ZeroMQ bridge has a socket file."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.rest_url
        self.socket = stack.zmq_endpoint


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("m")
    with Stack(write_models(folder), grpc="", zmq=f"ipc://{folder}/z.sock") as stack:
        with Client(stack.rest_url) as client:
            wait_until(client.is_ready, 10.0)
            client.predict("detector", SAMPLE)
        yield Served(stack)


def infer(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {k: v for k, v in os.environ.items() if not k.startswith("INFEROXY_")} | environment
    command = [sys.executable, "-m", "inferoxy", "infer", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False, env=known)
    assert "Traceback" not in done.stderr
    return done


def test_a_table_shows_class_confidence_and_box(served: Served) -> None:
    done = infer("detector", SAMPLE, "--url", served.url)
    with Client(served.url) as client:
        found = client.predict("detector", SAMPLE)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{SAMPLE}: {len(found)} objects" in done.stdout
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    assert [row[1].strip() for row in rows] == found.class_name
    assert [row[2].strip() for row in rows] == [f"{confidence:.3f}" for confidence in found.confidence]
    assert rows[0][3].split() == [f"{edge:.1f}" for edge in found.boxes[0]]
    assert "detector version 1: queue" in done.stdout


def test_a_long_file_name_stays_on_one_line(served: Served, tmp_path: Path) -> None:
    picture = tmp_path / ("a-camera-at-the-gate-" * 8 + ".jpg")
    picture.write_bytes(SAMPLE.read_bytes())
    done = infer("detector", picture, "--url", served.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith(f"{picture}: ")


def test_json_is_one_document_with_the_whole_answer(served: Served) -> None:
    done = infer("detector", SAMPLE, "--url", served.url, "--json", "--confidence", "0.9")
    content: dict[str, Any] = json.loads(done.stdout)
    with Client(served.url) as client:
        found = client.predict("detector", SAMPLE, confidence=0.9)
    assert done.returncode == 0
    assert content["prediction"] == found.value
    assert (content["file"], content["model"], content["version"]) == (str(SAMPLE), "detector", "1")
    assert content["served"]["batch_size"] >= 1
    assert 0 < len(found.class_name) < 10


def test_the_address_may_come_from_the_environment_and_be_any_protocol_s(served: Served) -> None:
    assert served.socket.startswith("ipc://")
    done = infer("detector", SAMPLE, "--json", INFEROXY_URL=served.socket)
    assert len(json.loads(done.stdout)["prediction"]["boxes"]) >= 5
    assert done.returncode == 0


@pytest.mark.parametrize(("name", "magic"), [("drawn.jpg", b"\xff\xd8\xff"), ("drawn.PNG", b"\x89PNG")])
def test_the_drawn_picture_is_saved_in_the_form_its_name_says(
    served: Served, tmp_path: Path, name: str, magic: bytes
) -> None:
    target = tmp_path / name
    done = infer("detector", SAMPLE, "--url", served.url, "--save", target)
    assert done.returncode == 0
    assert f"drawn: {target}" in done.stdout
    assert target.read_bytes().startswith(magic)
    assert cv2.imread(str(target)).shape == cv2.imread(str(SAMPLE)).shape


def test_several_pictures_are_saved_into_a_folder_and_listed(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = infer("detector", SAMPLE, SAMPLE, "--url", served.url, "--save", folder, "--json")
    first, second = json.loads(done.stdout)
    assert done.returncode == 0
    assert first["prediction"] == second["prediction"]
    assert sorted(path.name for path in folder.iterdir()) == ["sample-drawn-2.jpg", "sample-drawn.jpg"]


def test_a_bad_picture_hides_no_good_one(served: Served, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(SAMPLE.read_bytes()[:5000])
    done = infer("detector", bad, SAMPLE, "--url", served.url, "--json")
    first, second = json.loads(done.stdout)
    assert done.returncode == 2
    assert (first["code"], first["file"]) == ("INVALID_REQUEST", str(bad))
    assert len(second["prediction"]["boxes"]) >= 5
    assert done.stderr.startswith(f"error: {bad}: picture: truncated JPEG")
    assert len(done.stderr.splitlines()) == 1


def test_other_predictions_are_shown_as_json(served: Served) -> None:
    done = infer("mean", SAMPLE, "--url", served.url)
    assert done.returncode == 0
    assert '"mean"' in done.stdout


def test_a_model_that_draws_nothing_leaves_nothing_saved(served: Served, tmp_path: Path) -> None:
    done = infer("count", SAMPLE, "--url", served.socket, "--save", tmp_path / "x.jpg")
    assert done.returncode == 1
    assert done.stderr == f"error: {SAMPLE}: the model gave no drawn picture to save\n"
    assert not list(tmp_path.iterdir())


def test_what_the_model_raises_is_one_line_and_exit_code_1(served: Served, tmp_path: Path) -> None:
    done = infer("broken", SAMPLE, "--url", served.url, "--timeout", "20")
    assert done.returncode == 1
    assert "the weights are not there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nobody", SAMPLE), 2, "known models: broken, count, detector, mean, scale, words"),
        (("detector@9", SAMPLE), 2, "version '9' is not found"),
        (("detector", "nothing.jpg"), 2, "error: nothing.jpg: no such file or directory"),
        (("detector", "/"), 2, "error: /: is a directory"),
        (("detector", SAMPLE, "--save", "x.gif"), 2, "expected a name ending in .jpg, .jpeg, .png, found x.gif"),
        (("detector", SAMPLE, "--confidence", "7"), 2, "'--confidence'"),
        (("detector", SAMPLE, "--timeout", "0"), 2, "timeout_s: expected more than 0"),
        (("detector",), 2, "Missing argument"),
    ],
)
def test_bad_input_is_one_clear_line(served: Served, arguments: tuple[Any, ...], code: int, message: str) -> None:
    done = infer(*arguments, "--url", served.url)
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_server_that_is_not_there_is_exit_code_1_and_says_what_to_check() -> None:
    done = infer("detector", SAMPLE, "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot connect to http://127.0.0.1:1")
    assert "`inferoxy up`" in done.stderr


def test_an_address_without_a_protocol_is_bad_input() -> None:
    done = infer("detector", SAMPLE, "--url", "127.0.0.1:8698")
    assert done.returncode == 2
    assert "did you mean http://127.0.0.1:8698?" in done.stderr


def test_one_file_name_for_several_pictures_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"expected a folder for 2 pictures, found the file name a\.jpg"):
        targets_for([Path("1.jpg"), Path("2.jpg")], Path("a.jpg"))
    with pytest.raises(InvalidRequest, match="there is no folder"):
        targets_for([Path("1.jpg")], Path("nowhere/a.jpg"))
    assert targets_for([Path("1.jpg")], None) == []
    assert targets_for([Path("a/1.jpg"), Path("b/1.png")], Path("new")) == [
        Path("new/1-drawn.jpg"),
        Path("new/1-drawn-2.jpg"),
    ]
