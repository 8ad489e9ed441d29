"""Class names come from a file of lines or of YAML items."""

from pathlib import Path

import pytest

from inferoxy.errors import ModelUnavailable
from inferoxy.runtime.yolo.labels import read_labels


@pytest.mark.parametrize("text", ["cat\nbig dog\n", "# names\n- cat\n- 'big dog'\n", '---\n- cat\n\n- "big dog"'])
def test_lines_and_yaml_items_give_the_same_names(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    assert read_labels(path) == ["cat", "big dog"]


def test_a_file_that_is_missing_or_empty_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"absent.txt: cannot be read"):
        read_labels(tmp_path / "absent.txt")
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    with pytest.raises(ModelUnavailable, match=r"empty.txt: expected one class name a line"):
        read_labels(tmp_path / "empty.txt")
