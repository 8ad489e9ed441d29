"""Claims about reading models.yaml: what is accepted, and the exact words for what is not."""

from pathlib import Path

import pytest

from inferoxy.errors import ConfigError
from inferoxy.messages import ModelSpec, Scale
from model_manager import models_yaml


def read(text: str, base: Path = Path("/")) -> list[ModelSpec]:
    return models_yaml.parse(text.encode(), base)


def refusal(text: str, base: Path = Path("/")) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, base)
    return caught.value.message.splitlines()


def test_a_file_of_the_first_inferoxy_works_as_it_is() -> None:
    text = "stub:\n  address: registry/stub:v2\n  batch_size: 4\n  run_on_gpu: False\n  stateless: True\n"
    assert read(text) == [
        ModelSpec(
            name="stub", address="registry/stub:v2", batch_size=4, run_on_gpu=False, stateless=True, default=False
        )
    ]


def test_every_key_reaches_the_spec(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    text = """
detector:
  artifact: net.onnx
  runtime: yolo
  version: "3"
  batch_size: 16
  run_on_gpu: true
  stateless: false
  default: true
  weight: 0.5
  max_queue_delay_ms: 2
  priority: 7
  latency_budget_ms: 80
  timeout_ms: 5000
  queue_size: 12
  queue_mib: 64
  drop_policy: drop_oldest
  instances: {min: 1, max: 4}
  keep_warm_s: 60
  load_timeout_s: 30
  max_sequences: 2
  sequence_idle_s: 5.5
  gpu_memory_mib: 2000
  memory_mib: 512
  cpus: 1.5
  environment: {MODE: fast}
  options: {confidence: 0.3, labels: names.txt}
"""
    assert read(text, tmp_path) == [
        ModelSpec(
            name="detector",
            version="3",
            artifact=str(tmp_path / "net.onnx"),
            runtime="yolo",
            batch_size=16,
            run_on_gpu=True,
            stateless=False,
            default=True,
            weight=0.5,
            max_queue_delay_ms=2,
            priority=7,
            latency_budget_ms=80,
            timeout_ms=5000,
            queue_size=12,
            queue_mib=64,
            drop_policy="drop_oldest",
            instances=Scale(1, 4),
            keep_warm_s=60,
            load_timeout_s=30,
            max_sequences=2,
            sequence_idle_s=5.5,
            gpu_memory_mib=2000,
            memory_mib=512,
            cpus=1.5,
            environment={"MODE": "fast"},
            options={"confidence": 0.3, "labels": "names.txt"},
        )
    ]


@pytest.mark.parametrize(
    ("name", "runtime"),
    [("a.onnx", ""), ("a.py", "python"), ("a.xml", "openvino"), ("a.engine", "tensorrt"), ("a.PT", "torch")],
)
def test_runtime_is_inferred_from_the_suffix_and_onnx_left_to_the_instance(
    tmp_path: Path, name: str, runtime: str
) -> None:
    (tmp_path / name).touch()
    assert read(f"m: {{artifact: {name}}}", tmp_path)[0].runtime == runtime


def test_a_folder_is_a_python_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert read("m: {artifact: model}", tmp_path)[0].runtime == "python"


def test_versions_stand_under_name_at_version() -> None:
    found = read("m: {address: a}\nm@2: {address: b, default: true}\nm@3: {address: c, version: 3}\n")
    assert [(m.name, m.version, m.default) for m in found] == [
        ("m", "1", False),
        ("m", "2", True),
        ("m", "3", False),
    ]


def test_names_and_versions_are_what_is_written_not_what_yaml_makes_of_it() -> None:
    found = read("on: {address: a}\n1.10: {address: b, version: 2024-01-31}\n7: {address: c, version: 12}\n")
    assert [(m.name, m.version) for m in found] == [("on", "1"), ("1.10", "2024-01-31"), ("7", "12")]


def test_merge_keys_share_settings_between_models() -> None:
    found = read("a: &common {address: x, batch_size: 4}\nb: {<<: *common, batch_size: 5}\n")
    assert [(m.name, m.address, m.batch_size) for m in found] == [("a", "x", 4), ("b", "x", 5)]


def test_an_empty_file_has_no_models() -> None:
    assert read("") == []
    assert read("# nothing yet\n") == []


def test_all_problems_are_reported_together_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = """\
detector:
  address: image
  batch_sise: 4
  batch_size: many
  drop_policy: drop
  version: 1.5
  instances: {min: 3, mx: 2}
  environment: {THREADS: 2}
both: {address: x, artifact: y}
neither: {batch_size: 2}
gone: {artifact: no.onnx}
number: 3
empty:
high: {address: x, batch_size: 10000000}
flags: {address: x, run_on_gpu: 1, cpus: true, weight: .nan, priority: 1.0}
crossed: {address: x, instances: {min: 3, max: 2}}
two words: {address: x}
m@2: {address: x, version: 3}
detector: {address: again}
"""
    assert refusal(text, tmp_path) == [
        "models.yaml:3: detector.batch_sise: unknown key, did you mean batch_size?",
        'models.yaml:4: detector.batch_size: expected an integer of at least 1, found "many"',
        'models.yaml:5: detector.drop_policy: expected reject, drop_oldest or drop_newest, found "drop"',
        'models.yaml:6: detector.version: expected a text such as "1", found 1.5',
        "models.yaml:7: detector.instances.mx: unknown key, did you mean max?",
        "models.yaml:8: detector.environment.THREADS: expected a text (in quotes), found 2",
        "models.yaml:9: both: expected either address (an image) or artifact (a file), found both",
        "models.yaml:10: neither: expected either address (an image) or artifact (a file), found neither",
        f"models.yaml:11: gone.artifact: expected a file or folder that exists, found nothing at {tmp_path}/no.onnx",
        "models.yaml:12: number: expected a mapping with address or artifact, found 3",
        "models.yaml:13: empty: expected a mapping with address or artifact, found nothing",
        "models.yaml:14: high.batch_size: expected at most 1000000, found 10000000",
        "models.yaml:15: flags.run_on_gpu: expected true or false, found 1",
        "models.yaml:15: flags.weight: expected a number of at least 0, found NaN",
        "models.yaml:15: flags.priority: expected an integer of at least 0, found 1.0",
        "models.yaml:15: flags.cpus: expected a number of at least 0, found true",
        "models.yaml:16: crossed.instances.min: expected at most max (2), found 3",
        "models.yaml:17: two words: expected a name of letters, digits, dots, dashes and underscores (at most 128, "
        'the first a letter or digit), or name@version, found "two words"',
        'models.yaml:18: m@2.version: expected "2" as in the key, or no version here, found "3"',
        "models.yaml:19: detector: expected once, found again (first in line 1)",
    ]


def test_a_key_that_stands_twice_is_a_problem() -> None:
    assert refusal("m:\n  address: a\n  batch_size: 2\n  address: b\n") == [
        "models.yaml:4: m.address: expected once, found again (first in line 2)"
    ]


def test_a_version_registered_twice_is_a_problem() -> None:
    assert refusal("m: {address: a}\nm@1: {address: b}\n") == [
        'models.yaml:2: m@1.version: expected another version, found "1" as in m'
    ]


def test_two_default_versions_are_a_problem() -> None:
    assert refusal("m: {address: a, default: true}\nm@2: {address: b, default: true}\n") == [
        "models.yaml:2: m@2.default: expected one default version, found another in m"
    ]


def test_an_artifact_of_an_unknown_kind_needs_a_runtime(tmp_path: Path) -> None:
    (tmp_path / "net.bin").touch()
    assert refusal("m: {artifact: net.bin}", tmp_path) == [
        "models.yaml:1: m.runtime: expected with this artifact (a suffix that says it is one of .engine, .onnx, .plan, "
        ".pt, .pt2, .py, .torchscript, .xml), found nothing"
    ]
    assert read("m: {artifact: net.bin, runtime: onnx}", tmp_path)[0].runtime == "onnx"


@pytest.mark.parametrize("address", ["two words", "-flag", "a\\tb"])
def test_an_address_that_is_no_image_name_is_a_problem(address: str) -> None:
    (line,) = refusal(f'm: {{address: "{address}"}}')
    assert line.startswith("models.yaml:1: m.address: expected an image name, found ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[1, 2]", "models.yaml:1: expected a mapping of models, found a list"),
        ("just text", 'models.yaml:1: expected a mapping of models, found "just text"'),
        (
            "a: {address: b}\n---\nb: {}",
            "models.yaml:2: not valid YAML: expected a single document in the stream, but found another document",
        ),
        ("a: &a {options: {b: *a}}", "models.yaml:1: a.options.b: expected a value, found one that contains itself"),
        ("a: {? [1] : 2}", "models.yaml:1: not valid YAML: while constructing a mapping, found unhashable key"),
    ],
)
def test_what_is_not_a_mapping_of_models_is_refused_in_plain_words(text: str, line: str) -> None:
    assert refusal(text) == [line]


def test_broken_yaml_is_refused_with_its_line() -> None:
    (line,) = refusal("a: {address: b}\nb: {address: c\n")
    assert line.startswith(("models.yaml:2: not valid YAML:", "models.yaml:3: not valid YAML:"))


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        models_yaml.parse(b"\xff\x00\x01a: b", Path("/"))


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^/nowhere/models.yaml: cannot be read: No such file or directory$"):
        models_yaml.load(Path("/nowhere/models.yaml"))


def test_messages_name_the_file_as_seen_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "conf" / "m.yaml"
    file.parent.mkdir()
    file.write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^conf/m.yaml:1: a: expected a mapping"):
        models_yaml.load(file)
