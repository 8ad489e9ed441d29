"""Check one model's fields and make a ModelSpec of them.

Pure but for one look at the disk: an artifact must exist. Files with line numbers are models_yaml.py's business.
Invariants: every problem of a model is found in one go; a ModelSpec that left here keeps every rule on this page;
its `default` is true only where that was stated (registry.py settles the rest).
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inferoxy.messages import ModelSpec, Scale
from inferoxy.problems import Expect, Problem, found

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NAME_RULE = "letters, digits, dots, dashes and underscores (at most 128, the first a letter or digit)"
VERSION_SEPARATOR = "@"

# What a file's suffix says about its runtime. An .onnx file is left to the instance, which reads its metadata first.
_RUNTIME_OF_SUFFIX = {".py": "python", ".xml": "openvino", ".plan": "tensorrt", ".engine": "tensorrt"}
_RUNTIME_OF_SUFFIX |= {".pt": "torch", ".pt2": "torch", ".torchscript": "torch", ".onnx": ""}


Text = Annotated[str, Expect("a text")]
Flag = Annotated[bool, Expect("true or false")]
Count = Annotated[int, Field(ge=1, le=1_000_000), Expect("an integer of at least 1")]
Size = Annotated[int, Field(ge=0, le=2**40), Expect("an integer of at least 0")]
Duration = Annotated[float, Field(gt=0, le=1e9), Expect("a number above 0")]
Delay = Annotated[float, Field(ge=0, le=1e9), Expect("a number of at least 0")]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ScaleFields(_Fields):
    """The keys of `instances`."""

    min: Size = 0
    max: Count = 1


class SpecFields(_Fields):
    """The keys of one model in models.yaml and in the admin API, without its name."""

    version: Annotated[str | int | None, Expect('a text such as "1"')] = None
    address: Text = ""
    artifact: Text = ""
    runtime: Annotated[
        Literal["", "python", "onnx", "openvino", "tensorrt", "torch", "yolo"],
        Expect("python, onnx, openvino, tensorrt, torch or yolo"),
    ] = ""
    batch_size: Count = 1
    run_on_gpu: Flag = False
    stateless: Flag = True
    default: Flag = False
    weight: Delay = 1.0
    max_queue_delay_ms: Delay = 0.0
    priority: Size = 100
    latency_budget_ms: Delay = 0.0
    protect: Annotated[Literal["none", "budget", "strict"], Expect("none, budget or strict")] = "budget"
    target_fps: Delay = 0.0
    slots: Size = 1
    timeout_ms: Duration = 30_000.0
    queue_size: Count = 256
    queue_mib: Count = 512
    drop_policy: Annotated[
        Literal["reject", "drop_oldest", "drop_newest"], Expect("reject, drop_oldest or drop_newest")
    ] = "reject"
    instances: Annotated[ScaleFields, Expect("a mapping such as {min: 0, max: 4}")] = ScaleFields()
    keep_warm_s: Delay = 300.0
    load_timeout_s: Duration = 120.0
    max_sequences: Count = 1
    sequence_idle_s: Duration = 30.0
    gpu_memory_mib: Size = 0
    memory_mib: Count = 4096
    cpus: Delay = 0.0
    environment: Annotated[dict[str, str], Expect("a mapping of names to texts")] = {}
    options: Annotated[dict[str, Any], Expect("a mapping")] = {}


def check(key: str, fields: object, base: Path | None, source: str) -> tuple[ModelSpec | None, list[Problem]]:
    """Make a model of its key and fields.

    Args:
        key: `name` or `name@version`.
        fields: What stands under the key.
        base: Folder that a relative artifact is relative to; None: it must be absolute.
        source: "file" or "admin", kept in the spec.

    Returns:
        The model and no problem, or None and every problem, each with `key` as the head of its path.
    """
    name, at, key_version = key.partition(VERSION_SEPARATOR)
    problems: list[Problem] = []
    if not NAME.fullmatch(name) or (at and not NAME.fullmatch(key_version)):
        problems.append(Problem((key,), f"expected a name of {NAME_RULE}, or name@version, found {found(key)}"))
    if not isinstance(fields, Mapping):
        return None, [*problems, Problem((key,), f"expected a mapping with address or artifact, found {found(fields)}")]
    try:
        given = SpecFields.model_validate(dict(fields))
    except ValidationError as exc:
        return None, problems + list(dict.fromkeys(_problem(key, error) for error in exc.errors()))
    version = str(given.version) if given.version is not None else key_version or "1"
    if not NAME.fullmatch(version):
        problems.append(Problem((key, "version"), f"expected {NAME_RULE}, found {found(version)}"))
    elif at and version != key_version:
        text = f"expected {found(key_version)} as in the key, or no version here, found {found(version)}"
        problems.append(Problem((key, "version"), text))
    if given.instances.min > given.instances.max:
        text = f"expected at most max ({given.instances.max}), found {given.instances.min}"
        problems.append(Problem((key, "instances", "min"), text))
    artifact, runtime = _program(key, given, base, problems)
    if problems:
        return None, problems
    values = given.model_dump(exclude={"version", "artifact", "runtime", "instances"})
    scale = Scale(given.instances.min, given.instances.max)
    return ModelSpec(
        name=name, version=version, artifact=artifact, runtime=runtime, instances=scale, source=source, **values
    ), []


def _program(key: str, given: SpecFields, base: Path | None, problems: list[Problem]) -> tuple[str, str]:
    """The absolute artifact (or "") and the runtime ("" leaves it to the instance)."""
    if bool(given.address) == bool(given.artifact):
        both = "both" if given.address else "neither"
        problems.append(Problem((key,), f"expected either address (an image) or artifact (a file), found {both}"))
        return "", ""
    if given.address:
        if re.search(r"\s", given.address) or given.address.startswith("-"):
            problems.append(Problem((key, "address"), f"expected an image name, found {found(given.address)}"))
        return "", given.runtime
    path = Path(given.artifact).expanduser()
    if base is None and not path.is_absolute():
        problems.append(Problem((key, "artifact"), f"expected an absolute path, found {found(given.artifact)}"))
        return "", ""
    path = ((base or Path("/")) / path).resolve()
    if not path.exists():
        problems.append(Problem((key, "artifact"), f"expected a file or folder that exists, found nothing at {path}"))
        return "", ""
    if given.runtime:
        return str(path), given.runtime
    suffix = path.suffix.lower()
    if not path.is_dir() and suffix not in _RUNTIME_OF_SUFFIX:
        known = ", ".join(sorted(_RUNTIME_OF_SUFFIX))
        text = f"expected with this artifact (a suffix that says it is one of {known}), found nothing"
        problems.append(Problem((key, "runtime"), text))
        return "", ""
    return str(path), "python" if path.is_dir() else _RUNTIME_OF_SUFFIX[suffix]


def _problem(key: str, error: Mapping[str, Any]) -> Problem:
    """One of pydantic's findings in our words."""
    path = tuple(str(part) for part in error["loc"])
    top = SpecFields.model_fields.get(path[0])
    siblings = ScaleFields.model_fields if path[0] == "instances" and len(path) > 1 else SpecFields.model_fields
    if top is None or error["type"] == "extra_forbidden":
        return Problem((key, *path), _unknown(path[-1], siblings))
    place = path[:2] if path[0] in ("instances", "environment", "options") else path[:1]
    if error["type"] == "less_than_equal":
        rule = f"at most {error['ctx']['le']:.0f}"
    elif path[-1] == "[key]":
        rule = "a text as key"
    elif path[0] == "environment" and len(path) > 1:
        rule = "a text (in quotes)"
    else:
        rule = next(item for item in siblings.get(place[-1], top).metadata if isinstance(item, Expect))
    return Problem((key, *place), f"expected {rule}, found {found(error['input'])}")


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5)
    return f"unknown key, did you mean {close[0]}?" if close else f"unknown key, expected one of {', '.join(known)}"
