"""`python -m inferoxy` is the `inferoxy` command."""

from inferoxy.cli import main

if __name__ == "__main__":
    main()
