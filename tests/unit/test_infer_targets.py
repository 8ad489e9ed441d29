"""Where `inferoxy infer` writes what it makes."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferoxy.cli.infer.inputs import Input, Kind
from inferoxy.cli.infer.targets import check_is_file_name, check_results_file, encoding_for, folder_of, targets_for
from inferoxy.errors import InvalidRequest


def picture(path: str, root: str | None = None) -> Input:
    return Input(Path(path), Kind.PICTURE, Path(os.path.abspath(root or os.path.dirname(path) or ".")))


def video(path: str) -> Input:
    return Input(Path(path), Kind.VIDEO, Path(os.path.abspath(path)).parent)


def saved(inputs: list[Input], save: str = "/out/") -> list[str]:
    return [str(target) for target in targets_for(inputs, save)]


def test_files_of_one_folder_keep_their_paths_below_it() -> None:
    inputs = [picture("/photos/1.jpg", "/photos"), picture("/photos/a/b/1.png", "/photos")]
    assert saved(inputs) == ["/out/1.jpg", "/out/a/b/1.jpg"]
    assert [str(one) for one in targets_for(inputs, "/out/", "png")] == ["/out/1.png", "/out/a/b/1.png"]


def test_what_lies_in_several_folders_keeps_its_path_below_the_one_that_they_share() -> None:
    inputs = [picture("/cams/gate/1.jpg"), picture("/cams/door/1.jpg"), video("/cams/door/day/1.avi")]
    assert saved(inputs) == ["/out/gate/1.jpg", "/out/door/1.jpg", "/out/door/day/1.mp4"]


def test_two_inputs_never_share_a_file() -> None:
    inputs = [picture("/p/1.jpg"), picture("/p/1.png"), picture("/p/1-2.jpg"), picture("/p/1.jpg"), picture("/p/1")]
    assert saved(inputs) == ["/out/1.jpg", "/out/1-3.jpg", "/out/1-2.jpg", "/out/1-4.jpg", "/out/1-5.jpg"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["1", "1-2", "1-2-2", "2"]), st.sampled_from([".jpg", ".png", ".webp", "", ".mp4"])),
        min_size=1,
    )
)
def test_however_names_clash_every_input_has_a_file_of_its_own(names: list[tuple[str, str]]) -> None:
    inputs = [(video if suffix == ".mp4" else picture)(f"/p/{stem}{suffix}") for stem, suffix in names]
    targets = saved(inputs)
    assert len(set(targets)) == len(inputs)
    assert all(
        target.endswith(".mp4" if one.kind is Kind.VIDEO else ".jpg")
        for one, target in zip(inputs, targets, strict=True)
    )


def test_a_thousand_times_the_same_file_takes_no_time() -> None:
    assert len(set(saved([picture("/p/1.jpg")] * 5_000))) == 5_000


def test_a_suffix_that_is_no_picture_s_belongs_to_the_name() -> None:
    assert saved([picture("/p/cam.2024")]) == ["/out/cam.2024.jpg"]


def test_standard_input_has_a_name_and_no_place() -> None:
    assert saved([Input(Path("-"), Kind.STDIN, Path.cwd())]) == ["/out/stdin.jpg"]
    assert saved([Input(Path("-"), Kind.STDIN, Path.cwd()), picture("/p/a/1.jpg")]) == ["/out/stdin.jpg", "/out/1.jpg"]


def test_a_single_input_may_have_a_file_named(tmp_path: Path) -> None:
    assert targets_for([picture("/p/1.jpg")], f"{tmp_path}/x.PNG") == [tmp_path / "x.PNG"]
    assert encoding_for([tmp_path / "x.PNG"]) == "png"
    assert encoding_for([tmp_path / "x.mp4"]) == "jpeg"
    assert encoding_for([]) == ""
    assert targets_for([video("/p/1.avi")], f"{tmp_path}/x.mp4") == [tmp_path / "x.mp4"]
    assert targets_for([picture("/p/1.jpg")], None) == []


@pytest.mark.parametrize(
    ("inputs", "save", "message"),
    [
        ([picture("/p/1.jpg")] * 2, "x.jpg", r"expected a folder for 2 inputs, found the file name x\.jpg"),
        ([picture("/p/1.jpg")], "x.gif", r"ending in \.jpg, \.jpeg, \.png for a picture, or a folder, found x\.gif"),
        ([video("/p/1.avi")], "x.jpg", r"ending in \.mp4 for a video, or a folder, found x\.jpg"),
        ([picture("/p/1.jpg")], "nowhere/x.jpg", "there is no folder .*/nowhere"),
        ([picture("/p/1.jpg")], "/p/1.jpg", r"/p/1\.jpg is an input, which would be written over"),
        ([picture("/p/a/1.jpg", "/p"), picture("/p/2.png", "/p")], "/p/", r"/p/a/1\.jpg is an input"),
    ],
)
def test_what_cannot_be_meant_is_refused(inputs: list[Input], save: str, message: str) -> None:
    if save == "/p/1.jpg":
        save, inputs = str(Path.cwd() / "1.jpg"), [picture(str(Path.cwd() / "1.jpg"))]
        message = r"1\.jpg is an input, which would be written over"
    with pytest.raises(InvalidRequest, match=message):
        targets_for(inputs, save)


def test_a_folder_is_what_exists_as_one_or_has_no_suffix_or_ends_in_a_slash(tmp_path: Path) -> None:
    (tmp_path / "v1.2").mkdir()
    assert folder_of("new") == Path("new")
    assert folder_of(f"{tmp_path}/v1.2") == tmp_path / "v1.2"
    assert folder_of("run.1/") == Path("run.1")
    assert folder_of("x.jpg") is None
    assert folder_of(None) is None
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidRequest, match="expected a folder, found the file"):
        targets_for([picture("/p/1.jpg")], str(tmp_path / "file"))


def test_a_forgotten_file_name_of_results_overwrites_nothing(tmp_path: Path) -> None:
    here = tmp_path / "a.jsonl"
    here.write_bytes(b"")
    with pytest.raises(InvalidRequest, match=r"--json: expected a file for results, .*, found b\.jpg"):
        check_results_file("--json", "b.jpg", [])
    with pytest.raises(InvalidRequest, match=r"--csv: .*a\.jsonl is an input"):
        check_results_file("--csv", str(here), [picture(str(here))])
    with pytest.raises(InvalidRequest, match=r"--csv: .* is a folder"):
        check_results_file("--csv", str(tmp_path), [])
    with pytest.raises(InvalidRequest, match="--csv: there is no folder"):
        check_results_file("--csv", str(tmp_path / "no" / "x.csv"), [])
    with pytest.raises(InvalidRequest, match=r"--json: expected a file name, .*, found --url"):
        check_is_file_name("--json", "--url")
    for fine in (None, "-", str(tmp_path / "x.csv")):
        check_is_file_name("--csv", fine)
        check_results_file("--csv", fine, [picture("/p/1.jpg")])
