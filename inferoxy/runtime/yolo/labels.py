"""Class names from a file: one name a line, or a YAML list."""

from pathlib import Path

from inferoxy.errors import ModelUnavailable


def read_labels(path: Path) -> list[str]:
    """Names in order of class id; empty lines and comments (#) are skipped.

    Raises:
        ModelUnavailable: It cannot be read or holds no name.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ModelUnavailable(f"options.labels: {path}: cannot be read: {exc}") from exc
    names = [_name(line) for line in map(str.strip, lines) if line and not line.startswith(("#", "---"))]
    if not names:
        raise ModelUnavailable(f"options.labels: {path}: expected one class name a line, found none")
    return names


def _name(line: str) -> str:
    """The name on a line, which may be an item of a YAML list."""
    name = line.removeprefix("- ").strip()
    if len(name) >= 2 and name[0] == name[-1] and name[0] in "'\"":
        return name[1:-1]
    return name
