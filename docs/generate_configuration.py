"""Print docs/configuration.md: every setting, from the settings classes themselves.

python docs/generate_configuration.py > docs/configuration.md
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from inferoxy.config import ALIASES, Settings

HEAD = """# Configuration

Every setting, generated from the settings classes (`python docs/generate_configuration.py > docs/configuration.md`).

A flag of the command line wins over an environment variable, that over the settings file (`--config FILE`, YAML), that
over the default. In the file, the settings of a group stand under its name; in the environment, group and name are
joined by two underscores. Lists and mappings in the environment are JSON.

| setting | environment | default | meaning |
| --- | --- | --- | --- |"""
TAIL = """
The names of the first Inferoxy's `.env` work too:

| first Inferoxy | here |
| --- | --- |"""


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """A table row for each setting of a class, groups opened up."""
    for name, field in model.model_fields.items():
        default: Any = field.get_default()
        if isinstance(default, BaseModel):
            yield from rows(type(default), f"{prefix}{name}.")
            continue
        key = f"{prefix}{name}"
        shown = "" if default in ("", None, []) else f"`{default}`"
        variable = "INFEROXY_" + key.replace(".", "__").upper()
        yield f"| `{key}` | `{variable}` | {shown} | {field.description or ''} |"


def page() -> str:
    """The whole page."""
    aliases = [f"| `{old}` | `{new}` |" for old, new in ALIASES.items()]
    return "\n".join([HEAD, *rows(Settings), TAIL, *aliases]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
