"""Detections in the forms of other tools."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferoxy.client.calls import ConnectionFailed
from inferoxy.client.exports import supervision_fields, write_coco
from inferoxy.client.many import Item
from inferoxy.client.results import Detections, Size, answer_from
from inferoxy.errors import Code, InferoxyError, InvalidRequest, ModelError

ROOT = Path(__file__).parents[2]
FOUND: dict[str, Any] = {
    "boxes": [[1.5, 2.0, 30.25, 40.0], [5.0, 6.0, 7.0, 8.0]],
    "confidence": [0.9, 0.5],
    "class_id": [2, 0],
    "class_name": ["star", "circle"],
}


def detections(**more: Any) -> Detections:
    found = answer_from({**FOUND, **more}, image_size=Size(4, 3))
    assert isinstance(found, Detections)
    return found


def nothing() -> Detections:
    found = answer_from({"boxes": [], "confidence": [], "class_id": [], "class_name": [], "mask": [], "track_id": []})
    assert isinstance(found, Detections)
    return found


# COCO


def test_coco_results_have_corner_and_sides_and_the_class_id_as_category() -> None:
    assert detections().to_coco(7) == [
        {"image_id": 7, "category_id": 2, "bbox": [1.5, 2.0, 28.75, 38.0], "score": 0.9},
        {"image_id": 7, "category_id": 0, "bbox": [5.0, 6.0, 2.0, 2.0], "score": 0.5},
    ]
    assert nothing().to_coco(7) == []


def test_categories_may_be_told_by_name_or_by_class_id() -> None:
    for categories in ({"star": 90, "circle": 1}, {2: 90, 0: 1}):
        assert [result["category_id"] for result in detections().to_coco("a", categories)] == [90, 1]


def test_a_class_without_a_category_is_an_error_that_names_both() -> None:
    with pytest.raises(InvalidRequest, match="expected an id for 'circle' or class 0, found star, square"):
        detections().to_coco(1, {"star": 1, "square": 2})


def test_a_results_file_reads_back_as_the_results_of_all_pictures(tmp_path: Path) -> None:
    items = [
        Item(Path("val/000000397133.jpg"), detections(), None),
        Item("b.jpg", None, ModelError("x")),
        Item("no/objects.png", nothing(), None),
        Item("c-1.png", detections(), None),
    ]
    path = tmp_path / "results.json"
    assert write_coco(path, items) == [items[1]]
    assert json.loads(path.read_text()) == detections().to_coco(397133) + detections().to_coco("c-1")
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_image_ids_may_be_told_by_file_name_or_by_a_function(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_coco(path, [Item("x/b.jpg", detections(), None)], image_ids={"b.jpg": 5})
    assert {result["image_id"] for result in json.loads(path.read_text())} == {5}
    write_coco(path, [Item(b"data", detections(), None)], image_ids=len)
    assert {result["image_id"] for result in json.loads(path.read_text())} == {4}
    with pytest.raises(InvalidRequest, match=r"image_ids: expected an id for 'c\.jpg', found none"):
        write_coco(path, [Item("x/c.jpg", detections(), None)], image_ids={"b.jpg": 5})
    with pytest.raises(InvalidRequest, match="source bytes: expected a path, or image_ids"):
        write_coco(path, [Item(b"data", detections(), None)])


def test_no_pictures_give_an_empty_list(tmp_path: Path) -> None:
    write_coco(tmp_path / "results.json", [])
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_a_file_of_before_stays_when_the_pictures_cannot_all_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_coco(path, [])

    def broken_off() -> Iterator[Item]:
        yield Item("1.jpg", detections(), None)
        raise ConnectionFailed("gone")

    with pytest.raises(ConnectionFailed):
        write_coco(path, broken_off())
    with pytest.raises(InvalidRequest, match=r"source a\.jpg: expected detections, found a prediction without boxes"):
        write_coco(path, [Item("a.jpg", answer_from({"text": "x"}), None)])
    assert json.loads(path.read_text()) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


# supervision


def test_supervision_gets_tracks_masks_and_every_other_column() -> None:
    masks = [[[1, 0, 0, 0]] * 3, [[0, 0, 1, 1]] * 3]
    fields = supervision_fields(detections(track_id=[7, 8], mask=masks, speed=[1.5, 2.0], note=[None, "x"], frame=4))
    assert fields["tracker_id"].tolist() == [7, 8]
    assert (fields["mask"].dtype, fields["mask"].shape) == (np.bool_, (2, 3, 4))
    assert fields["data"]["class_name"].tolist() == ["star", "circle"]
    assert fields["data"]["speed"].tolist() == [1.5, 2.0]
    assert fields["data"]["note"].tolist() == [None, "x"]
    assert set(fields["data"]) == {"class_name", "speed", "note"}
    assert fields["xyxy"].tolist() == FOUND["boxes"]


def test_without_tracks_and_masks_supervision_gets_none() -> None:
    for found in (detections(), nothing(), detections(track_id=[7, None])):
        assert supervision_fields(found)["tracker_id"] is None or len(found) == 0
        assert supervision_fields(found)["mask"] is None


def test_masks_of_another_size_than_the_picture_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"mask: expected \[2, 3, 4\], found \[2, 1, 2\]"):
        supervision_fields(detections(mask=[[[1, 0]], [[0, 1]]]))
    with pytest.raises(InvalidRequest, match=r"mask: expected 2 of .*found lists of several lengths"):
        supervision_fields(detections(mask=[[[1, 0]], [[0, 1, 1]]]))


def test_without_supervision_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InferoxyError, match="pip install supervision") as caught:
        detections().to_supervision()
    assert caught.value.code is Code.UNSUPPORTED


SCRIPT = """
import json
from inferoxy.client.results import answer_from
found = answer_from(json.loads(input()))
theirs = found.to_supervision()
one = theirs[theirs.class_id == 2]
none = answer_from({"boxes": [], "confidence": [], "class_id": [], "class_name": []}).to_supervision()
print(json.dumps({
    "boxes": theirs.xyxy.tolist(), "names": list(theirs["class_name"]), "tracks": theirs.tracker_id.tolist(),
    "area": theirs.area.tolist(), "one": [len(one), str(one["class_name"][0]), int(one.tracker_id[0])],
    "none": [len(none), none.xyxy.shape == (0, 4)],
}))
"""


def interpreter_with_supervision() -> str | None:
    """The Python that has the package: this one, or what INFEROXY_SUPERVISION_PYTHON names."""
    for python in (os.environ.get("INFEROXY_SUPERVISION_PYTHON"), sys.executable):
        if (
            python
            and subprocess.run([python, "-c", "import supervision"], capture_output=True, check=False).returncode == 0
        ):
            return python
    return None


def test_supervision_itself_takes_the_detections(tmp_path: Path) -> None:
    python = interpreter_with_supervision()
    if python is None:
        pytest.skip("the package supervision is not installed here, nor where INFEROXY_SUPERVISION_PYTHON says")
    sent = FOUND | {"track_id": [7, 8], "mask": [[[1, 0, 0, 0]] * 3, [[0, 0, 1, 1]] * 3]}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", SCRIPT], input=json.dumps(sent), capture_output=True, text=True, timeout=60.0,
        check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["boxes"], said["names"], said["tracks"]) == (FOUND["boxes"], ["star", "circle"], [7, 8])
    assert said["area"] == [3.0, 6.0]  # of the masks
    assert said["one"] == [1, "star", 7]
    assert said["none"] == [0, True]
