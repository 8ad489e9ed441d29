"""One answer in full, for people."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from inferoxy.cli.infer.inputs import shown
from inferoxy.cli.infer.results import TRACKS, tracks_of

if TYPE_CHECKING:
    from inferoxy.client import Detections, Prediction


def print_answer(name: str, answer: "Detections | Prediction", saved: Path | None) -> None:
    """Print what was found in a picture, how it was served and where its drawing is."""
    from rich.markup import escape

    from inferoxy.cli.show import console_of_output
    from inferoxy.client import Detections

    console = console_of_output()
    if isinstance(answer, Detections):
        count = f"{len(answer)} object{'' if len(answer) == 1 else 's'}"
        console.print(f"[bold]{escape(name)}: {count}[/]", soft_wrap=True)
        if len(answer):
            console.print(_table(answer))
    else:
        console.print(f"[bold]{escape(name)}[/]", soft_wrap=True)
        console.print_json(json.dumps(answer.value))
    served = answer.served
    console.print(
        f"[dim]{escape(answer.model)} version {escape(answer.version)}: queue {served.queue_ms:.1f} ms, "
        f"compute {served.compute_ms:.1f} ms, batch of {served.batch_size} ({served.closed})[/]",
        soft_wrap=True,
    )
    if saved is not None:
        console.print(f"drawn: {escape(shown(saved))}", soft_wrap=True)


def _table(answer: "Detections") -> object:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column("class")
    table.add_column("confidence", justify="right")
    table.add_column("box x1 y1 x2 y2", justify="right")
    has_tracks = TRACKS in answer.extra
    if has_tracks:
        table.add_column("track", justify="right")
    for found, track in zip(answer, tracks_of(answer), strict=True):
        box = " ".join(f"{edge:6.1f}" for edge in found.box)
        cells = [escape(found.class_name), f"{found.confidence:.3f}", box]
        table.add_row(*cells, *([str(track)] if has_tracks else []))
    return table
