"""Read a models.yaml: every model in it, or every problem in it, each with its line.

What a model may say is spec.py's business.
Invariants: a file with any problem yields no model at all; a duplicate key is a problem, never a silent overwrite.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from inferoxy.errors import ConfigError
from inferoxy.messages import ModelSpec
from inferoxy.problems import Problem
from inferoxy.problems import found as in_words
from model_manager import spec

Keys = tuple[str, ...]
_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without dates: a version like 2024-01-31 stays a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def load(path: Path) -> list[ModelSpec]:
    """The models of a file, in its order; versions of one model stand under `name@version` keys.

    Raises:
        ConfigError: The file cannot be read or used; the message has one line per problem, with file, line, key,
            expected and found.
    """
    shown = _shown(path)
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{shown}: cannot be read: {exc.strerror}") from exc
    return parse(content, path.parent, shown)


def parse(content: bytes, base: Path, shown: str = "models.yaml") -> list[ModelSpec]:
    """The models of a file's content.

    Args:
        content: YAML in UTF-8.
        base: Folder that artifacts are relative to.
        shown: The file's name in messages.

    Raises:
        ConfigError: As for `load`.
    """
    lines: dict[Keys, int] = {}
    problems: list[tuple[int, Problem]] = []
    found = _read(content, shown, lines, problems)
    if found is None:
        found = {}
    if not isinstance(found, Mapping):
        problems.append((1, Problem((), f"expected a mapping of models, found {in_words(found)}")))
        found = {}
    models: dict[str, ModelSpec] = {}
    for key, fields in found.items():
        made, wrong = spec.check(key, fields, base, "file")
        problems += [(_line(lines, problem.path), problem) for problem in wrong]
        if made:
            models[key] = made
    problems += [(_line(lines, problem.path), problem) for problem in _clashes(models)]
    if problems:
        ordered = sorted(problems, key=lambda item: item[0])
        raise ConfigError("\n".join(f"{shown}:{line}: {problem}" for line, problem in ordered))
    return list(models.values())


def _read(content: bytes, shown: str, lines: dict[Keys, int], problems: list[tuple[int, Problem]]) -> Any:
    """The file's plain values; fills in where each key stands, and which stand twice."""
    loader = _Loader(content)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if not _walk(node, (), lines, problems, ()):
            return None
        if not isinstance(node, yaml.MappingNode):
            return loader.construct_document(node)
        # A model's name is what is written: `on` and `1.10` are not turned into true and 1.1.
        found: dict[str, Any] = {}
        for key, value in node.value:
            found.setdefault(str(key.value), loader.construct_object(value, deep=True))
        return found
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        what = ", ".join(filter(None, (exc.context, exc.problem)))
        raise ConfigError(f"{shown}:{mark.line + 1 if mark else 1}: not valid YAML: {what}") from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"{shown}:1: not valid YAML: {' '.join(str(exc).split())}") from exc
    finally:
        loader.dispose()


def _walk(
    node: Any, path: Keys, lines: dict[Keys, int], problems: list[tuple[int, Problem]], above: tuple[int, ...]
) -> bool:
    """Note where keys stand. False when a value contains itself, by way of its own anchor."""
    if id(node) in above:
        problems.append((node.start_mark.line + 1, Problem(path, "expected a value, found one that contains itself")))
        return False
    if isinstance(node, yaml.SequenceNode):
        return all(_walk(value, path, {}, problems, (*above, id(node))) for value in node.value)
    if not isinstance(node, yaml.MappingNode):
        return True
    for key, value in node.value:
        line = key.start_mark.line + 1
        here = (*path, str(key.value))
        again = here in lines and key.tag != _MERGE
        if again:
            problems.append((line, Problem(here, f"expected once, found again (first in line {lines[here]})")))
        lines.setdefault(here, line)
        if not _walk(value, here, {} if again else lines, problems, (*above, id(node))):
            return False
    return True


def _clashes(models: Mapping[str, ModelSpec]) -> list[Problem]:
    """Versions that are registered twice, and names with two defaults."""
    problems: list[Problem] = []
    seen: dict[tuple[str, str], str] = {}
    defaults: dict[str, str] = {}
    for key, model in models.items():
        first = seen.setdefault(model.key, key)
        if first != key:
            text = f"expected another version, found {in_words(model.version)} as in {first}"
            problems.append(Problem((key, "version"), text))
        if model.default:
            first = defaults.setdefault(model.name, key)
            if first != key:
                problems.append(Problem((key, "default"), f"expected one default version, found another in {first}"))
    return problems


def _line(lines: Mapping[Keys, int], path: Keys) -> int:
    """Where a key stands, or the nearest key around it."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


def _shown(path: Path) -> str:
    """The path as a person in the working directory would write it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
