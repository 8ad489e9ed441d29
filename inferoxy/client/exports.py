"""Detections in the forms of other tools: supervision's Detections, and the results file of the COCO evaluation.

Invariant: supervision is imported when it is asked for.
Source: https://cocodataset.org/#format-results
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from inferoxy.errors import Code, InferoxyError, InvalidRequest

if TYPE_CHECKING:
    from inferoxy.client.many import Item
    from inferoxy.client.results import Detections

TRACKS, MASKS = "track_id", "mask"

Categories = Mapping[str, int] | Mapping[int, int]
ImageIds = Mapping[str, int] | Callable[[Any], int | str]


def to_supervision(found: "Detections") -> Any:
    """See Detections.to_supervision."""
    fields = supervision_fields(found)
    try:
        supervision = import_module("supervision")
    except ImportError as exc:
        raise InferoxyError(
            f"to_supervision needs the package supervision: pip install supervision ({exc})", Code.UNSUPPORTED
        ) from exc
    return supervision.Detections(**fields)


def supervision_fields(found: "Detections") -> dict[str, Any]:
    """What supervision's Detections are made of.

    Raises:
        InvalidRequest: The masks are not of the picture's size.
    """
    columns = {key: value for key, value in found.extra.items() if _is_column(value, len(found))}
    tracks, masks = columns.pop(TRACKS, None), columns.pop(MASKS, None)
    data = {key: _column(value) for key, value in columns.items()}
    return {
        "xyxy": found.boxes.copy(),
        "confidence": found.confidence.copy(),
        "class_id": found.class_id.astype(np.int64),
        "tracker_id": None if tracks is None or None in tracks else np.asarray(tracks, np.int64),
        "mask": None if masks is None or not masks else _masks(found, masks),
        "data": {"class_name": np.asarray(found.class_name, np.str_), **data},
    }


def to_coco(found: "Detections", image_id: int | str, categories: Categories | None = None) -> list[dict[str, Any]]:
    """See Detections.to_coco."""
    boxes = found.value["boxes"]
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).tolist()
    results = []
    for index, confidence in enumerate(found.value["confidence"]):
        x, y, *_ = boxes[index]
        width, height = (round(side, 4) for side in sides[index])
        category = _category(categories, int(found.class_id[index]), found.class_name[index])
        results.append(
            {"image_id": image_id, "category_id": category, "bbox": [x, y, width, height], "score": confidence}
        )
    return results


def write_coco(
    path: str | os.PathLike[str],
    items: "Iterable[Item]",
    *,
    image_ids: ImageIds | None = None,
    categories: Categories | None = None,
) -> "list[Item]":
    """Write the COCO results file of many pictures, such as of Client.predict_many, one result a line.

    Args:
        path: The file; it is there when all is written, and not before.
        items: What became of the pictures.
        image_ids: The dataset's image ids by file name, or a function of the source; None: the file's name without its
            suffix, as a number where it is one (000000397133.jpg is 397133).
        categories: As in Detections.to_coco.

    Returns:
        The items that failed: the file holds nothing of them.

    Raises:
        InvalidRequest: An answer holds no boxes, or an image or class has no id.
        InferoxyError: The items' own, such as ConnectionFailed.
        OSError: The file cannot be written.
    """
    target = Path(path)
    part = target.with_name(f"{target.name}.part")
    failed: list[Item] = []
    try:
        with part.open("w", encoding="utf-8") as file:
            separator = "[\n"
            for item in items:
                if item.answer is None:
                    failed.append(item)
                    continue
                for result in _results(item, image_ids, categories):
                    file.write(separator + json.dumps(result, ensure_ascii=False))
                    separator = ",\n"
            file.write("\n]\n" if separator == ",\n" else "[]\n")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return failed


def _results(item: "Item", image_ids: ImageIds | None, categories: Categories | None) -> list[dict[str, Any]]:
    from inferoxy.client.results import Detections

    if not isinstance(item.answer, Detections):
        raise InvalidRequest(f"source {_shown(item.source)}: expected detections, found a prediction without boxes")
    return to_coco(item.answer, _image_id(item.source, image_ids), categories)


def _image_id(source: Any, image_ids: ImageIds | None) -> int | str:
    if callable(image_ids):
        return image_ids(source)
    if not isinstance(source, str | os.PathLike):
        raise InvalidRequest(f"source {_shown(source)}: expected a path, or image_ids that is a function of the source")
    path = Path(source)
    if image_ids is None:
        return int(path.stem) if path.stem.isdecimal() else path.stem
    for name in (os.fspath(source), path.name, path.stem):
        if name in image_ids:
            return image_ids[name]
    raise InvalidRequest(f"image_ids: expected an id for {path.name!r}, found none")


def _category(categories: Categories | None, class_id: int, class_name: str) -> int:
    if categories is None:
        return class_id
    known: Mapping[Any, int] = categories
    for key in (class_name, class_id):
        if key in known:
            return known[key]
    raise InvalidRequest(f"categories: expected an id for {class_name!r} or class {class_id}, found {_some(known)}")


def _masks(found: "Detections", masks: Any) -> Any:
    try:
        array = np.asarray(masks).astype(np.bool_)
    except ValueError as exc:
        raise InvalidRequest(f"mask: expected {len(found)} of [height, width], found lists of several lengths") from exc
    size = found.image_size
    if array.ndim != 3 or (size is not None and array.shape[1:] != (size.height, size.width)):
        wanted = f"[{len(found)}, {size.height}, {size.width}]" if size else f"[{len(found)}, height, width]"
        raise InvalidRequest(f"mask: expected {wanted}, found {list(array.shape)}")
    return array


def _is_column(value: Any, count: int) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and len(value) == count


def _column(values: list[Any]) -> Any:
    """An array with one element for each detection: of numbers or text, or else of objects."""
    array = np.empty(len(values), object)
    array[:] = values
    if values and len({type(value) for value in values}) == 1 and isinstance(values[0], bool | int | float | str):
        return np.asarray(values)
    return array


def _some(known: Mapping[Any, int]) -> str:
    names = [str(key) for key in known]
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "none"


def _shown(source: Any) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else type(source).__name__
