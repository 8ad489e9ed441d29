"""`inferoxy up`: a whole stack under the supervisor."""

from pathlib import Path
from typing import Annotated

import typer

from inferoxy.cli import options
from inferoxy.cli.options import Admin, Config, DataDir, Grpc, How, Level, Models, Rest, Zmq

ReadyFile = Annotated[
    Path | None,
    typer.Option(
        "--ready-file", metavar="FILE", help="Written when the stack is ready, with the line that is printed."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    models: Models = None,
    config: Config = None,
    launcher: How = None,
    rest: Rest = None,
    grpc: Grpc = None,
    zmq: Zmq = None,
    admin: Admin = None,
    data_dir: DataDir = None,
    log_level: Level = None,
    ready_file: ReadyFile = None,
) -> int:
    """Start everything: registry, batching, instances and bridges. Ctrl-C ends it.

    Port 0 picks a free port, an empty address leaves a bridge out. When the stack is ready one line says where it can
    be reached.
    """
    settings = options.settings_from(
        config,
        models=models,
        launcher=launcher,
        rest=rest,
        grpc=grpc,
        zmq=zmq,
        admin=admin,
        data_dir=data_dir,
        log_level=log_level,
    )
    try:
        from inferoxy import supervisor
        from model_manager import models_yaml
    except ModuleNotFoundError as exc:
        raise options.missing(exc) from exc
    if settings.models:
        models_yaml.load(settings.models)
    return supervisor.run(settings, ready_file)
