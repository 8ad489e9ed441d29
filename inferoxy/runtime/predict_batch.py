"""Models written as the first Inferoxy's functions: `predict_batch(samples, draw)` and an optional `init(**kwargs)`.

A sample is a dict of the request's parameters and `image`, RGB UINT8 [height, width, 3]; a result is a dict of
`prediction`, a JSON-able dict, and `image`, the picture or None. A prediction with `finished: False` is followed by
more results of the same request. `init` is called for each request whose parameters hold `init`, an object or its JSON,
before its batch is run. Whatever else a result holds comes back as a parameter, as the request's own parameters do.
Of a stateful model a batch holds consecutive frames of one sequence, and `init` comes between the frames before its
request and the rest. What the module remembers is the sequence's state, so an instance can hold one sequence only.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from inferoxy.errors import InvalidRequest, ModelError, ModelUnavailable
from inferoxy.messages import InstanceConfig, TensorSpec
from inferoxy.runtime.backend import PICTURE, Answer, EachBackend, Outcome, Signature, plain
from inferoxy.runtime.sdk import Array, Request

IMAGE, INIT, PREDICTION, FINISHED = "image", "init", "prediction", "finished"
PLATFORM = "python_predict_batch"


class _Prediction(Answer):
    """One result of predict_batch."""

    __slots__ = ("_prediction",)

    def __init__(self, prediction: Any, picture: Array | None, parameters: dict[str, Any], final: bool) -> None:
        try:
            text = msgspec.json.encode(prediction)
        except (TypeError, ValueError, OverflowError) as exc:
            raise ModelError(f"prediction: expected what JSON can hold, found: {exc}") from exc
        tensors: dict[str, Array] = {PREDICTION: np.array([text], object)}
        if picture is not None:
            tensors[PICTURE] = picture
        super().__init__(tensors, parameters, final)
        self._prediction = prediction

    def prediction(self) -> Any:
        return self._prediction


class PredictBatch(EachBackend):
    """Runs the functions of a module.

    Raises:
        ModelUnavailable: It is to hold several sequences.
    """

    def __init__(self, module: ModuleType, config: InstanceConfig) -> None:
        if not config.stateless and config.max_sequences > 1:
            raise ModelUnavailable(
                f"max_sequences: expected 1, found {config.max_sequences}: predict_batch keeps its state in its "
                f"module, one for each instance; a Model with infer_sequence can keep several"
            )
        super().__init__(
            Signature(
                inputs=[TensorSpec(IMAGE, "UINT8", (-1, -1, 3))],
                outputs=[TensorSpec(PREDICTION, "BYTES", (1,)), TensorSpec(PICTURE, "UINT8", (-1, -1, 3))],
                batch_size=config.batch_size,
                platform=PLATFORM,
                any_picture_name=True,
                draws=True,
            )
        )
        self._predict_batch = module.predict_batch
        self._init = getattr(module, INIT, None)
        self._reset = self._init if callable(self._init) and _needs_no_arguments(self._init) else None
        self._keeps_order = not config.stateless

    def begin_sequence(self, request: Request) -> None:
        """Call `init` without arguments for a sequence that brings none, if it can be called so."""
        if self._reset is not None and INIT not in request.parameters:
            self._reset()

    def infer_each(self, requests: list[Request]) -> Sequence[Outcome]:
        """Outcomes of all requests.

        Raises:
            ModelError: The results cannot be told apart by request.
            Exception: Whatever predict_batch raises.
        """
        again = [at for at, request in enumerate(requests) if at and INIT in request.parameters]
        if not again or not self._keeps_order:
            return self._predict(requests)
        outcomes: list[Outcome] = []
        for start, stop in pairwise([0, *again, len(requests)]):
            part = requests[start:stop]
            try:
                outcomes += self._predict(part)
            except Exception as exc:  # the frames of other parts have been run, or still can be
                outcomes += [exc] * len(part)
        return outcomes

    def _predict(self, requests: list[Request]) -> list[Outcome]:
        outcomes: list[Outcome] = [self._initialised(request) or () for request in requests]
        able = [index for index, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
        if able:
            samples = [{**requests[index].parameters, IMAGE: _own(requests[index][IMAGE])} for index in able]
            results = self._predict_batch(samples, any(requests[index].draw for index in able))
            if not isinstance(results, Iterable):
                raise ModelError(f"predict_batch: expected a list of results, found {type(results).__name__}")
            runs = split_runs(list(results), len(able))
            for index, run in zip(able, runs, strict=True):
                outcomes[index] = self._outcome(requests[index], run)
        return outcomes

    def _initialised(self, request: Request) -> Exception | None:
        found = wanted = request.parameters.get(INIT)
        if found is None:
            return None
        if self._init is None:
            return InvalidRequest("parameters.init: this model has no init function")
        if isinstance(found, str):  # a URL's query and gRPC can carry no object
            try:
                wanted = msgspec.json.decode(found)
            except msgspec.DecodeError:
                pass
        if not isinstance(wanted, dict):
            return InvalidRequest(f"parameters.init: expected an object of keyword arguments, found {found!r:.80}")
        try:
            self._init(**wanted)
        except Exception as exc:  # concerns the request that asked for it
            return exc
        return None

    def _outcome(self, request: Request, run: Sequence[dict[str, Any]]) -> Outcome:
        answers = []
        for result in run:
            prediction = plain(result.get(PREDICTION))
            picture = result.get(IMAGE) if request.draw else None
            if picture is not None and not _is_picture(picture):
                found = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else repr(picture)
                return ModelError(f"image: expected uint8 [height, width, 3] or None, found {found:.80}")
            extra = {key: plain(value) for key, value in result.items() if key not in (PREDICTION, IMAGE)}
            try:
                answers.append(_Prediction(prediction, picture, {**request.parameters, **extra}, is_final(result)))
            except ModelError as exc:
                return exc
        return answers


def _needs_no_arguments(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):  # it needs some, or does not say
        return False
    return True


def split_runs(results: Sequence[Any], expected: int) -> list[Sequence[dict[str, Any]]]:
    """Cut the flat list of results into one run for each request; a run ends with its finished result.

    Raises:
        ModelError: A result is no dict, the list ends inside a run, or there are more or fewer runs than requests.
    """
    runs: list[Sequence[dict[str, Any]]] = []
    begun = 0
    for index, result in enumerate(results):
        if not isinstance(result, dict) or not isinstance(result.get(PREDICTION), dict):
            raise ModelError(
                f"predict_batch: expected results of the form {{'prediction': dict}}, found {result!r:.80}"
            )
        if is_final(result):
            runs.append(results[begun : index + 1])
            begun = index + 1
    if begun < len(results):
        raise ModelError("predict_batch: expected a last result without finished: False, found the end of the list")
    if len(runs) != expected:
        raise ModelError(f"predict_batch: expected results for {expected} samples, found results for {len(runs)}")
    return runs


def is_final(result: dict[str, Any]) -> bool:
    """Whether no more results of the same request follow."""
    return result[PREDICTION].get(FINISHED, True) is not False


def _is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3


def _own(image: Array) -> Array:
    """The image in memory that the model may draw into."""
    return image if image.flags.writeable else image.copy()
