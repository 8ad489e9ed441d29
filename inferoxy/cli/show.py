"""`inferoxy models list`, `inferoxy models show` and `inferoxy status`: what the admin API knows, as tables or JSON."""

import json
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from inferoxy.cli import admin_client
from inferoxy.cli.admin_client import AdminAddress

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Slug = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A registered model.", show_default=False)]

WIDTH_ELSEWHERE = 160  # columns where the output is not a terminal
STATE_STYLE = {"ready": "green", "failing": "red", "failed": "red", "waiting": "yellow", "starting": "cyan"}
Row = dict[str, Any]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(help="What is registered.", no_args_is_help=True)
    models.command("list")(list_models)
    models.command("show")(show_model)
    app.add_typer(models, name="models")
    app.command("status")(status)


def list_models(admin: AdminAddress = None, as_json: AsJson = False) -> None:
    """List the registered models and how each is doing."""
    found = admin_client.get(admin, "/status")
    loads = _loads(found)
    if as_json:
        _print_json([model | {"load": loads.get(_key(model), {})} for model in found["models"]])
        return
    _print_tables([_models_table(found["models"], loads)])
    _warn_of_file(found)


def show_model(name: Slug, admin: AdminAddress = None, as_json: AsJson = False) -> None:
    """Show one model: its spec, its state and its instances."""
    model = admin_client.get(admin, f"/models/{quote(name, safe='@')}")
    load = _loads(admin_client.get(admin, "/status")).get(_key(model), {})
    instances = [row for row in admin_client.get(admin, "/instances") if (row["model"], row["version"]) == _key(model)]
    if as_json:
        _print_json(model | {"load": load, "running": instances})
        return
    from rich.table import Table

    table = Table(title=f"{model['name']} version {model['version']}", show_header=False, title_justify="left")
    for key, value in model.items():
        if key not in ("name", "version") and value not in ("", {}, None):
            table.add_row(key, json.dumps(value) if isinstance(value, dict | bool) else str(value))
    figures = ("state", "error", "queued", "in_flight", "rate", "executed", "failed", "dropped", "sequences_waiting")
    if load.get("drops"):
        load["drops"] = ", ".join(f"{reason} {count}" for reason, count in sorted(load["drops"].items()))
    for key in (*figures, "drops", "failures", "last_error", "unplaced"):
        if load.get(key) not in ("", None, {}):
            table.add_row(key, _figure(load[key]), style=STATE_STYLE.get(str(load[key]), "bold"))
    _print_tables([table, _instances_table(instances)])


def status(admin: AdminAddress = None, as_json: AsJson = False) -> None:
    """Show what runs: components, models with their queues, instances."""
    found = admin_client.get(admin, "/status")
    instances = admin_client.get(admin, "/instances")
    if as_json:
        _print_json(found | {"instances": instances})
        return
    tables = [
        _components_table(found["components"]),
        _models_table(found["models"], _loads(found)),
        _instances_table(instances),
    ]
    if devices := found["components"].get("batch_manager", {}).get("devices"):
        tables.append(_devices_table(devices))
    if arenas := _arenas(found):
        tables.append(_arenas_table(arenas))
    _print_tables(tables)
    _warn_of_file(found)


def _components_table(components: dict[str, Row]) -> Any:
    table = _table("components", "component", "state", "pid", "uptime", "restarts", "last end")
    processes: list[Row] = components.get("supervisor", {}).get("processes", [])
    known = {process["name"] for process in processes}
    alone = [
        {"name": name, "state": "silent" if said.get("silent") else "ready", **said}
        for name, said in components.items()
        if name not in known
    ]
    for row in [*alone, *processes]:
        _add(
            table,
            row["name"],
            _state(row.get("state", "")),
            row.get("pid") or "",
            _duration(row.get("uptime_s", 0.0)),
            row.get("restarts", ""),
            row.get("last_end", ""),
        )
    return table


