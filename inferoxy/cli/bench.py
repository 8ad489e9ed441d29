"""`inferoxy bench`: put load on a model and show how it is answered."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferoxy.errors import InferoxyError, InvalidRequest

if TYPE_CHECKING:
    from inferoxy.bench.plan import Plan
    from inferoxy.bench.runner import OnProgress, Shown

CONCURRENCY = "1,16,64"
CONNECTIONS = 256  # of an open loop, unless told otherwise


class Form(StrEnum):
    """How a picture is asked about over HTTP."""

    V2 = "v2"
    PREDICT = "predict"


class Arrivals(StrEnum):
    """Distances between the requests of an open loop."""

    EVEN = "even"
    POISSON = "poisson"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    model: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="A registered model.", show_default=False)],
    url: Annotated[
        str, typer.Option("--url", envvar="INFEROXY_URL", help="A bridge: http://…, grpc://…, tcp://… or ipc://…")
    ] = "http://127.0.0.1:8698",
    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency", metavar="N,…", help=f"Closed loop: so many connections. (default: {CONCURRENCY})"
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="R,…", help="Open loop: so many requests per second, whatever the answers do."),
    ] = None,
    duration_s: Annotated[float, typer.Option("--duration", metavar="S", min=0.1, help="Seconds of each level.")] = 5.0,
    warmup_s: Annotated[
        float, typer.Option("--warmup", metavar="S", min=0.0, help="Seconds before that, not counted.")
    ] = 1.0,
    pictures: Annotated[
        list[Path] | None,
        typer.Option("--picture", metavar="FILE", help="Send this picture; several are sent in turn."),
    ] = None,
    tensors: Annotated[
        list[str] | None,
        typer.Option("--tensor", metavar="NAME:TYPE:SHAPE", help="Send random values, as INPUT0:FP32:1x16."),
    ] = None,
    body: Annotated[
        Path | None, typer.Option("--body", metavar="FILE", help="Send this V2 JSON request over HTTP.")
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option("--protocol", help="Pictures over HTTP: to /v1/…/predict, or by V2. (default: predict)"),
    ] = None,
    processes: Annotated[int, typer.Option("--processes", metavar="N", min=1, help="Load generators.")] = 1,
    connections: Annotated[
        int, typer.Option("--connections", metavar="N", min=1, help="Open loop: requests in flight at the most.")
    ] = CONNECTIONS,
    arrivals: Annotated[Arrivals, typer.Option("--arrivals", help="Open loop: how they are spaced.")] = Arrivals.EVEN,
    joined: Annotated[bool, typer.Option("--join", help="ZeroMQ: join requests that are sent together.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures; - for standard output.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw latency against load: .html, .svg or .png.")
    ] = None,
) -> int:
    """Put load on a model and show how it is answered.

    Without --picture, --tensor or --body the inputs are made up as the model declares them. Latencies of an open loop
    (--rate) count from the instant a request was due: they are corrected for coordinated omission.
    """
    from inferoxy.bench import plan as plans
    from inferoxy.bench import plot, report, runner
    from inferoxy.cli.show import console_of_output

    if concurrency and rate:
        raise InvalidRequest("expected --concurrency or --rate, found both")
    if sum(map(bool, (pictures, tensors, body))) > 1:
        raise InvalidRequest("expected one of --picture, --tensor and --body, found several")
    if plot_file:
        plot.check_name(plot_file)
    for file in (json_file, plot_file):
        if file and str(file) != "-" and not file.absolute().parent.is_dir():
            raise InvalidRequest(f"{file}: there is no folder {file.absolute().parent}")
    name, _, version = model.partition("@")
    plan = plans.Plan(
        url=url,
        model=name,
        version=version,
        pictures=[str(file) for file in pictures or ()],
        tensors=[str(plans.parse_tensor(text)) for text in tensors or ()],
        body=str(body or ""),
        form=(form or Form.PREDICT).value,
        arrivals=arrivals.value,
        duration_s=duration_s,
        warmup_s=warmup_s,
        joined=joined,
    )
    if not (pictures or tensors or body):
        plan.tensors = _declared(url, name, version)
    levels = list(_levels(plan, concurrency, rate, connections))
    outcomes = []
    with _progress(len(levels)) as begin:
        for level in levels:
            outcomes.append(runner.run(level, processes, begin(level)))
    to_stdout = str(json_file) == "-"
    console = console_of_output()
    if not to_stdout:
        from rich.markup import escape

        console.print(f"[bold]{escape(f'{model} at {url}, {report.sent(plan)}')}[/]", soft_wrap=True)
        console.print(report.table(outcomes))
        for note in report.notes(outcomes):
            console.print(f"[dim]{note}[/]" if "WRONG" not in note else f"[red]{note}[/]", soft_wrap=True)
    if json_file:
        content = json.dumps(report.document(plan, outcomes), indent=2) + "\n"
        if to_stdout:
            sys.stdout.write(content)
        else:
            _write(json_file, lambda: json_file.write_text(content), to_stdout)
    if plot_file:
        _write(plot_file, lambda: plot.write(plot_file, plan, outcomes), to_stdout)
    is_right = all(outcome.completed and not outcome.problems for outcome in outcomes)
    return 0 if is_right else 1


def _levels(plan: "Plan", concurrency: str | None, rate: str | None, connections: int) -> "Iterator[Plan]":
    """A plan for each level of load."""
    import msgspec

    from inferoxy.bench.plan import parse_levels

    if rate:
        for level in parse_levels(rate, "--rate", whole=False):
            yield msgspec.structs.replace(plan, rate=level, slots=connections)
    else:
        for level in parse_levels(concurrency or CONCURRENCY, "--concurrency", whole=True):
            yield msgspec.structs.replace(plan, slots=int(level))


def _declared(url: str, name: str, version: str) -> list[str]:
    """Synthetic inputs as the model declares them.

    Raises:
        InvalidRequest: There is no such model, or it has not declared any yet.
    """
    from inferoxy.bench.plan import tensor_for
    from inferoxy.client import Client

    with Client(url) as client:
        models = client.models()
    found = [m for m in models if m.name == name and (m.version == version if version else m.default is not False)]
    if not found:
        known = ", ".join(sorted({m.name for m in models}))
        raise InvalidRequest(f"model {name!r} is not registered at {url}; known models: {known or 'none'}")
    if not found[0].inputs:
        raise InvalidRequest(
            f"model {name!r} has not declared its inputs yet, because no instance of it has run: "
            f"say what to send by --tensor or --picture"
        )
    return [str(tensor_for(spec)) for spec in found[0].inputs]


@contextmanager
def _progress(levels: int) -> "Iterator[Callable[[Plan], OnProgress]]":
    """Show on stderr how each level goes: a bar on a terminal, a line elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda level: _plain(console, level)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:

        def begin(level: "Plan") -> "OnProgress":
            total = level.warmup_s + level.duration_s
            task = bar.add_task(_name(level), total=total, told="asking once")

            def show(told: "Shown", since: float) -> None:
                if since >= 0:
                    words = f"{told.answered:,} answered, {told.failed} failed, {told.open} open, "
                    words += f"p50 {told.p50_s * 1e3:.2f} ms, p99 {told.p99_s * 1e3:.2f} ms"
                    bar.update(task, completed=min(since, total), told=words)

            return show

        yield begin


def _plain(console: Any, level: "Plan") -> "OnProgress":
    console.print(f"{_name(level)} for {level.warmup_s + level.duration_s:g} s …", soft_wrap=True)
    return lambda told, since: None


def _name(level: "Plan") -> str:
    return f"{level.rate:g} requests/s" if level.rate else f"{level.slots} connection{'s' * (level.slots > 1)}"


def _write(file: Path, write: Callable[[], object], quiet: bool) -> None:
    try:
        write()
    except OSError as exc:
        raise InferoxyError(f"{file}: cannot be written: {exc.strerror or exc}") from exc
    if not quiet:
        print(f"written: {file}")
