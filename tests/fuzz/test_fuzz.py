"""Ten thousand inputs crash nothing, and whatever does would be found."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest

from inferoxy.errors import InferoxyError, InternalError, InvalidRequest
from tests.fuzz import command, engine
from tests.fuzz.catalog import TARGETS, divided
from tests.fuzz.engine import Crash, Tally
from tests.fuzz.processes import run_apart
from tests.fuzz.target import Input

ROOT = Path(__file__).parents[2]
INPUTS = 10_000
SEED, COUNT = 1, 8  # of the inputs of Numbers
BAD = 3  # the number of the one input that is too much


class Numbers:
    """Its inputs are their numbers; number BAD does what `fail` does."""

    name = "numbers"
    by_chance: ClassVar[dict[float, int]] = {Random(f"{SEED} numbers {n}").random(): n for n in range(COUNT)}

    def make(self, chance: Random) -> Input:
        return [bytes([self.by_chance[chance.random()]])]

    def run(self, given: Input) -> None:
        number = given[0][0]
        if number == BAD:
            self.fail()
        if number % 2:
            raise InvalidRequest("odd")

    def fail(self) -> None:
        """Nothing is wrong."""


class Dies(Numbers):
    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Eats(Numbers):
    def fail(self) -> None:
        assert len(bytearray(b"x") * (engine.MEMORY_BYTES + (64 << 20)))


def found(target: type[Numbers]) -> Tally:
    return engine.run(target(), SEED, range(COUNT))


@pytest.mark.timeout(90)
def test_no_input_crashes_anything() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--inputs", str(INPUTS)],
        cwd=ROOT, capture_output=True, text=True, timeout=80, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    last = re.fullmatch(r"fuzz: inputs (\d+) crashes 0", done.stdout.splitlines()[-1])
    assert last is not None, done.stdout
    assert int(last[1]) >= INPUTS


def test_every_target_accepts_some_inputs_and_refuses_some() -> None:
    for name, made in TARGETS.items():
        tally = engine.run(made(), 7, range(300))
        assert tally.accepted >= 10, name
        assert tally.refused >= 10, name
        assert not tally.crashes, name


def test_an_input_is_the_same_whatever_was_made_before() -> None:
    for made in TARGETS.values():
        target = made()
        first = engine.make(target, 5, 77)
        engine.make(target, 5, 78)
        assert engine.make(target, 5, 77) == first == engine.make(made(), 5, 77)
        assert engine.make(target, 6, 77) != first


def test_refusals_are_counted_and_no_crash() -> None:
    tally = found(Numbers)
    assert (tally.inputs, tally.accepted, tally.refused, tally.crashes) == (8, 4, 4, [])


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), RecursionError(), InternalError("x")])
def test_an_exception_that_is_no_refusal_is_a_crash(error: Exception) -> None:
    class Raises(Numbers):
        def fail(self) -> None:
            raise error

    tally = found(Raises)
    assert [crash.number for crash in tally.crashes] == [BAD]
    assert type(error).__name__ in tally.crashes[0].why
    assert tally.inputs == COUNT


def test_an_input_that_takes_for_ever_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hangs(Numbers):
        def fail(self) -> None:
            while True:
                time.sleep(0.01)

    monkeypatch.setattr(engine, "HANG_S", 0.1)
    assert next(crash.number for crash in found(Hangs).crashes) == BAD


@pytest.mark.timeout(60)
def test_an_input_that_takes_too_much_memory_is_a_crash() -> None:
    tally = run_apart(Eats, SEED, COUNT)
    assert [(crash.number, crash.where) for crash in tally.crashes] == [(BAD, "memory")]
    assert tally.inputs == COUNT


@pytest.mark.timeout(60)
def test_the_end_of_the_process_is_a_crash_of_its_input_and_the_others_are_run() -> None:
    tally = run_apart(Dies, SEED, COUNT)
    assert [(crash.number, crash.where) for crash in tally.crashes] == [(BAD, "process")]
    assert tally.inputs == COUNT


def test_a_kept_input_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "CRASHES", tmp_path / "kept")
    given = [b"a=1&sequence_end=true", b"\xff\0"]
    path = command.keep(Crash("query", 7, "somewhere", "why"), given)
    assert command.main(["--replay", str(path)]) == 0
    assert capsys.readouterr().out == "refused\n"
    with pytest.raises(InferoxyError, match="sequence_id: expected with"):
        TARGETS["query"]().run(given)


def test_targets_share_the_inputs() -> None:
    counts = divided(1_000, ["query", "v2", "pictures"])
    assert sum(counts.values()) >= 1_000
    assert counts["v2"] == counts["pictures"] > counts["query"] > 0
