"""The `inferoxy` command.

Starts quickly: what a command needs is imported when it runs. Every error a user can cause is one clear line on stderr.
Exit codes: 0 done, 1 failed, 2 bad input, 3 an address or data directory is taken or, of `infer`, the server cannot be
reached, 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Abort, TyperException

from inferoxy import __version__
from inferoxy.errors import Code, InferoxyError

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit code.
    """
    if "_INFEROXY_COMPLETE" in os.environ:
        from inferoxy.cli.complete import mend_words

        mend_words(os.environ)
    try:
        code = make_app()(args=list(arguments), prog_name="inferoxy", standalone_mode=False)
    except TyperException as exc:
        return _fail(exc.format_message().replace("Value error, ", ""), exc.exit_code)
    except InferoxyError as exc:
        return _fail(exc.message, EXIT_BAD_INPUT if exc.code is Code.INVALID_REQUEST else EXIT_FAILED)
    except (Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has enough of it
        return EXIT_FAILED
    return code if isinstance(code, int) else 0


def make_app() -> typer.Typer:
    """The commands."""
    from inferoxy.cli import bench, components, demo, keys, show, simulate, up
    from inferoxy.cli.infer import command as infer

    app = typer.Typer(
        name="inferoxy",
        help="A model proxy for computer vision: REST, gRPC and ZeroMQ in front of batched models.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: bool = typer.Option(False, "--version", is_eager=True, callback=_version, help="Show the version."),
    ) -> None:
        pass

    up.register(app)
    infer.register(app)
    bench.register(app)
    simulate.register(app)
    show.register(app)
    demo.register(app)
    components.register(app)
    keys.register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"inferoxy {__version__}")
        raise typer.Exit


def print_error(message: str) -> None:
    """Write an error to stderr; an indented line goes on from the one above it."""
    for line in message.splitlines():
        print(line if line.startswith(" ") else f"error: {line}", file=sys.stderr)


def _fail(message: str, code: int) -> int:
    print_error(message)  # nothing, where the help was the answer
    return code
