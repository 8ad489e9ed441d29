"""How far `inferoxy infer` is, where there is no terminal; with one see tests/integration/test_infer_command.py."""

import re

import pytest

from inferoxy.cli.infer import progress as infer_progress
from inferoxy.cli.infer.progress import Count


def test_the_end_says_amount_failures_time_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with Count("pictures", 1200) as count:
        count.add()
        count.add(done=1198)
        count.add(failed=1)
    assert re.fullmatch(r"1,200 pictures, 1 failed, in \d\.\d s \([\d,]+/s\)", count.line(is_end=True))
    assert capsys.readouterr() == ("", "")


def test_what_is_not_done_is_told_with_the_whole() -> None:
    count = Count("frames", 120)
    count.add(done=30)
    assert count.amount() == "30 of 120 frames"
    assert re.fullmatch(r"30 of 120 frames, [\d,.]+/s, \d\.\d s left", count.line())
    count.expect(30)
    assert count.amount() == "30 frames"
    assert Count("frames", None).amount() == "0 frames"
    one = Count("pictures", 1)
    one.add()
    assert one.amount() == "1 picture"


def test_a_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(infer_progress, "LINE_EVERY_S", 0.0)
    for quiet, shown in ((False, True), (True, False)):
        with Count("frames", 2, is_quiet=quiet) as count:
            count.add()
        assert capsys.readouterr().err.startswith("1 of 2 frames, ") is shown
    with Count("frames", 2, is_shown=False) as count:
        count.add()
    assert capsys.readouterr().err == ""


def test_quiet_keeps_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with Count("frames", 2, is_quiet=True) as count:
        count.say("a line")
        count.complain("bad")
    assert capsys.readouterr() == ("", "error: bad\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.14, "3.1 s"), (59.4, "59 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")]
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert infer_progress._duration(seconds) == text
