"""Options that several commands share, and the settings they lead to."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferoxy.errors import InvalidRequest

if TYPE_CHECKING:
    from inferoxy.config import Settings


class Launcher(StrEnum):
    """How instances are started."""

    PROCESS = "process"
    DOCKER = "docker"


class LogLevel(StrEnum):
    """Least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Models = Annotated[
    Path | None, typer.Option("--models", metavar="FILE", help="The models.yaml to serve.", show_default=False)
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="A settings file (YAML).", show_default=False)
]
How = Annotated[Launcher | None, typer.Option("--launcher", help="How instances are started. (default: process)")]
Rest = Annotated[str | None, typer.Option("--rest", metavar="HOST:PORT", help="REST bridge. (default: 127.0.0.1:8698)")]
Grpc = Annotated[
    str | None, typer.Option("--grpc", metavar="HOST:PORT", help="gRPC bridge. (default: 127.0.0.1:50051)")
]
Zmq = Annotated[
    str | None,
    typer.Option("--zmq", metavar="tcp://HOST:PORT", help="ZeroMQ bridge. (default: tcp://127.0.0.1:7789)"),
]
Admin = Annotated[str | None, typer.Option("--admin", metavar="HOST:PORT", help="Admin API. (default: 127.0.0.1:8000)")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Registry, logs and socket files. (default: .inferoxy)"),
]
Level = Annotated[
    LogLevel | None, typer.Option("--log-level", help="Least severe level that is logged. (default: info)")
]


def settings_from(config: Path | None, **flags: Any) -> "Settings":
    """The settings that hold: flags, then the environment, then the file, then defaults.

    Raises:
        ConfigError: A setting is wrong.
        InvalidRequest: The server parts are not installed.
    """
    try:
        from inferoxy.config import load
    except ModuleNotFoundError as exc:
        raise missing(exc) from exc
    return load(config, **{name: value for name, value in flags.items() if value is not None})


def missing(exc: ModuleNotFoundError) -> InvalidRequest:
    """What to say when the light install of the client lacks a module."""
    return InvalidRequest(f"this command needs {exc.name}: pip install 'inferoxy[server,docker,yolo]'")
