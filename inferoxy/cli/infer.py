"""`inferoxy infer`: send pictures to a model, show what it finds.

Speaks to any bridge through the client. Each picture is a request of its own: one bad picture hides no other. With
--sequence they are the frames of one sequence, sent one after another.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferoxy.errors import Code, InferoxyError, InvalidRequest, ModelNotFound

if TYPE_CHECKING:
    from inferoxy.client import Client, Detections, Prediction
    from inferoxy.client.arguments import Draw

    Answer = Detections | Prediction

AT_ONCE = 8
_BAD_INPUT = (Code.INVALID_REQUEST, Code.PAYLOAD_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE)
SUFFIXES: dict[str, "Draw"] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("infer")(infer)


def infer(
    model: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="A registered model.", show_default=False)],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE…", help="JPEG, PNG or WebP files.", show_default=False)
    ],
    url: Annotated[
        str,
        typer.Option("--url", envvar="INFEROXY_URL", help="Any bridge: http://…, grpc://…, tcp://… or ipc://…"),
    ] = "http://127.0.0.1:8698",
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="FILE|DIR",
            help="Write the drawn picture there (.jpg or .png), or all of them into a folder.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: an object, a list for several pictures.")
    ] = False,
    confidence: Annotated[
        float | None,
        typer.Option("--confidence", min=0.0, max=1.0, help="Ask for objects of at least this confidence."),
    ] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", help="Seconds a picture may take, if not the model's own timeout."),
    ] = None,
    in_sequence: Annotated[
        bool, typer.Option("--sequence", help="The pictures are the frames of one sequence, for a stateful model.")
    ] = False,
) -> int:
    """Send pictures to a model and show what it finds."""
    from inferoxy.client import Client

    name, _, version = model.partition("@")
    targets = targets_for(images, save)
    draw = SUFFIXES[targets[0].suffix.lower()] if targets else ""
    parameters: dict[str, Any] = {} if confidence is None else {"confidence": confidence}
    for image in images:
        _check_readable(image)
    with Client(url, timeout_s=timeout_s) as client:
        try:
            if in_sequence:
                with client.sequence(name, version=version) as sequence:
                    outcomes = [_ask(partial(sequence.predict, image, draw=draw, **parameters)) for image in images]
            else:
                outcomes = _ask_together(
                    [partial(client.predict, name, image, draw=draw, version=version, **parameters) for image in images]
                )
        except ModelNotFound as exc:
            raise InvalidRequest(_unknown_model(client, exc)) from exc
    saved = [_save(outcome, target) for outcome, target in zip(outcomes, targets, strict=True)] if targets else []
    entries = [
        _entry(image, outcome, saved[at] if saved else None)
        for at, (image, outcome) in enumerate(zip(images, outcomes, strict=True))
    ]
    if as_json:
        print(json.dumps(entries[0] if len(images) == 1 else entries, indent=2))
    else:
        _print_tables(images, outcomes, saved)
    return _report_failures(images, outcomes, saved)


def _ask(predict: "Callable[[], Answer]") -> "Answer | InferoxyError":
    try:
        return predict()
    except (ModelNotFound, ConnectionError):
        raise  # the other pictures would only say the same
    except InferoxyError as exc:
        return exc


def _ask_together(predictions: "list[partial[Answer]]") -> "list[Answer | InferoxyError]":
    with ThreadPoolExecutor(min(AT_ONCE, len(predictions))) as pool:
        futures = [pool.submit(_ask, predict) for predict in predictions]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


def targets_for(images: list[Path], save: Path | None) -> list[Path]:
    """Where each drawn picture goes; empty when none is wanted.

    Raises:
        InvalidRequest: One file for several pictures, or a file name that is no picture's.
    """
    if save is None:
        return []
    is_folder = save.is_dir() or not save.suffix
    if not is_folder:
        if len(images) > 1:
            raise InvalidRequest(f"--save: expected a folder for {len(images)} pictures, found the file name {save}")
        if save.suffix.lower() not in SUFFIXES:
            raise InvalidRequest(f"--save: expected a name ending in {', '.join(SUFFIXES)}, found {save}")
        if not save.absolute().parent.is_dir():
            raise InvalidRequest(f"--save: there is no folder {save.absolute().parent}")
        return [save]
    return list(_names(images, save))


def _names(images: list[Path], folder: Path) -> Iterator[Path]:
    used: set[str] = set()
    for image in images:
        name, count = f"{image.stem}-drawn.jpg", 1
        while name in used:
            count += 1
            name = f"{image.stem}-drawn-{count}.jpg"
        used.add(name)
        yield folder / name


def _check_readable(image: Path) -> None:
    try:
        with image.open("rb"):
            pass
    except OSError as exc:
        raise InvalidRequest(f"{image}: {(exc.strerror or str(exc)).lower()}") from exc


def _unknown_model(client: "Client", exc: ModelNotFound) -> str:
    try:
        known = sorted({model.name for model in client.models()})
    except InferoxyError:
        return exc.message
    return f"{exc.message}; known models: {', '.join(known) or 'none'}"


def _save(outcome: "Answer | InferoxyError", target: Path) -> Path | None:
    if isinstance(outcome, InferoxyError) or outcome.picture is None:
        return None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return outcome.save(target)
    except OSError as exc:
        raise InferoxyError(f"{target}: cannot be written: {exc.strerror or exc}") from exc


def _entry(image: Path, outcome: "Answer | InferoxyError", saved: Path | None) -> dict[str, Any]:
    if isinstance(outcome, InferoxyError):
        return {"file": str(image), "error": outcome.message, "code": outcome.code.value}
    entry: dict[str, Any] = {"file": str(image), **outcome.to_dict()}
    return entry | {"saved": str(saved)} if saved else entry


def _print_tables(images: list[Path], outcomes: "list[Answer | InferoxyError]", saved: list[Path | None]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from inferoxy.cli.show import console_of_output
    from inferoxy.client import Detections

    console = console_of_output()
    for at, (image, outcome) in enumerate(zip(images, outcomes, strict=True)):
        if isinstance(outcome, InferoxyError):
            continue
        if isinstance(outcome, Detections):
            console.print(f"[bold]{escape(str(image))}: {_count(len(outcome))}[/]", soft_wrap=True)
            table = Table()
            table.add_column("class")
            table.add_column("confidence", justify="right")
            table.add_column("box x1 y1 x2 y2", justify="right")
            for found in outcome:
                box = " ".join(f"{edge:6.1f}" for edge in found.box)
                table.add_row(escape(found.class_name), f"{found.confidence:.3f}", box)
            if len(outcome):
                console.print(table)
        else:
            console.print(f"[bold]{escape(str(image))}[/]", soft_wrap=True)
            console.print_json(json.dumps(outcome.value))
        served = outcome.served
        console.print(
            f"[dim]{escape(outcome.model)} version {escape(outcome.version)}: queue {served.queue_ms:.1f} ms, "
            f"compute {served.compute_ms:.1f} ms, batch of {served.batch_size} ({served.closed})[/]",
            soft_wrap=True,
        )
        if saved and saved[at]:
            console.print(f"drawn: {escape(str(saved[at]))}", soft_wrap=True)


def _count(number: int) -> str:
    return f"{number} object{'' if number == 1 else 's'}"


def _report_failures(images: list[Path], outcomes: "list[Answer | InferoxyError]", saved: list[Path | None]) -> int:
    """One line on stderr for each picture that failed; the exit code."""
    from inferoxy.cli import EXIT_BAD_INPUT, EXIT_FAILED

    codes = {0}
    for at, (image, outcome) in enumerate(zip(images, outcomes, strict=True)):
        if isinstance(outcome, InferoxyError):
            where = "" if str(image) in outcome.message else f"{image}: "
            typer.echo(f"error: {where}{outcome.message}", err=True)
            codes.add(EXIT_BAD_INPUT if outcome.code in _BAD_INPUT else EXIT_FAILED)
        elif saved and saved[at] is None:
            typer.echo(f"error: {image}: the model gave no drawn picture to save", err=True)
            codes.add(EXIT_FAILED)
    return EXIT_FAILED if EXIT_FAILED in codes else max(codes)
