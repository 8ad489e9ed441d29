"""docs/cli.md says what `inferoxy infer` does."""

import re
from pathlib import Path

import typer.main

from inferoxy.cli import make_app
from inferoxy.cli.infer.inputs import PICTURES, VIDEOS
from inferoxy.cli.infer.results import COLUMNS

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
ELSEWHERE = {"--help", "--install-completion", "--show-completion"}


def test_every_option_is_documented_and_every_documented_option_exists() -> None:
    group = typer.main.get_command(make_app())
    command = group.commands["infer"]  # type: ignore[attr-defined]
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("--")}
    documented = set(re.findall(r"--[a-z][a-z-]*", TEXT))
    assert documented - ELSEWHERE == options - {"--parameter"} - ELSEWHERE


def test_the_head_of_rows_is_the_documented_one() -> None:
    assert re.findall(r"```csv\n(.*)\n```", TEXT) == [",".join(COLUMNS)]


def test_every_kind_of_file_is_documented() -> None:
    for suffix in PICTURES + VIDEOS:
        assert suffix in TEXT
