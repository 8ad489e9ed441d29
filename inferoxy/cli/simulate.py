"""`inferoxy simulate`: what the dispatcher would do with a load, computed instead of waited for."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferoxy.errors import InferoxyError, InvalidRequest

if TYPE_CHECKING:
    from batch_manager.simulation.figures import TaskFigures
    from batch_manager.simulation.machine import Note, Outcome
    from batch_manager.simulation.scenario import Scenario

COLUMNS = ("task", "arrived", "executed", "in budget", "dropped", "p50 ms", "p95", "p99", "batch", "device")
ROOMY = 100  # columns of a terminal that has room for space around cells


class Compared(StrEnum):
    """What the dispatcher is told of the models."""

    FIFO = "fifo"
    PRIORITY = "priority"
    INFEROXY = "inferoxy"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A scenario (YAML).", show_default=False)],
    policies: Annotated[
        list[Compared] | None,
        typer.Option(
            "--policy", help="Simulate this policy alone; may be repeated. (default: all)", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of what is random, in place of the scenario's.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures; - for standard output.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw what ran when: .html, .svg or .png.")
    ] = None,
    events_file: Annotated[
        Path | None, typer.Option("--events", metavar="FILE", help="Write every event as a JSON line.")
    ] = None,
) -> int:
    """Replay a load through the real dispatcher and show who is served when.

    fifo: order of arrival, nothing dropped. priority: highest first, dropped when the latency budget has passed.
    inferoxy: as configured.
    """
    from rich.console import Console

    from inferoxy.bench import chart
    from inferoxy.cli.options import missing

    try:
        from batch_manager.simulation import figures, machine, scenario_file
        from batch_manager.simulation.policies import Policy
    except ModuleNotFoundError as exc:
        raise missing(exc) from exc

    if plot_file:
        chart.check_name(plot_file)
    for file in (json_file, plot_file, events_file):
        if file and str(file) != "-" and not file.absolute().parent.is_dir():
            raise InvalidRequest(f"{file}: there is no folder {file.absolute().parent}")
    scenario = scenario_file.load(config)
    if seed is not None:
        scenario = scenario.model_copy(update={"seed": seed})
    chosen = [Policy(name) for name in dict.fromkeys(policies or Compared)]
    is_quiet = str(json_file) == "-"
    outcomes = []
    with _lines_to(events_file) as note, Console(stderr=True).status("") as shown:  # on a terminal only
        for policy in chosen:
            shown.update(f"simulating {policy.value} …")
            outcomes.append(machine.simulate(scenario, policy, note))
    if not is_quiet:
        _show(scenario, outcomes)
    if json_file:
        content = json.dumps(figures.document(scenario, outcomes), indent=2) + "\n"
        if is_quiet:
            sys.stdout.write(content)
        else:
            _write(json_file, lambda: json_file.write_text(content), is_quiet)
    if plot_file:
        drawn = _drawn(plot_file.suffix.lower(), config.name, scenario, outcomes)
        _write(plot_file, lambda: plot_file.write_bytes(drawn), is_quiet)
    if events_file and not is_quiet:
        print(f"written: {events_file}")
    return 0


def _show(scenario: "Scenario", outcomes: "Sequence[Outcome]") -> None:
    from rich.table import Table

    from batch_manager.simulation import figures
    from inferoxy.cli.show import console_of_output

    console = console_of_output()
    for outcome in outcomes:
        found = figures.figures_of(scenario, outcome)
        workers = f"{scenario.workers} worker{'s' * (scenario.workers > 1)}"
        title = f"{outcome.policy.value}: {workers}, busy {found.device_use:.1%} of {found.end_ms:,.1f} ms"
        why = [f"{name}: {_reasons(of_task)}" for name, of_task in found.tasks.items() if of_task.dropped]
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            caption=f"dropped: {'; '.join(why)}" if why else None,
            caption_justify="left",
            padding=(0, 1) if console.width >= ROOMY else 0,
        )
        for column in COLUMNS:
            is_name = column == "task"
            table.add_column(column, justify="left" if is_name else "right", overflow="fold", no_wrap=not is_name)
        for name, of_task in found.tasks.items():
            table.add_row(*_row(name, of_task, str(sum(of_task.dropped.values()) or "")))
        console.print(table)


def _reasons(of_task: "TaskFigures") -> str:
    return ", ".join(f"{count} {reason}" for reason, count in of_task.dropped.items())


def _row(name: str, of_task: "TaskFigures", dropped: str) -> list[str]:
    from batch_manager.simulation.figures import PERCENTILES

    latency = of_task.latency_ms
    return [
        name,
        str(of_task.arrived),
        str(of_task.executed),
        "" if of_task.within_budget is None else str(of_task.within_budget),
        dropped,
        *(
            "" if value is None else f"{value:.4g}" if value < 1000 else f"{value:,.0f}"
            for value in (latency[f"p{percent}"] for percent in PERCENTILES)
        ),
        f"{of_task.mean_batch:.1f}" if of_task.batches else "",
        f"{of_task.device_share:.1%}",
    ]


def _drawn(suffix: str, title: str, scenario: "Scenario", outcomes: "Sequence[Outcome]") -> bytes:
    """The picture as a file's content."""
    from batch_manager.simulation.figures import figures_of
    from batch_manager.simulation.picture import picture
    from inferoxy.bench import chart

    drawn = picture(scenario, outcomes)
    if suffix == ".png":
        return chart.to_png(*drawn)
    svg = chart.to_svg(*drawn)
    if suffix == ".svg":
        return svg.encode()
    rows = [
        [outcome.policy.value, *_row(name, of_task, _reasons(of_task))]
        for outcome in outcomes
        for name, of_task in figures_of(scenario, outcome).tasks.items()
    ]
    about = f"{scenario.workers} workers, seed {scenario.seed}; the dispatcher's own code under a simulated clock"
    return chart.to_page(f"inferoxy simulate {title}", about, svg, ("policy", *COLUMNS), rows, ()).encode()


@contextmanager
def _lines_to(file: Path | None) -> "Iterator[Note | None]":
    """What writes an event as a line of the file; None without one."""
    if file is None:
        yield None
        return
    try:
        with file.open("w") as lines:
            yield lambda event: lines.write(json.dumps(event) + "\n")
    except OSError as exc:
        raise _unwritable(file, exc) from exc


def _write(file: Path, write: Callable[[], Any], is_quiet: bool) -> None:
    try:
        write()
    except OSError as exc:
        raise _unwritable(file, exc) from exc
    if not is_quiet:
        print(f"written: {file}")


def _unwritable(file: Path, exc: OSError) -> InferoxyError:
    return InferoxyError(f"{file}: cannot be written: {exc.strerror or exc}")
