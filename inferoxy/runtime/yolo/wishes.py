"""What a request wants of a detector: thresholds and classes, validated.

Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from inferoxy.errors import InvalidRequest

MAX_DETECTIONS = 10_000


class Wishes(NamedTuple):
    """Thresholds of one request; the defaults are those of Ultralytics. `classes` None means all."""

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 300
    classes: tuple[int, ...] | None = None


def read_wishes(parameters: Mapping[str, Any], defaults: Wishes, names: Sequence[str]) -> Wishes:
    """The wishes among a request's parameters; others are not looked at.

    Raises:
        InvalidRequest: One has the wrong type or is out of range; says what was expected.
    """
    if not parameters:
        return defaults
    return Wishes(
        _fraction(parameters, "confidence", defaults.confidence),
        _fraction(parameters, "iou", defaults.iou),
        _count(parameters, "max_detections", defaults.max_detections),
        _classes(parameters.get("classes"), names, defaults.classes),
    )


def _fraction(parameters: Mapping[str, Any], name: str, default: float) -> float:
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidRequest(f"parameter {name}: expected a number from 0 to 1, found {value!r:.80}")
    return float(value)


def _count(parameters: Mapping[str, Any], name: str, default: int) -> int:
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_DETECTIONS:
        raise InvalidRequest(
            f"parameter {name}: expected a whole number from 1 to {MAX_DETECTIONS}, found {value!r:.80}"
        )
    return value


def _classes(wanted: Any, names: Sequence[str], default: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if wanted is None:
        return default
    if not isinstance(wanted, list):
        raise InvalidRequest(f"parameter classes: expected a list of class ids or names, found {wanted!r:.80}")
    return tuple(_class_id(one, names) for one in wanted)


def _class_id(wanted: Any, names: Sequence[str]) -> int:
    if isinstance(wanted, str) and wanted in names:
        return list(names).index(wanted)
    if isinstance(wanted, int) and not isinstance(wanted, bool) and 0 <= wanted < len(names):
        return wanted
    raise InvalidRequest(
        f"parameter classes: expected ids 0 to {len(names) - 1} or names such as {names[0]!r}, found {wanted!r:.80}"
    )
