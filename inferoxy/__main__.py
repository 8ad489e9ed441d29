"""The command `inferoxy`, also as `python -m inferoxy`."""

import sys


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        from inferoxy.cli import main as run
    except ModuleNotFoundError as exc:
        if exc.name not in ("typer", "rich"):
            raise
        sys.exit("error: the command needs an extra: pip install 'inferoxy[cli]', or inferoxy[server] for a server")
    run()


if __name__ == "__main__":
    main()
