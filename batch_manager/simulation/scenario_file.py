"""Read a scenario from a YAML file, or say all that is wrong in it, each with its line.

What a scenario may say is scenario.py's business.
Invariants: a file with any problem yields nothing; a duplicate key is a problem, never a silent overwrite.
"""

from pathlib import Path
from typing import Any

import yaml

from batch_manager.simulation.scenario import Scenario, check
from inferoxy.errors import ConfigError
from inferoxy.problems import Problem

Keys = tuple[str, ...]


def load(path: Path) -> Scenario:
    """The scenario in a file.

    Raises:
        ConfigError: The file cannot be read or used; the message has one line per problem, with file, line, key,
            expected and found.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    return parse(content, str(path))


def parse(content: bytes, shown: str = "scenario.yaml") -> Scenario:
    """The scenario in a file's content.

    Args:
        content: YAML in UTF-8.
        shown: The file's name in messages.

    Raises:
        ConfigError: As for `load`.
    """
    lines: dict[Keys, int] = {}
    problems: list[tuple[int, Problem]] = []
    scenario, wrong = check(_read(content, shown, lines, problems))
    problems += [(_line(lines, problem.path), problem) for problem in wrong]
    if problems or scenario is None:
        ordered = sorted(problems, key=lambda item: item[0])
        raise ConfigError("\n".join(f"{shown}:{line}: {problem}" for line, problem in ordered))
    return scenario


def _read(content: bytes, shown: str, lines: dict[Keys, int], problems: list[tuple[int, Problem]]) -> Any:
    """The file's plain values; fills in where each key stands, and which stand twice."""
    loader = yaml.SafeLoader(content)
    try:
        node = loader.get_single_node()
        return None if node is None else _plain(loader, node, (), lines, problems, ())
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        what = ", ".join(filter(None, (exc.context, exc.problem)))
        raise ConfigError(f"{shown}:{mark.line + 1 if mark else 1}: not valid YAML: {what}") from exc
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: a date such as 2024-13-45
        raise ConfigError(f"{shown}:1: not valid YAML: {' '.join(str(exc).split())}") from exc
    finally:
        loader.dispose()


def _plain(
    loader: yaml.SafeLoader,
    node: yaml.Node,
    path: Keys,
    lines: dict[Keys, int],
    problems: list[tuple[int, Problem]],
    above: tuple[int, ...],
) -> Any:
    """The value of a node. Keys are what is written: a task named `on` or `1.10` keeps its name."""
    if id(node) in above:
        line = lines.get(path, node.start_mark.line + 1)
        problems.append((line, Problem(path, "expected a value, found one that contains itself")))
        return None
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, path, {}, problems, above) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    written = {id(key) for key, _ in node.value}
    loader.flatten_mapping(node)
    values: dict[str, Any] = {}
    # Merged pairs (<<) come first, so that what is written here replaces them.
    own: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        here = (*path, name)
        if id(key) in written:
            if name in own:
                problems.append((line, Problem(here, f"expected once, found again (first in line {own[name]})")))
                continue
            own[name] = line
        lines[here] = line
        values[name] = _plain(loader, value, here, lines, problems, above)
    return values


def _line(lines: dict[Keys, int], path: Keys) -> int:
    """Where a key stands, or the nearest key around it."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1
