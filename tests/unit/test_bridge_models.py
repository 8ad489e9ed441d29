"""What bridges know of models."""

from typing import Any

import msgspec
import pytest

from bridges.models import DEFAULT_TIMEOUT_S, ModelIndex, is_ready, public_view, takes_picture
from inferoxy import messages as m
from inferoxy.errors import ModelNotFound

PICTURE = m.TensorSpec("image", "UINT8", (-1, -1, 3))
ROW = m.TensorSpec("INPUT0", "FP32", (-1, 16))


def view(name: str = "a", version: str = "1", *, instances: int = 0, state: str = "idle", **spec: Any) -> m.ModelView:
    return m.ModelView(m.ModelSpec(name=name, version=version, **spec), state, instances=instances)


def index(*views: m.ModelView, complete: bool = True) -> ModelIndex:
    models = ModelIndex()
    models.update(m.Models(revision=5, models=list(views), complete=complete))
    return models


def test_an_empty_version_means_the_default_one() -> None:
    models = index(view(version="1", default=False), view(version="2"))
    assert models.require("a").spec.version == "2"
    assert models.require("a", "1").spec.version == "1"
    assert models.versions("a") == ["1", "2"]


def test_the_first_version_stands_in_for_a_missing_default() -> None:
    assert index(view(default=False)).require("a").spec.version == "1"


def test_unknown_model_and_version_are_refused_by_name() -> None:
    models = index(view())
    with pytest.raises(ModelNotFound, match="Request for unknown model: 'b' is not found"):
        models.find("b")
    with pytest.raises(ModelNotFound, match="'a' version '7' is not found, expected version 1"):
        models.find("a", "7")


def test_nothing_is_refused_before_the_registry_has_been_heard() -> None:
    models = index(complete=False)
    assert models.find("b") is None
    with pytest.raises(ModelNotFound):
        models.require("b")


def test_a_new_snapshot_replaces_the_old_one() -> None:
    models = index(view("a"))
    models.update(m.Models(revision=6, models=[view("b")], complete=True))
    assert [v.spec.name for v in models.all()] == ["b"]
    assert (models.revision, models.updates) == (6, 2)


def test_timeout_is_the_models_own() -> None:
    models = index(view(timeout_ms=1_500.0))
    assert models.timeout_s("a") == 1.5
    assert models.timeout_s("b") == DEFAULT_TIMEOUT_S


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (view(instances=1, state="ready"), True),
        (view(state="idle"), True),  # starts when asked for
        (view(state="starting"), False),
        (view(state="failing"), False),
        (view(state="idle", instances=0), True),
    ],
)
def test_model_is_ready_when_a_request_would_be_run(found: m.ModelView, expected: bool) -> None:
    assert is_ready(found) is expected


def test_model_that_is_to_be_kept_up_is_not_ready_before_it_is_up() -> None:
    kept = m.ModelView(m.ModelSpec(name="a", instances=m.Scale(1, 2)), "idle")
    assert not is_ready(kept)


@pytest.mark.parametrize(
    ("inputs", "runtime", "expected"),
    [
        ([PICTURE], "", True),
        ([ROW], "", False),
        ([PICTURE, ROW], "", False),
        ([m.TensorSpec("x", "UINT8", (-1, 224, 224, 3))], "", False),
        ([], "yolo", True),
        ([], "onnx", None),
    ],
)
def test_picture_models_are_known_by_their_only_input(
    inputs: list[m.TensorSpec], runtime: str, expected: bool | None
) -> None:
    assert takes_picture(m.ModelView(m.ModelSpec(name="a", runtime=runtime), inputs=inputs)) is expected


def test_nothing_secret_is_in_a_public_view() -> None:
    spec = m.ModelSpec(
        name="a", address="registry/secret", artifact="/secret", environment={"K": "secret"}, options={"k": "secret"}
    )
    shown = public_view(m.ModelView(spec, inputs=[ROW]))
    assert b"secret" not in msgspec.msgpack.encode(shown)
    assert shown.inputs == [ROW]
