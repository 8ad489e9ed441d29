"""ONNX models are stacked where they have a batch axis, and take pictures where their input is one."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inferoxy.errors import ModelUnavailable
from inferoxy.runtime.backend import StackedBackend
from tests import onnx_models
from tests.requests_for_models import Call
from tests.unit.runtime_rig import Rig, load

IMAGE = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
PNG = cv2.imencode(".png", IMAGE[..., ::-1])[1].tobytes()


def _x(*values: float) -> Call:
    return Call({"x": np.array(values, np.float32).reshape(-1, 4)})


def test_a_free_batch_axis_is_stacked(tmp_path: Path) -> None:
    with Rig(onnx_models.doubler(tmp_path / "m.onnx"), runtime="onnx") as rig:
        answers = rig.run(_x(1, 2, 3, 4), _x(*range(8)))
        assert isinstance(rig.backend, StackedBackend)
    assert answers[0][0].tensors["y"].tolist() == [[2, 4, 6, 8]]
    assert answers[1][0].tensors["y"].tolist() == [[0, 2, 4, 6], [8, 10, 12, 14]]


@pytest.mark.parametrize(("batch", "output"), [(1, 1), (3, 3), ("n", "m"), ("n", 2), (2, "n")])
def test_without_one_batch_axis_requests_go_one_by_one(tmp_path: Path, batch: int | str, output: int | str) -> None:
    rows = batch if isinstance(batch, int) else 2
    with Rig(onnx_models.doubler(tmp_path / "m.onnx", batch, output), runtime="onnx") as rig:
        assert rig.backend.signature.batch_size == 1
        answer = rig.one(_x(*range(4 * rows)))
    np.testing.assert_array_equal(answer.tensors["y"].ravel(), np.arange(4 * rows) * 2)


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_a_second_run_is_timed_where_the_shapes_are_known(tmp_path: Path, batch: int | str) -> None:
    assert 0 < load(onnx_models.doubler(tmp_path / "m.onnx", batch, batch), runtime="onnx").warm_s < 1


@pytest.mark.parametrize("dims", [["h", "w", 3], [1, "h", "w", 3]])
def test_nothing_is_run_where_the_shapes_are_not_known(tmp_path: Path, dims: list[int | str]) -> None:
    assert load(onnx_models.picture_sum(tmp_path / "m.onnx", dims), runtime="onnx").warm_s == 0


def test_a_model_that_cannot_run_on_zeros_is_loaded_all_the_same(tmp_path: Path) -> None:
    gather = helper.make_node("Gather", ["table", "index"], ["y"])
    shift = helper.make_node("Sub", ["x", "ten"], ["index"])
    constants = {"table": np.arange(3, dtype=np.float32), "ten": np.array(10, np.int64)}
    path = onnx_models.save(
        tmp_path / "m.onnx",
        [shift, gather],
        [("x", TensorProto.INT64, [1])],
        [("y", onnx_models.FLOAT, [1])],
        constants,
    )
    with Rig(path, runtime="onnx") as rig:
        assert rig.backend.warm_s == 0
        assert rig.one(Call({"x": np.array([12])})).tensors["y"].tolist() == [2]
        assert "indices element out of data bounds" in rig.one(Call({"x": np.array([0])})).error


def test_options_decide_where_shapes_mislead(tmp_path: Path) -> None:
    path = onnx_models.doubler(tmp_path / "m.onnx", "n", "m")
    assert isinstance(load(path, options={"stacked": True}), StackedBackend)
    assert not isinstance(load(onnx_models.doubler(tmp_path / "b.onnx"), options={"stacked": False}), StackedBackend)
    with pytest.raises(ModelUnavailable, match=r"options.stacked: expected a free first dimension .* x \[1, 4\]"):
        load(onnx_models.doubler(tmp_path / "f.onnx", 1, 1), options={"stacked": True})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stack": True}, "options.stack: expected one of stacked, providers, found 'stack'"),
        ({"stacked": 1}, "options.stacked: expected bool, found 1"),
        ({"providers": ["Abacus"]}, "options.providers: expected some of .*CPUExecutionProvider.*, found 'Abacus'"),
    ],
)
def test_a_wrong_option_is_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ModelUnavailable, match=words):
        load(onnx_models.doubler(tmp_path / "m.onnx"), options=options)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08not a model")
    with pytest.raises(ModelUnavailable, match=r"m.onnx: ONNX Runtime cannot load it"):
        load(tmp_path / "m.onnx", runtime="onnx")


def test_a_picture_goes_into_a_uint8_input(tmp_path: Path) -> None:
    with Rig(onnx_models.picture_sum(tmp_path / "m.onnx", ["h", "w", 3]), runtime="onnx") as rig:
        answer = rig.one(Call(picture=(PNG, "png", IMAGE.shape)))
    np.testing.assert_array_equal(answer.tensors["sum"], IMAGE.sum((0, 1)))


def test_pictures_of_one_size_are_stacked(tmp_path: Path) -> None:
    with Rig(onnx_models.picture_sum(tmp_path / "m.onnx", ["n", 4, 5, 3]), runtime="onnx") as rig:
        picture = Call(picture=(PNG, "png", IMAGE.shape))
        raw = Call({"image": IMAGE[None]})
        wrong = Call(picture=(PNG, "png", (5, 4, 3)))
        bad = Call(picture=(PNG[:50], "png", IMAGE.shape))
        (a,), (b,), (c,), (d,) = rig.run(picture, bad, raw, picture)
        np.testing.assert_array_equal(a.tensors["sum"], IMAGE.sum((0, 1))[None])
        np.testing.assert_array_equal(c.tensors["sum"], a.tensors["sum"])
        np.testing.assert_array_equal(d.tensors["sum"], a.tensors["sum"])
        assert b.code == "INVALID_REQUEST"
        assert not rig.one(wrong).code  # sides may be declared as they were before turning upright
        turned = cv2.imencode(".png", IMAGE[..., ::-1].transpose(1, 0, 2))[1].tobytes()
        found = rig.one(Call(picture=(turned, "png", (5, 4, 3))))
        assert found.error == "input 'image': expected shape [-1, 4, 5, 3], found [1, 5, 4, 3]"


def test_pictures_of_different_sizes_in_one_batch_are_run_apart(tmp_path: Path) -> None:
    large = np.full((8, 6, 3), 9, np.uint8)
    data = cv2.imencode(".png", large)[1].tobytes()
    with Rig(onnx_models.picture_sum(tmp_path / "m.onnx", ["n", "h", "w", 3]), runtime="onnx") as rig:
        calls = [Call(picture=(PNG, "png", IMAGE.shape)), Call(picture=(data, "png", large.shape))]
        (a,), (b,), (c,) = rig.run(*calls, calls[0])
    np.testing.assert_array_equal(a.tensors["sum"], c.tensors["sum"])
    np.testing.assert_array_equal(b.tensors["sum"], large.sum((0, 1))[None])


def test_a_picture_for_a_tensor_input_is_refused_clearly(tmp_path: Path) -> None:
    with Rig(onnx_models.doubler(tmp_path / "m.onnx"), runtime="onnx") as rig:
        answer = rig.one(Call(picture=(PNG, "png", IMAGE.shape)))
    assert answer.code == "INVALID_REQUEST"
    assert "expected a FP32 [-1, 4] tensor, found an encoded png picture" in answer.error


def test_strings_are_text_for_the_model_and_bytes_outside(tmp_path: Path) -> None:
    string = TensorProto.STRING
    path = onnx_models.save(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", ["s"], ["t"])],
        [("s", string, ["n"])],
        [("t", string, ["n"])],
    )
    with Rig(path, runtime="onnx") as rig:
        (a,), (b,) = rig.run(
            Call({"s": np.array([b"one", "z\u00fcri".encode()], object)}), Call({"s": np.array([b""], object)})
        )
    assert a.tensors["t"].tolist() == [b"one", "z\u00fcri".encode()]
    assert b.tensors["t"].tolist() == [b""]


def test_a_request_that_the_model_cannot_run_fails_alone(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    path = onnx_models.save(
        tmp_path / "m.onnx", nodes, [("x", onnx_models.FLOAT, ["a"])], [("y", onnx_models.FLOAT, [2, 2])],
        {"shape": np.array([2, 2], np.int64)},
    )  # fmt: skip
    with Rig(path, runtime="onnx") as rig:
        bad = rig.one(Call({"x": np.zeros(3, np.float32)}))
        good = rig.one(Call({"x": np.ones(4, np.float32)}))
    assert bad.code == "MODEL_ERROR"
    assert good.tensors["y"].tolist() == [[1, 1], [1, 1]]


def test_the_runtime_is_inferred_from_the_files_metadata(tmp_path: Path) -> None:
    plain = onnx_models.doubler(tmp_path / "plain.onnx")
    assert load(plain).signature.platform == "onnxruntime"
    head = np.zeros((6, 10), np.float32)
    for name, metadata in (("task", {"task": "detect"}), ("names", {"names": "{0: 'a', 1: 'b'}", "stride": "32"})):
        path = onnx_models.constant_head(tmp_path / f"{name}.onnx", head, metadata=metadata)
        assert load(path).signature.platform == "onnxruntime_yolo"


def test_what_the_file_says_about_itself_is_passed_on(tmp_path: Path) -> None:
    path = onnx_models.doubler(tmp_path / "m.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, {"author": "me"})
    onnx.save(model, path)
    metadata = load(path).signature.metadata
    assert metadata["author"] == "me"
    assert metadata["providers"] == "CPUExecutionProvider"
