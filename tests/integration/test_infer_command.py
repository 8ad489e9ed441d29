"""Claims about `inferoxy infer` as a person meets it, over all addresses, with pictures, videos and tensors."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inferoxy.cli import run
from inferoxy.client import Client
from tests.integration.client_models import SAMPLE, url_of, write_models
from tests.integration.stack import Stack, wait_until
from tests.integration.terminal import Terminal

FOLLOW = '''
"""Numbers the pictures of a sequence from 1: as the track of the only box."""
seen = []


def init(**options):
    seen.clear()
    seen.append(options.get("first", 1) - 1)


def predict_batch(samples, draw):
    results = []
    for sample in samples:
        seen.append(seen[-1] + 1 if seen else 1)
        if seen[-1] == sample.get("fail_at"):
            raise ValueError(f"not number {seen[-1]}")
        height, width = sample["image"].shape[:2]
        prediction = {
            "boxes": [[0, 0, width, height]], "confidence": [0.5], "class_id": [3], "class_name": ["all, of it"],
            "track_id": [seen[-1]],
        }
        results.append({"prediction": prediction, "image": 255 - sample["image"]})
    return results
'''
FPS = 12.5
WIDTH, STEP = 320, 8  # of numbered frames: the left part is white, so many columns more in each
TRACKED = ["-p", "init={}"]


class Served:
    """A stack whose ZeroMQ bridge has a socket file."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.rest_url
        self.socket = stack.zmq_endpoint
        self.urls = {protocol: url_of(stack, protocol) for protocol in ("http", "grpc", "zmq")}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("m")
    models = write_models(folder)
    for name, settings in (("follow", "stateless: false, batch_size: 4"), ("narrow", "queue_size: 1")):
        (folder / name).mkdir()
        source = FOLLOW if name == "follow" else (folder / "mean" / "model.py").read_text()
        (folder / name / "model.py").write_text(source)
        models += f"{name}: {{artifact: {folder / name}, runtime: python, {settings}}}\n"
    with Stack(models, zmq=f"ipc://{folder}/z.sock") as stack:
        for protocol in ("http", "grpc", "zmq"):
            with Client(url_of(stack, protocol)) as client:
                wait_until(client.is_ready, 10.0)
        with Client(stack.rest_url) as client:
            client.predict("detector", SAMPLE)
        yield Served(stack)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame n has n * STEP white columns, of 20 frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, 48))
    for number in range(20):
        image = np.zeros((48, WIDTH, 3), np.uint8)
        image[:, : number * STEP] = 255
        writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 frames."""
    path = tmp_path_factory.mktemp("clip") / "long.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (64, 48))
    for number in range(400):
        writer.write(np.full((48, 64, 3), number % 256, np.uint8))
    writer.release()
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "inferoxy", "infer", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("INFEROXY_")} | more


def infer(
    *arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), input=stdin, capture_output=True, timeout=60.0, check=False, cwd=cwd,
        env=environment(**variables),
    )  # fmt: skip
    out, err = (text.decode() for text in (done.stdout, done.stderr))
    assert "Traceback" not in err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def frames_of(movie: Path) -> tuple[list[np.ndarray], float]:
    reader = cv2.VideoCapture(str(movie))
    frames = []
    while (found := reader.read())[0]:
        frames.append(found[1])
    fps = reader.get(cv2.CAP_PROP_FPS)
    reader.release()
    return frames, fps


def white_columns(image: np.ndarray) -> int:
    return int((image[24, :, 1] > 128).sum())


# Pictures


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


def test_a_json_line_has_the_whole_answer(served: Served) -> None:
    done = infer("detector", SAMPLE, "--url", served.url, "--json", "-", "--confidence", "0.9")
    (content,) = lines_of(done.stdout)
    with Client(served.url) as client:
        found = client.predict("detector", SAMPLE, confidence=0.9)
    assert (done.returncode, done.stderr) == (0, "")
    assert content["prediction"] == found.value
    assert (content["path"], content["model"], content["version"]) == (str(SAMPLE), "detector", "1")
    assert content["served"]["batch_size"] >= 1
    assert 0 < len(found.class_name) < 10


def test_the_address_may_come_from_the_environment_and_be_any_protocol_s(served: Served) -> None:
    assert served.socket.startswith("ipc://")
    answers = []
    for url in served.urls.values():
        done = infer("detector", SAMPLE, SAMPLE, "--json", "-", INFEROXY_URL=url)
        assert done.returncode == 0
        answers += [line["prediction"] for line in lines_of(done.stdout)]
    assert len(answers[0]["boxes"]) >= 5
    assert answers == [answers[0]] * 6


def test_parameters_reach_the_model_as_json_or_text(served: Served) -> None:
    given = ["-p", "level=3", "-p", "mode=fast", "-p", "flags=[1, 2]", "-p", 'name="7"']
    done = infer("mean", SAMPLE, "--url", served.url, "--json", "-", *given)
    (content,) = lines_of(done.stdout)
    known = content["prediction"]["known"]
    assert {name: known[name] for name in ("level", "mode", "flags", "name")} == {
        "level": 3, "mode": "fast", "flags": [1, 2], "name": "7",
    }  # fmt: skip


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
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_asked_in_order_and_drawn_pictures_lie_as_it_lay(served: Served, tmp_path: Path) -> None:
    for name in ("cam/2.jpg", "cam/10.jpg", "cam/.hidden.jpg", "gate/2.jpg", "notes.txt"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLE, tmp_path / "photos" / name)
    arguments = ("detector", "photos", "--url", served.url, "--save", "photos/drawn", "--save-as", "png")
    names = ["cam/2", "cam/10", "gate/2"]
    for _ in range(2):  # the second time there are drawn pictures in the folder, which are no input
        done = infer(*arguments, cwd=tmp_path)
        assert done.returncode == 0
        said = [
            re.match(r"photos/(.+)\.jpg: \d+ objects \(.+\), drawn: (.+)$", line) for line in done.stdout.splitlines()
        ]
        assert [found.groups() if found else None for found in said] == [(n, f"photos/drawn/{n}.png") for n in names]
        assert re.fullmatch(r"3 pictures, in [\d.]+ s \([\d.,]+/s\)\n", done.stderr)
    drawn = sorted(str(path.relative_to(tmp_path / "photos/drawn")) for path in tmp_path.glob("photos/drawn/**/*.*"))
    assert drawn == ["cam/10.png", "cam/2.png", "gate/2.png"]


def test_the_same_picture_twice_is_two_files(served: Served, tmp_path: Path) -> None:
    done = infer("detector", SAMPLE, SAMPLE, "--url", served.url, "--save", tmp_path, "--json", "-")
    first, second = lines_of(done.stdout)
    assert done.returncode == 0
    assert first["prediction"] == second["prediction"]
    assert [first["saved"], second["saved"]] == [str(tmp_path / "sample.jpg"), str(tmp_path / "sample-2.jpg")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sample-2.jpg", "sample.jpg"]


def test_a_quoted_pattern_and_standard_input_are_inputs(served: Served, tmp_path: Path) -> None:
    for name in ("a1.jpg", "a2.jpg", "b.jpg"):
        shutil.copy(SAMPLE, tmp_path / name)
    done = infer("detector", "a*.jpg", "-", "--json", "-", "--url", served.url, cwd=tmp_path, stdin=SAMPLE.read_bytes())
    assert done.returncode == 0
    assert [line["path"] for line in lines_of(done.stdout)] == ["a1.jpg", "a2.jpg", "-"]


def test_a_bad_picture_hides_no_good_one_and_is_told_in_its_place(served: Served, tmp_path: Path) -> None:
    bad, text, good = tmp_path / "bad.jpg", tmp_path / "text.jpg", tmp_path / "good.jpg"
    shutil.copy(SAMPLE, good)
    bad.write_bytes(SAMPLE.read_bytes()[:5000])
    text.write_text("no picture")
    arguments = [text, good, bad, text, good]
    done = infer("detector", *arguments, "--url", served.url, "--json", "-", "--save", tmp_path / "out")
    lines = lines_of(done.stdout)
    assert done.returncode == 1
    assert [line["path"] for line in lines] == [str(path) for path in arguments]
    assert [line.get("code") for line in lines] == ["INVALID_REQUEST", None, "INVALID_REQUEST", "INVALID_REQUEST", None]
    told = done.stderr.splitlines()
    assert told[0].startswith(f"error: {text}: picture: expected a JPEG, PNG or WebP picture, found 10 bytes")
    assert told[1].startswith(f"error: {bad}: picture: truncated JPEG")
    assert re.fullmatch(r"5 pictures, 3 failed, in .+/s\); written: 2 drawn pictures", told[3])
    assert len(told) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good-2.jpg", "good.jpg"]


def test_rows_and_lines_may_be_written_at_once_and_say_the_same(served: Served, tmp_path: Path) -> None:
    picture = tmp_path / 'gate, "north".jpg'
    shutil.copy(SAMPLE, picture)
    rows_file, lines_file = tmp_path / "r.csv", tmp_path / "l.jsonl"
    done = infer("detector", picture, SAMPLE, "--url", served.url, "--csv", rows_file, "--json", lines_file)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith(f"; written: {lines_file}, {rows_file}\n")
    rows, lines = rows_of(rows_file.read_bytes().decode()), lines_of(lines_file.read_text())
    assert rows_file.read_bytes().count(b"\r\n") == len(rows) + 1
    for line in lines:
        own = [row for row in rows if row["path"] == line["path"]]
        assert [[float(row[edge]) for edge in ("x1", "y1", "x2", "y2")] for row in own] == line["prediction"]["boxes"]
        assert [row["class_name"] for row in own] == line["prediction"]["class_name"]
        assert {(row["frame"], row["time_s"], row["track_id"]) for row in own} == {("", "", "")}
    assert {row["path"] for row in rows} == {str(picture), str(SAMPLE)}


def test_other_predictions_are_shown_as_json_and_are_no_rows(served: Served) -> None:
    done = infer("mean", SAMPLE, "--url", served.url)
    assert done.returncode == 0
    assert '"mean"' in done.stdout
    done = infer("mean", SAMPLE, SAMPLE, "--url", served.url)
    assert done.stdout.startswith(f'{SAMPLE}: {{"mean": [')
    done = infer("mean", SAMPLE, SAMPLE, "--url", served.url, "--csv", "-")
    assert done.returncode == 2
    assert done.stderr == "error: --csv: expected a prediction with boxes, found mean, shape, known; use --json\n"


def test_a_model_that_draws_nothing_leaves_nothing_saved(served: Served, tmp_path: Path) -> None:
    done = infer("count", SAMPLE, "--url", served.socket, "--save", tmp_path / "x.jpg")
    assert done.returncode == 1
    assert done.stderr == f"error: {SAMPLE}: the model gave no drawn picture to save\n"
    assert not list(tmp_path.iterdir())


def test_all_answers_of_a_model_that_gives_several_are_in_the_line(served: Served) -> None:
    (line,) = lines_of(infer("count", SAMPLE, "--url", served.socket, "--json", "-").stdout)
    assert [part["step"] for part in line["parts"]] == [1, 2, 3]
    assert line["prediction"]["step"] == 3


def test_a_crowded_server_is_asked_again(served: Served) -> None:
    done = infer("narrow", *[SAMPLE] * 8, "--url", served.url, "--json", "-", "-p", "sleep_s=0.1", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert len([line for line in lines_of(done.stdout) if "prediction" in line]) == 8


# Videos


@pytest.mark.parametrize("protocol", ["http", "grpc", "zmq"])
def test_a_video_s_frames_are_asked_about_in_order(served: Served, clip: Path, protocol: str) -> None:
    done = infer("mean", clip, "--url", served.urls[protocol], "--json", "-", "--every", "3", "--start", "0.16")
    lines = lines_of(done.stdout)
    assert done.returncode == 0
    assert [line["frame"] for line in lines] == list(range(2, 20, 3))
    assert [line["time_s"] for line in lines] == pytest.approx([number / FPS for number in range(2, 20, 3)])
    shades = [line["prediction"]["mean"][0] * WIDTH / 255 / STEP for line in lines]
    assert shades == pytest.approx(list(range(2, 20, 3)), abs=0.2)
    assert re.match(r"6 frames, in ", done.stderr)


def test_a_drawn_video_has_its_size_its_speed_and_its_frames(served: Served, clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    done = infer("mean", clip, "--url", served.url, "--save", target)
    assert done.returncode == 0
    assert done.stdout == f"{clip}: 20 frames, drawn: {target}\n"
    frames, fps = frames_of(target)
    assert fps == pytest.approx(FPS)
    assert {frame.shape for frame in frames} == {(48, WIDTH, 3)}
    assert [WIDTH - white_columns(frame) for frame in frames] == pytest.approx([n * STEP for n in range(20)], abs=2)


def test_left_out_frames_leave_a_drawn_video_as_long(served: Served, clip: Path, tmp_path: Path) -> None:
    assert infer("mean", clip, SAMPLE, "--url", served.url, "--save", tmp_path, "--every", "4").returncode == 0
    common = os.path.commonpath([clip, SAMPLE])
    frames, fps = frames_of(tmp_path / clip.relative_to(common).with_suffix(".mp4"))
    assert (len(frames), fps) == (5, pytest.approx(FPS / 4))
    assert (tmp_path / SAMPLE.relative_to(common)).exists()


@pytest.mark.parametrize("protocol", ["http", "grpc", "zmq"])
def test_each_video_is_a_sequence_of_its_own_for_a_stateful_model(
    served: Served, clip: Path, tmp_path: Path, protocol: str
) -> None:
    arguments = ("follow", clip, clip, "--url", served.urls[protocol], *TRACKED, "--save", tmp_path, "--csv", "-")
    done = infer(*arguments)
    assert done.returncode == 0
    rows = rows_of(done.stdout)
    assert [int(row["frame"]) for row in rows] == list(range(20)) * 2
    assert [int(row["track_id"]) for row in rows] == list(range(1, 21)) * 2
    assert {row["class_name"] for row in rows} == {"all, of it"}
    for name in ("clip.mp4", "clip-2.mp4"):
        frames, fps = frames_of(tmp_path / name)
        assert (len(frames), fps) == (20, pytest.approx(FPS))
        assert WIDTH - white_columns(frames[10]) == pytest.approx(10 * STEP, abs=2)


def test_the_pictures_for_a_stateful_model_are_one_sequence_also_around_a_bad_one(
    served: Served, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    done = infer("follow", SAMPLE, bad, SAMPLE, SAMPLE, "--url", served.socket, *TRACKED, "--json", "-")
    assert done.returncode == 1
    lines = lines_of(done.stdout)
    assert [line.get("prediction", {}).get("track_id") for line in lines] == [[1], None, [2], [3]]
    refused = infer("follow", SAMPLE, "--url", served.socket, "--no-sequence")
    assert (refused.returncode, refused.stderr) == (2, "error: model 'follow' is stateful: leave out --no-sequence\n")


def test_a_sequence_ends_with_a_failure_and_says_what_was_not_asked(served: Served, clip: Path, tmp_path: Path) -> None:
    fails = ["--window", "1", "--url", served.socket, *TRACKED, "-p", "fail_at=3", "--json", "-"]
    done = infer("follow", *[SAMPLE] * 5, *fails)
    lines = lines_of(done.stdout)
    assert done.returncode == 1
    assert [line.get("code") for line in lines] == [None, None, "MODEL_ERROR", "SEQUENCE_LOST", "SEQUENCE_LOST"]
    assert done.stderr.count("not asked: the sequence ended with ") == 2
    done = infer("follow", clip, clip, *fails, "--save", tmp_path)
    lines = lines_of(done.stdout)
    assert [line["frame"] for line in lines] == [0, 1, 2] * 2
    assert done.stderr.count(f"error: {clip} frame 2: ") == 2
    assert len(frames_of(tmp_path / "clip.mp4")[0]) == 3


def test_frames_that_fail_are_told_and_stand_undrawn_in_the_movie(served: Served, clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.mp4"
    done = infer("mean", clip, "--url", served.url, "--save", target, "-p", "anger=1")
    told = done.stderr.splitlines()
    assert done.returncode == 1
    assert [line.split(": ")[1] for line in told[:5]] == [f"{clip} frame {number}" for number in range(5)]
    assert told[5] == f"error: {clip}: 15 more frames failed"
    assert told[6].startswith("20 frames, 20 failed, in ")
    frames, _ = frames_of(target)
    assert [white_columns(frame) for frame in frames] == pytest.approx([n * STEP for n in range(20)], abs=2)


def test_a_file_that_is_no_video_and_a_part_that_is_empty_are_told(served: Served, clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    done = infer("mean", bad, clip, "--url", served.url, "--start", "9", "--duration", "2")
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        f"error: {bad}: OpenCV finds no video in it",
        f"error: {clip}: no frame of it is wanted: asked for it from second 9 for 2 s, and it is 1.6 s long",
    ]
    assert done.stdout == ""


def test_videos_without_opencv_say_what_to_install(served: Served, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    done = infer("mean", clip, "--url", served.url, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: videos need OpenCV: pip install 'inferoxy[vision]' (libGL.so.1")
    assert infer("mean", SAMPLE, "--url", served.url, PYTHONPATH=str(tmp_path)).returncode == 0


# Ends that come early


@pytest.mark.parametrize(("number", "protocol"), [(signal.SIGINT, "http"), (signal.SIGTERM, "zmq")])
def test_what_is_interrupted_leaves_whole_files_and_says_how_far_it_came(
    served: Served, long_clip: Path, tmp_path: Path, number: signal.Signals, protocol: str
) -> None:
    lines_file, movie = tmp_path / "x.jsonl", tmp_path / "x.mp4"
    wishes = ("--save", movie, "--json", lines_file, "-p", "sleep_s=0.02", "--window", "4")
    process = subprocess.Popen(
        command("mean", long_clip, "--url", served.urls[protocol], *wishes), stderr=subprocess.PIPE, env=environment()
    )
    wait_until(lambda: lines_file.exists() and lines_file.read_bytes().count(b"\n") >= 10, 30.0)
    process.send_signal(number)
    sent = time.monotonic()
    told = process.communicate(timeout=20.0)[1].decode().splitlines()
    assert time.monotonic() - sent < 5.0
    assert process.returncode == 130
    lines = lines_of(lines_file.read_text())
    assert 10 <= len(lines) < 400
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert told[0].startswith(f"interrupted: {len(lines)} of 400 frames, in ")
    assert told[1] == f"complete up to there: {lines_file}, {movie}"
    assert len(frames_of(movie)[0]) == len(lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.jsonl", "x.mp4"]


def test_a_server_that_is_lost_on_the_way_is_exit_code_3(long_clip: Path, tmp_path: Path) -> None:
    lines_file = tmp_path / "x.jsonl"
    folder = tmp_path / "m"
    folder.mkdir()
    with Stack(write_models(folder), grpc="", zmq="") as stack:
        process = subprocess.Popen(
            command("mean", long_clip, "--url", stack.rest_url, "--json", lines_file, "-p", "sleep_s=0.02"),
            stderr=subprocess.PIPE,
            env=environment(),
        )
        wait_until(lambda: lines_file.exists() and lines_file.read_bytes().count(b"\n") >= 5, 40.0, stack.log)
        stack.kill("bridge_rest")
        told = process.communicate(timeout=40.0)[1].decode()
        lines = lines_of(lines_file.read_text())
        assert process.returncode == 3, told
        assert f"the server was lost: {len(lines)} of 400 frames, in " in told
        assert re.search(r"error: .*broke before the answer came", told)


def test_whoever_has_read_enough_of_the_output_ends_it_quietly(served: Served, long_clip: Path) -> None:
    process = subprocess.Popen(
        command("mean", long_clip, "--url", served.url, "--json", "-"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert b'"frame": 0' in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20.0) == 1


# What people see


def test_a_terminal_shows_a_bar_with_rate_and_failures_and_lines_above_it(
    served: Served, clip: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    with Terminal(command("mean", clip, bad, SAMPLE, "--url", served.url), environment(TERM="xterm")) as terminal:
        assert terminal.wait(30.0) == 1
        plain = terminal.plain()
    assert f"{clip}: 20 frames" in plain
    assert f"error: {bad}: picture: expected a JPEG" in plain
    assert re.search(r"pictures and frames .*22/22 +1 failed +[\d,.]+/s", plain)
    assert re.search(r"22 pictures and frames, 1 failed, in ", plain)


def test_quiet_says_nothing_but_errors(served: Served, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    done = infer("detector", SAMPLE, bad, "--url", served.url, "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {bad}: ")
    assert len(done.stderr.splitlines()) == 1


def test_what_the_model_raises_is_one_line_and_exit_code_1(served: Served) -> None:
    done = infer("broken", SAMPLE, SAMPLE, "--url", served.url, "--timeout", "20")
    assert done.returncode == 1
    assert "the weights are not there" in done.stderr
    assert done.stderr.count(f"error: {SAMPLE}: ") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody", SAMPLE), "known models: broken, count, "),
        (("Detektor", SAMPLE), "model 'Detektor' is not registered; did you mean detector?"),
        (("detector@9", SAMPLE), "model 'detector' has no version '9'; known versions: 1"),
        (("detector", "nothing.jpg"), "error: nothing.jpg: no such file or directory"),
        (("detector", SAMPLE, "--save", "x.gif"), "expected a name ending in .jpg, .jpeg, .png for a picture"),
        (("detector", SAMPLE, "--save", SAMPLE), "is an input, which would be written over"),
        (("detector", SAMPLE, "--confidence", "7"), "'--confidence'"),
        (("detector", SAMPLE, "--timeout", "0"), "timeout_s: expected more than 0"),
        (("detector", SAMPLE, "--json", "-", "--csv", "-"), "expected one of them on standard output at most"),
        (("detector", "--json", "--quiet", SAMPLE), "--json: expected a file name, or - for standard output"),
        (("detector", SAMPLE, "-p", "priority=3"), "say it with --priority"),
        (("detector", SAMPLE, "--output", "x.npz"), "--output is for tensors"),
        (("detector", SAMPLE, "--json"), "'--json' requires an argument"),
        (("detector",), "Missing argument 'PATH…'"),
        (("scale", "--inputs", "nothing.npz"), "--inputs: nothing.npz: no such file or directory"),
        (("scale", "--inputs", SAMPLE), "expected an .npz file"),
        (("scale", SAMPLE, "--inputs", "x.npz"), "PATH is not for tensors"),
    ],
)
def test_bad_input_is_one_clear_line(
    served: Served, capsys: pytest.CaptureFixture[str], arguments: tuple[Any, ...], message: str
) -> None:
    assert run(["infer", "--url", served.url, *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "grpc://127.0.0.1:1", "tcp://127.0.0.1:1", "ipc:///nowhere/x"])
def test_a_server_that_is_not_there_is_exit_code_3_and_says_what_to_check(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["infer", "detector", str(SAMPLE), "--url", url]) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"error: cannot connect to {url}")
    assert "`inferoxy up`" in told


def test_an_address_without_a_protocol_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["infer", "detector", str(SAMPLE), "--url", "127.0.0.1:8698"]) == 2
    assert "did you mean http://127.0.0.1:8698?" in capsys.readouterr().err


# Tensors


@pytest.mark.parametrize("protocol", ["http", "grpc", "zmq"])
def test_tensors_come_from_a_file_and_go_into_one(served: Served, tmp_path: Path, protocol: str) -> None:
    given = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.savez(tmp_path / "in.npz", IN=given)
    arguments = ("--inputs", tmp_path / "in.npz", "--output", tmp_path / "out.npz", "--url", served.urls[protocol])
    done = infer("scale", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("│")[1].strip() for line in done.stdout.splitlines() if line.startswith("│")] == [
        "DOUBLE",
        "SUM",
    ]
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["DOUBLE"], given * 2)
        np.testing.assert_array_equal(found["SUM"], given.sum(1, keepdims=True))
    (line,) = lines_of(infer("scale", *arguments, "--json", "-").stdout)
    assert line["outputs"]["SUM"] == {"datatype": "FP32", "shape": [2, 1], "data": [[6.0], [22.0]]}


def test_texts_are_tensors_too(served: Served, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", WORDS=np.array(["abc", "ö"]))
    done = infer("words", "--inputs", tmp_path / "in.npz", "--output", tmp_path / "out.npz", "--url", served.url)
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(tmp_path / "out.npz") as found:
        assert found["UPPER"].tolist() == [b"ABC", "ö".encode()]
        assert found["LENGTH"].tolist() == [3, 2]


def test_a_model_that_takes_tensors_says_so_before_and_after_it_is_known(served: Served) -> None:
    for _ in range(2):
        done = infer("scale", SAMPLE, SAMPLE, "--url", served.url)
        assert done.returncode == 2
        assert done.stderr == (
            "error: model 'scale' takes tensors (IN FP32 [-1, 4]), not pictures: give them with --inputs FILE.npz\n"
        )


def test_the_server_says_which_tensor_is_wrong(served: Served, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", IN=np.zeros((1, 4)))
    done = infer("scale", "--inputs", tmp_path / "in.npz", "--url", served.url)
    assert done.returncode == 2
    assert done.stderr == "error: input 'IN': expected datatype FP32, found FP64\n"
    np.savez(tmp_path / "object.npz", IN=np.array([{}], object))
    done = infer("scale", "--inputs", tmp_path / "object.npz", "--url", served.url)
    assert done.returncode == 2
    assert "expected an .npz file of numbers and texts" in done.stderr
