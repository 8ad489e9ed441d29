"""The python runtime: runs the model.py of a folder (or a .py file).

It holds either one `Model` subclass or the first Inferoxy's functions (predict_batch.py runs those). The folder is the
working directory and first on sys.path, as /app is in a container, so the same folder runs unchanged in both.
"""

import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import GeneratorType, ModuleType
from typing import Any

from inferoxy import tensors as tensor_rules
from inferoxy.errors import ModelError, ModelUnavailable
from inferoxy.messages import InstanceConfig, TensorSpec
from inferoxy.runtime.backend import (
    PICTURE,
    Answer,
    Backend,
    EachBackend,
    Outcome,
    SequenceBackend,
    Signature,
    StackedBackend,
)
from inferoxy.runtime.predict_batch import PredictBatch
from inferoxy.runtime.sdk import Array, Declared, Model, Request
from inferoxy.runtime.stacking import as_declared, check_names

PLATFORM = "python"
METHODS = ("infer", "infer_each", "infer_sequence")


def load(config: InstanceConfig) -> Backend:
    """Import the model's code and let it load.

    Raises:
        ModelUnavailable: There is no model in it, or it does not fit the spec.
        Exception: Whatever the model's own code raises.
    """
    module = import_model(Path(config.artifact))
    kind = find_model(module)
    if kind is None:
        return PredictBatch(module, config)
    model = kind()
    model.options = config.options
    model.device = config.device
    model.batch_size = config.batch_size
    backend = _backend_for(model, config)
    model.load()
    return backend


def import_model(artifact: Path) -> ModuleType:
    """Import a folder's model.py, or a .py file, as the module `model`.

    Raises:
        ModelUnavailable: There is no such file.
    """
    path = (artifact / "model.py" if artifact.is_dir() else artifact).resolve()
    if not path.is_file():
        raise ModelUnavailable(f"artifact {artifact}: expected model.py in it, found none")
    os.chdir(path.parent)
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("model", path)
    if spec is None or spec.loader is None:
        raise ModelUnavailable(f"artifact {path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module
    spec.loader.exec_module(module)
    return module


def find_model(module: ModuleType) -> type[Model] | None:
    """The `Model` subclass that a module defines, or None when it has predict_batch instead.

    Raises:
        ModelUnavailable: It defines none or several, or both forms.
    """
    here = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Model) and value.__module__ == module.__name__
    ]
    leaves = [kind for kind in here if not any(issubclass(other, kind) and other is not kind for other in here)]
    old = callable(getattr(module, "predict_batch", None))
    if len(leaves) == 1 and not old:
        return leaves[0]
    if not leaves and old:
        return None
    found = [kind.__name__ for kind in leaves] + ["predict_batch"] * old
    raise ModelUnavailable(
        f"{module.__file__}: expected one subclass of inferoxy.runtime.Model, or predict_batch(samples, draw); "
        f"found {', '.join(found) or 'neither'}"
    )


def _backend_for(model: Model, config: InstanceConfig) -> Backend:
    """The backend for the one method that this model defines of its kind.

    Raises:
        ModelUnavailable: It has none or both, or its declarations are wrong.
    """
    name = type(model).__name__
    wanted = ("infer", "infer_each") if config.stateless else ("infer_sequence",)
    found = [method for method in METHODS if callable(getattr(model, method, None))]
    usable = [method for method in found if method in wanted]
    if len(usable) != 1:
        raise ModelUnavailable(
            f"{name}: expected one of {', '.join(wanted)}, because the model is registered as "
            f"{'stateless' if config.stateless else 'stateful'}; found {', '.join(found) or 'none'}"
        )
    inputs, outputs = _declared(name, "inputs", model.inputs), _declared(name, "outputs", model.outputs)
    method = usable[0]
    if method == "infer":
        for spec in (*inputs, *outputs):
            if not spec.shape or spec.shape[0] != -1:
                raise ModelUnavailable(
                    f"{name}: infer stacks requests along axis 0, so expected {spec.name} to have the batch axis -1 in "
                    f"front, found {list(spec.shape)}; infer_each takes requests as they are"
                )
    signature = Signature(
        inputs,
        outputs,
        config.batch_size,
        PLATFORM,
        decoupled=bool(model.decoupled),
        draws=method != "infer" and any(spec.name == PICTURE for spec in outputs),
    )
    kinds: dict[str, type[_ModelBackend]] = {"infer": _Stacked, "infer_each": _Each, "infer_sequence": _Sequences}
    return kinds[method](model, signature)


def _declared(name: str, which: str, declared: Declared) -> list[TensorSpec]:
    """A class's inputs or outputs as specs.

    Raises:
        ModelUnavailable: They are not a dict of (datatype, shape).
    """
    specs = []
    if not isinstance(declared, dict) or not declared:
        raise ModelUnavailable(f"{name}.{which}: expected a dict of name: (datatype, shape), found {declared!r}")
    for key, value in declared.items():
        try:
            datatype, shape = value
            tensor_rules.element_bytes(datatype)
            dims = tuple(int(d) for d in shape)
            if any(d < -1 for d in dims):
                raise ValueError("a dimension below -1")
        except Exception as exc:
            raise ModelUnavailable(
                f"{name}.{which}[{key!r}]: expected (datatype, shape) such as ('FP32', [-1, 16]), "
                f"found {value!r}: {exc}"
            ) from exc
        specs.append(TensorSpec(key, datatype, dims))
    return specs


class _ModelBackend(Backend):
    """What the three kinds have in common."""

    def __init__(self, model: Any, signature: Signature) -> None:
        super().__init__(signature)
        self._model = model

    def close(self) -> None:
        self._model.close()

    def _outcome(self, result: Any) -> Outcome:
        """What a model gave for one request, compared with what it declared."""
        if isinstance(result, Exception):
            return result
        if isinstance(result, GeneratorType):
            return self._stream(result)
        try:
            return self._answer(result)
        except ModelError as exc:
            return exc

    def _answer(self, result: dict[str, Array], final: bool = True) -> Answer:
        specs = self.signature.outputs
        check_names(result, specs)
        return Answer({spec.name: as_declared(result[spec.name], spec) for spec in specs}, final=final)

    def _stream(self, results: Iterator[dict[str, Array]]) -> Iterator[Answer]:
        for result in results:
            yield self._answer(result, final=False)


class _Stacked(_ModelBackend, StackedBackend):
    writable_inputs = True

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        result: dict[str, Array] = self._model.infer(inputs)
        return result


class _Each(_ModelBackend, EachBackend):
    def infer_each(self, requests: list[Request]) -> Sequence[Outcome]:
        results = self._model.infer_each(requests)
        if not isinstance(results, list | tuple):
            found = type(results).__name__
            raise ModelError(f"infer_each: expected a list of {len(requests)} results, found {found}")
        return [self._outcome(result) for result in results]


class _Sequences(_ModelBackend, SequenceBackend):
    def start_sequence(self, sequence_id: int | str) -> None:
        self._model.start_sequence(sequence_id)

    def infer_sequence(self, sequence_id: int | str, request: Request) -> Outcome:
        return self._outcome(self._model.infer_sequence(sequence_id, request))

    def end_sequence(self, sequence_id: int | str, reason: str) -> None:
        self._model.end_sequence(sequence_id, reason)
