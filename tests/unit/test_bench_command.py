"""What `inferoxy bench` and the suite refuse before anything is sent."""

from pathlib import Path

import pytest

from inferoxy.bench.suite import __main__ as suite
from inferoxy.cli import run

NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--concurrency", "4", "--rate", "5"], "expected --concurrency or --rate, found both"),
        (["--tensor", "X:FP32:1", "--picture", "a.jpg"], "expected one of --picture, --tensor and --body"),
        (["--tensor", "X:FP32"], "expected NAME:DATATYPE:SHAPE"),
        (["--tensor", "X:FP32:1", "--concurrency", "0"], "--concurrency: expected positive whole numbers"),
        (["--tensor", "X:FP32:1", "--rate", "fast"], "--rate: expected positive numbers"),
        (["--tensor", "X:FP32:1", "--plot", "plot.pdf"], "plot: expected a file name ending in"),
        (["--tensor", "X:FP32:1", "--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder"),
        (["--tensor", "X:FP32:1", "--concurrency", "1", "--processes", "2"], "processes: expected at most 1"),
        (["--duration", "0"], "--duration"),
        (["--protocol", "v3"], "--protocol"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_one_reason(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "m", "--url", NOWHERE, *arguments]) == 2
    said = capsys.readouterr().err
    assert why in said
    assert "Traceback" not in said


def test_a_server_that_is_not_there_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "m", "--url", NOWHERE]) == 1
    assert f"cannot connect to {NOWHERE}" in capsys.readouterr().err


def test_the_suite_refuses_unknown_workloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        suite.main(["--only", "W9", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "expected workloads of W1, W2, W3, W4" in capsys.readouterr().err
