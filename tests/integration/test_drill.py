"""The failure drills still run: two of them, shortened, as `make drill` runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAST_LINE = re.compile(r"drill: requests (\d+) lost (\d+) wrong (\d+)")


@pytest.mark.parametrize("name", ["poison", "sigterm"])
@pytest.mark.timeout(90)
def test_a_shortened_drill_holds(name: str) -> None:
    command = [sys.executable, "-m", "tests.drill", "--quick", "--only", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert found is not None, done.stdout
    requests, lost, wrong = map(int, found.groups())
    assert requests > 200
    assert (lost, wrong) == (0, 0)


def test_an_unknown_drill_is_refused_with_the_names_of_those_there_are() -> None:
    command = [sys.executable, "-m", "tests.drill", "--only", "no-such-drill"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "expected names of instance-killed" in done.stderr
    assert "found no-such-drill" in done.stderr