def _models_table(models: list[Row], loads: dict[tuple[str, str], Row]) -> Any:
    columns = ("model", "version", "state", "queued", "running", "req/s", "batch", "queue ms", "done", "failed")
    table = _table("models", *columns, "dropped", "from")
    for model in models:
        load = loads.get(_key(model), {})
        _add(
            table,
            model["name"],
            f"{model['version']}{' *' if model['default'] and len(_versions(models, model['name'])) > 1 else ''}",
            _state(load.get("state", "")),
            load.get("queued", ""),
            load.get("in_flight", ""),
            _figure(load.get("rate", "")),
            _figure(load.get("mean_batch", "")),
            _figure(load["queue_s"] * 1e3) if "queue_s" in load else "",
            load.get("executed", ""),
            load.get("failed", ""),
            load.get("dropped", ""),
            model["address"] or model["artifact"],
        )
    return table


def _instances_table(instances: list[Row]) -> Any:
    table = _table("instances", "instance", "model", "version", "state", "device", "where", "in flight", "age", "fault")
    for row in instances:
        _add(
            table,
            row.get("id", ""),
            row.get("model", ""),
            row.get("version", ""),
            _state(row.get("state", "")),
            row.get("device", ""),
            row.get("where", ""),
            row.get("in_flight", ""),
            _duration(row.get("age_s", 0.0)),
            row.get("error", ""),
        )
    return table


def _devices_table(devices: list[Row]) -> Any:
    table = _table("execution slots", "device", "slots", "busy", "models waiting")
    for row in devices:
        _add(table, row["device"], row["slots"], row["used"], row["waiting"])
    return table


def _arenas(found: Row) -> dict[str, Row]:
    """Each bridge's shared memory for large tensors."""
    bridges: dict[str, Row] = found["components"].get("batch_manager", {}).get("bridges", {})
    return {name: said["arena"] for name, said in bridges.items() if said.get("arena")}


def _arenas_table(arenas: dict[str, Row]) -> Any:
    columns = ("bridge", "MiB in use", "MiB taken", "MiB at most", "slots in use", "segments", "found full")
    table = _table("shared memory", *columns)
    for name, said in sorted(arenas.items()):
        sizes = [f"{said[key] / 2**20:.1f}" for key in ("used_bytes", "bytes", "limit_bytes")]
        _add(table, name, *sizes, said["used_slots"], said["segments"], said["refused"])
    return table


def _loads(found: Row) -> dict[tuple[str, str], Row]:
    """What batch manager and task manager say of each model version."""
    loads: dict[tuple[str, str], Row] = {}
    for row in found["components"].get("batch_manager", {}).get("models", []):
        loads[(row["model"], row["model_version"])] = row
    for row in found["components"].get("task_manager", {}).get("models", []):
        key = (row["model"], row["version"])
        extra = {name: row[name] for name in ("failures", "last_error", "unplaced") if row.get(name)}
        loads[key] = loads.get(key, {}) | extra
    return loads


def _key(model: Row) -> tuple[str, str]:
    return (model["name"], model["version"])


def _versions(models: list[Row], name: str) -> list[str]:
    return [model["version"] for model in models if model["name"] == name]


def _warn_of_file(found: Row) -> None:
    if found["models_file"]["error"]:
        typer.echo(f"{found['models_file']['error']}\nThe last valid content of that file holds.", err=True)


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Any, *cells: object) -> None:
    table.add_row(*(str(cell) for cell in cells))


def _state(state: str) -> str:
    style = STATE_STYLE.get(state)
    return f"[{style}]{state}[/]" if style else state


def _figure(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _print_tables(tables: list[Any]) -> None:
    console = console_of_output()
    for table in tables:
        if table.row_count:
            console.print(table)
        else:
            console.print(f"{table.title}: none")


def console_of_output() -> "Console":
    """A console on stdout: as wide as the terminal, wide enough for a table elsewhere."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_ELSEWHERE)
