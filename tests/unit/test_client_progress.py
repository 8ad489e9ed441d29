"""How far many requests have come, as a line and as numbers."""

import io

import pytest

from inferoxy.client.pictures import load
from inferoxy.client.progress import CLEAR_LINE, line_of, telling
from inferoxy.errors import InvalidRequest


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_says_how_many_how_fast_and_how_long_it_will_take() -> None:
    assert line_of("detector", 50, 200, 2.0) == f"detector {'━' * 6}{'╌' * 18}  50/200  25.0/s  0:06 left"
    assert line_of("detector", 1, 4_000, 1.0).endswith("  1/4000  1.0/s  1:06:39 left")


def test_where_the_number_is_not_known_the_time_gone_stands_instead() -> None:
    assert line_of("detector", 50, None, 75.0) == "detector  50  0.7/s  1:15"


def test_nothing_done_and_nothing_to_do_can_be_shown() -> None:
    assert line_of("m", 0, 10, 0.0) == f"m {'╌' * 24}  0/10  0.0/s"
    assert line_of("m", 0, 0, 0.5) == f"m {'━' * 24}  0/0  0.0/s"


def test_the_last_state_stays_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with telling(True, 500, "m") as tell:
        for done in range(1, 501):
            tell(done, 500)
    lines = terminal.getvalue().split(CLEAR_LINE)
    assert "500/500" in lines[-1]
    assert lines[-1].endswith("\n")
    assert len(lines) < 100


def test_the_line_ends_also_when_what_it_shows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with pytest.raises(InvalidRequest), telling(True, None, "m"):
        load(b"")
    assert terminal.getvalue().endswith("\n")


def test_nothing_is_written_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    for progress in (True, False):
        with telling(progress, 2, "m") as tell:
            tell(1, 2)
    assert file.getvalue() == ""


def test_a_function_is_told_all() -> None:
    told: list[tuple[int, int | None]] = []
    with telling(lambda done, total: told.append((done, total)), 2, "m") as tell:
        tell(1, 2)
        tell(2, 2)
    assert told == [(1, 2), (2, 2)]
