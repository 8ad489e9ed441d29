"""`inferoxy infer`: ask a model about pictures, videos or tensors.

The options; what they do is run.py's for pictures and videos, tensors.py's for tensors.
Exit codes: 0 all is well, 1 something failed, 2 bad input, 3 the server cannot be reached, 130 interrupted.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from inferoxy.cli import print_error
from inferoxy.cli.complete import complete_model
from inferoxy.errors import InvalidRequest

URL = "http://127.0.0.1:8698"
EXIT_UNREACHABLE = 3

WRITTEN, VIDEOS, TENSORS = "What is written", "Videos", "Tensors"
EPILOG = """Examples: `inferoxy infer detector street.jpg` · `inferoxy infer detector photos/ --save drawn/` ·
`inferoxy infer follower clip.mp4 --save drawn.mp4 --csv tracks.csv`. All of it: docs/cli.md"""


class Encoded(StrEnum):
    """How drawn pictures are written into a folder."""

    JPEG = "jpeg"
    PNG = "png"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("infer", epilog=EPILOG)(infer)


def infer(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[@VERSION]", help="A registered model.", show_default=False, autocompletion=complete_model
        ),
    ],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH…",
            help="Pictures (JPEG, PNG, WebP), folders of them, videos, quoted patterns; - for standard input.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str,
        typer.Option("--url", envvar="INFEROXY_URL", help="Any bridge: http://…, grpc://…, tcp://… or ipc://…"),
    ] = URL,
    save: Annotated[
        str | None,
        typer.Option(
            "--save",
            rich_help_panel=WRITTEN,
            metavar="FILE|DIR",
            help="Write what was drawn there: pictures as they lay, a video as .mp4.",
            show_default=False,
        ),
    ] = None,
    save_as: Annotated[
        Encoded, typer.Option("--save-as", rich_help_panel=WRITTEN, help="How pictures are written into a folder.")
    ] = (Encoded.JPEG),
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json",
            rich_help_panel=WRITTEN,
            metavar="FILE|-",
            help="Write a JSON line for each picture or frame; - for standard output.",
            show_default=False,
        ),
    ] = None,
    csv_file: Annotated[
        str | None,
        typer.Option(
            "--csv",
            rich_help_panel=WRITTEN,
            metavar="FILE|-",
            help="Write a row for each object; - for standard output.",
            show_default=False,
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--parameter", metavar="NAME=VALUE", help="For the model; may be repeated. VALUE is JSON or text."
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence", metavar="C", min=0.0, max=1.0, help="Ask for objects of at least this confidence."
        ),
    ] = None,
    in_sequence: Annotated[
        bool | None,
        typer.Option(
            "--sequence/--no-sequence",
            help="Whether the pictures, or a video's frames, are one sequence. (default: if the model is stateful)",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        int,
        typer.Option(
            "--every", rich_help_panel=VIDEOS, metavar="N", min=1, show_default=False, help="Each N-th frame."
        ),
    ] = 1,
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", rich_help_panel=VIDEOS, metavar="N", min=1, help="At most N frames.")
    ] = None,
    start_s: Annotated[
        float,
        typer.Option(
            "--start", rich_help_panel=VIDEOS, metavar="S", min=0.0, show_default=False, help="From this second on."
        ),
    ] = 0.0,
    duration_s: Annotated[
        float | None, typer.Option("--duration", rich_help_panel=VIDEOS, metavar="S", min=0.0, help="So many seconds.")
    ] = None,
    inputs_file: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            rich_help_panel=TENSORS,
            metavar="FILE.npz",
            help="Tensors to ask about, in place of PATHs.",
            show_default=False,
        ),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            rich_help_panel=TENSORS,
            metavar="FILE.npz",
            help="Write the output tensors there.",
            show_default=False,
        ),
    ] = None,
    window: Annotated[
        int, typer.Option("--window", metavar="N", min=1, max=1024, help="Most requests under way at a time.")
    ] = 16,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", help="Seconds a request may take, if not the model's own timeout."),
    ] = None,
    priority: Annotated[
        int,
        typer.Option(
            "--priority", metavar="N", min=0, max=999, help="1 to 999, higher goes first.", show_default=False
        ),
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> int:
    """Ask a model about pictures, videos or tensors; show, draw or write what it finds."""
    from inferoxy.cli.infer import run, tensors
    from inferoxy.cli.infer.parameters import parse_parameters
    from inferoxy.cli.infer.video import Cut
    from inferoxy.client import Client
    from inferoxy.client.calls import ConnectionFailed

    name, _, version = model.partition("@")
    parameters = parse_parameters(parameter or [], confidence)
    asked: run.Job | tensors.Job
    if inputs_file is not None:
        _refuse({"PATH": paths, "--save": save, "--csv": csv_file}, "is not for tensors: leave it out, or --inputs")
        asked = tensors.Job(name, version, inputs_file, output_file, json_file, parameters, in_sequence, quiet)
    else:
        _refuse({"--output": output_file}, "is for tensors: give --inputs too, or --save for pictures")
        if not paths:
            raise InvalidRequest("Missing argument 'PATH…': the pictures or videos to ask about")
        cut = Cut(every, max_frames, start_s, duration_s)
        wishes = run.Wishes(name, version, parameters, window, in_sequence, cut, url)
        asked = run.Job(wishes, paths, run.Outputs(save, save_as.value, json_file, csv_file, quiet))
    try:
        with Client(url, timeout_s=timeout_s, priority=priority) as client:
            return asked.run(client)
    except ConnectionFailed as exc:
        print_error(exc.message)
        return EXIT_UNREACHABLE


def _refuse(options: dict[str, Any], why: str) -> None:
    for option, given in options.items():
        if given:
            raise InvalidRequest(f"{option} {why}")
