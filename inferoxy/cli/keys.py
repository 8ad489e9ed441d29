"""`inferoxy keys`: the key pairs that encrypt ZeroMQ connections."""

from pathlib import Path
from typing import Annotated

import typer

Secret = Annotated[Path, typer.Argument(metavar="FILE", help="The file with the secret key.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="Keys of encrypted ZeroMQ connections.", no_args_is_help=True)
    keys.command("new")(new)
    keys.command("show")(show)
    app.add_typer(keys, name="keys")


def new(file: Secret) -> int:
    """Make a key pair, for a bridge or for a client: the secret key in FILE, which only you can read, the public one in
    FILE.pub. The public key is printed."""
    from inferoxy.keys import write_pair

    print(write_pair(file).public.decode())
    return 0


def show(file: Secret) -> int:
    """Print the public key that belongs to the secret key in FILE."""
    from inferoxy.keys import read_pair

    print(read_pair(file, "FILE").public.decode())
    return 0
