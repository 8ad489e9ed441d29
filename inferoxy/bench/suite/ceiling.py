"""Build and run ceiling.c: what the loopback and the load generator allow."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inferoxy.errors import InferoxyError

SOURCE = Path(__file__).with_name("ceiling.c")
COMPILERS = ("gcc", "cc", "clang")


def compiler() -> str:
    """A C compiler; empty when there is none."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), "")


@contextmanager
def running(folder: Path, answer_bytes: int) -> Iterator[str]:
    """The URL of a server, while the context lasts.

    Args:
        folder: For the program.
        answer_bytes: Size of every answer's body.

    Raises:
        InferoxyError: It cannot be built.
    """
    program = folder / "ceiling"
    if not program.exists():
        built = subprocess.run([compiler(), "-O2", "-o", program, SOURCE], capture_output=True, text=True)
        if built.returncode:
            raise InferoxyError(f"{SOURCE.name} cannot be built: {built.stderr[:400]}")
    process = subprocess.Popen([program, "0", str(answer_bytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        port = process.stdout.readline().decode().strip() if process.stdout else ""
        yield f"http://127.0.0.1:{port}"
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        process.wait()
