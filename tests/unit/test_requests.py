"""What a launcher is asked for."""

import re
from pathlib import Path

import pytest

from inferoxy import wire
from inferoxy.config import Settings, complete
from inferoxy.messages import ModelSpec, Scale
from task_manager.planner import Launch
from task_manager.requests import FORM, digest_of, launch_request, new_instance_id
from tests.unit.running import spec


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return complete(Settings(data_dir=tmp_path, secret="s", log_level="debug"))


def test_the_digest_knows_every_field_that_an_instance_holds_to() -> None:
    other = {
        "address": "image:2",
        "artifact": "/other.onnx",
        "runtime": "yolo",
        "batch_size": 2,
        "run_on_gpu": True,
        "stateless": False,
        "max_sequences": 2,
        "gpu_memory_mib": 1,
        "memory_mib": 1,
        "cpus": 1.0,
        "environment": {"A": "b"},
        "options": {"a": 1},
    }
    assert set(other) == set(FORM)
    base = {"name": "scale", "artifact": "/models/scale.onnx"}
    digests = {digest_of(ModelSpec(**base | {name: value})) for name, value in other.items()}
    assert len(digests | {digest_of(ModelSpec(**base))}) == len(FORM) + 1


def test_the_digest_knows_nothing_of_queues_and_scaling() -> None:
    changed = spec(priority=1, weight=0.5, default=False, instances=Scale(1, 9), keep_warm_s=1.0, source="admin")
    assert digest_of(changed) == digest_of(spec())


def test_the_digest_does_not_depend_on_the_order_of_mappings() -> None:
    assert digest_of(spec(environment={"a": "1", "b": "2"})) == digest_of(spec(environment={"b": "2", "a": "1"}))


def test_instance_ids_are_readable_unique_and_fit_for_files_and_containers() -> None:
    model = spec("My.model_" + "x" * 100, version="2024/01")
    names = {new_instance_id(model) for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(r"My\.model_x+-[0-9a-f]{8}", name) and len(name) <= 60 for name in names)
    assert new_instance_id(spec(version="1/2")).startswith("scale-1-2-")


def test_an_instance_is_told_what_it_may_serve(settings: Settings) -> None:
    request = launch_request(Launch(spec(options={"a": 1}), "digest", "cpu"), "scale-1-x", settings, cores=4)
    config = request.config
    assert config.token == wire.instance_token("s", "scale-1-x", "scale", "1")
    assert (config.backend, config.log_level, config.options) == (settings.backend, "debug", {"a": 1})
    assert (request.instance, request.digest, request.gpu) == ("scale-1-x", "digest", "")


@pytest.mark.parametrize(
    ("fields", "threads"),
    [({}, 4), ({"cpus": 1.5}, 2), ({"instances": Scale(0, 2)}, 2), ({"instances": Scale(0, 9)}, 1)],
)
def test_the_instances_of_a_model_share_the_cores(settings: Settings, fields: dict[str, object], threads: int) -> None:
    request = launch_request(Launch(spec(**fields), "d", "cpu"), "i", settings, cores=4)
    assert request.config.threads == threads


def test_an_image_runs_its_own_code_and_an_artifact_may_be_looked_into(settings: Settings) -> None:
    image = ModelSpec(name="m", address="registry.example/m:1")
    assert launch_request(Launch(image, "d", "cpu"), "i", settings, 1).config.runtime == "python"
    assert launch_request(Launch(spec(), "d", "cpu"), "i", settings, 1).config.runtime == ""
    assert launch_request(Launch(spec(runtime="yolo"), "d", "cpu"), "i", settings, 1).config.runtime == "yolo"


def test_a_gpu_instance_gets_its_gpu_by_name(settings: Settings) -> None:
    request = launch_request(Launch(spec(run_on_gpu=True), "d", "gpu:GPU-8f2a"), "i", settings, 1)
    assert (request.gpu, request.device, request.config.device) == ("GPU-8f2a", "gpu:GPU-8f2a", "gpu:GPU-8f2a")
