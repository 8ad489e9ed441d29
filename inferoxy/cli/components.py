"""One command per component, to run it alone: under another supervisor, in a container, or by `inferoxy up`."""

from importlib import import_module

import typer

from inferoxy.cli import options
from inferoxy.cli.options import Admin, Config, DataDir, Grpc, How, Level, Models, Rest, Zmq
from inferoxy.errors import InvalidRequest

PANEL = "One component alone"
_COMPONENTS = {
    "model-manager": ("model_manager.server", "The registry and the admin API."),
    "batch-manager": ("batch_manager.broker", "Queues, batches and dispatch."),
    "task-manager": ("task_manager.server", "Starts, watches and ends instances."),
}
_BRIDGES = {
    "rest": ("bridges.rest.server", "REST and the Open Inference Protocol over HTTP."),
    "grpc": ("bridges.grpc.server", "The Open Inference Protocol over gRPC."),
    "zmq": ("bridges.zmq.server", "ZeroMQ."),
    "legacy": ("bridges.legacy.server", "ZeroMQ as the first Inferoxy's clients speak it."),
}
_NO_FLAG = {"legacy": "legacy_requests"}  # bridges whose address stands in the settings alone


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, (module, text) in _COMPONENTS.items():
        _add(app, name, module, text, panel=PANEL)
    bridge = typer.Typer(help="One client protocol: rest, grpc, zmq or legacy.", no_args_is_help=True)
    for name, (module, text) in _BRIDGES.items():
        _add(bridge, name, module, text, needs=name)
    app.add_typer(bridge, name="bridge", rich_help_panel=PANEL)


def _add(app: typer.Typer, name: str, module: str, text: str, panel: str | None = None, needs: str = "") -> None:
    def component(
        models: Models = None,
        config: Config = None,
        launcher: How = None,
        rest: Rest = None,
        grpc: Grpc = None,
        zmq: Zmq = None,
        admin: Admin = None,
        data_dir: DataDir = None,
        log_level: Level = None,
    ) -> int:
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
        setting = _NO_FLAG.get(needs, needs)
        if setting and not getattr(settings, setting):
            how = f"with --{needs}" if setting == needs else f"by INFEROXY_{setting.upper()} or in the settings file"
            raise InvalidRequest(f"{setting}: expected an address, found none; give one {how}")
        try:
            code: int = import_module(module).run(settings)
        except ModuleNotFoundError as exc:
            raise options.missing(exc) from exc
        return code

    app.command(name, help=text, rich_help_panel=panel)(component)
