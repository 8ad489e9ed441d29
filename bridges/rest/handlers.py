"""What each REST request means, apart from how it arrives and how its answer is written.

Framework-free: a handler takes a request's parts and gives an HttpAnswer, or an Exchange that makes one. The FastAPI
routes and the hot path call the same functions, so that both answer alike.
Invariant: a handler raises InferoxyError or nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from bridges import v2
from bridges.models import ModelIndex, describe_inputs, is_ready, takes_picture
from bridges.pending import Answer
from bridges.requests import Frames, Prepared, is_bare_end
from bridges.rest import predict
from bridges.rest.answers import (
    JSON,
    HttpAnswer,
    answer,
    content_lines,
    error_answer,
    inference_answer,
    json_answer,
    model_lines,
)
from bridges.rest.exchange import Exchange, Outcome
from bridges.rest.v2_handlers import V2Handlers
from bridges.results import Result, drawn_picture, read, served_fields
from bridges.v2_regions import Regions
from inferoxy import messages as m
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, InternalError, InvalidRequest, ModelError, ModelUnavailable

HeaderMap = Mapping[bytes, bytes]  # names in lower case
_ENCODE = msgspec.json.Encoder().encode


class Handlers:
    """All of the REST bridge's requests.

    Args:
        models: What is registered.
        is_ready: Whether requests can be taken.
        limits: What is accepted from clients.
        regions: Where tensors of the Open Inference Protocol may lie; None: nowhere but in requests.

    Attributes:
        v2: The requests of that protocol.
    """

    def __init__(
        self, models: ModelIndex, is_ready: Callable[[], bool], limits: LimitSettings, regions: Regions | None = None
    ) -> None:
        self._models = models
        self._is_ready = is_ready
        self._limits = limits
        self.v2 = V2Handlers(models, limits, regions or Regions(is_allowed=False))

    # Inference

    def predict(self, name: str, query: bytes, headers: HeaderMap, body: memoryview, request_id: str) -> Exchange:
        """`POST /v1/models/{name}/predict`."""
        options, parameters = predict.read_query(query)
        view = self._models.find(name, options.version)
        if view is not None and takes_picture(view) is False:
            raise InvalidRequest(
                f"model {name!r} takes tensors ({describe_inputs(view)}), not pictures: "
                f"post them to /v2/models/{name}/infer"
            )
        drawn = predict.wanted_picture(headers.get(b"accept", b""))
        pictures = predict.read_pictures(headers.get(b"content-type", b""), body, self._limits)
        if drawn and len(pictures.items) > 1:
            raise InvalidRequest(f"Accept: expected application/json for several pictures, found image/{drawn}")
        if pictures.parameters:
            parameters = {**parameters, **pictures.parameters}
        calls: list[tuple[m.Request, Frames] | InferoxyError] = []
        sent = [at for at, item in enumerate(pictures.items) if not isinstance(item, InferoxyError)]
        for at, item in enumerate(pictures.items):
            if isinstance(item, InferoxyError):
                calls.append(item)
                continue
            prepared = Prepared(
                [item.tensor], [len(item.frame)], parameters=parameters, outputs=[], form="prediction", picture=drawn
            )
            own = predict.step_options(options, at == sent[0], at == sent[-1])
            calls.append(prepared.request(name, [item.frame], own, request_id))
        version = view.spec.version if view else options.version
        answers = _Predictions(name, version, view is not None and view.decoupled, request_id, pictures)
        finish = answers.picture if drawn else answers.many if pictures.is_list else answers.one
        return Exchange(calls, finish, request_id)

    def end_sequence(self, name: str, sequence_id: str, query: bytes, request_id: str) -> Exchange:
        """`DELETE /v1/models/{name}/sequences/{sequence_id}`."""
        options = predict.read_end(sequence_id, query)
        is_bare_end(0, options, self._models.find(name, options.version))
        prepared = Prepared([], [], parameters={}, outputs=[], form="tensors")

        def finish(outcomes: list[Outcome]) -> HttpAnswer:
            _answers(outcomes[0])
            ended = options.sequence.id if options.sequence else sequence_id
            return json_answer(200, {"model": name, "sequence_id": ended, "ended": True}, request_id)

        return Exchange([prepared.request(name, (), options, request_id)], finish, request_id)

    # Models

    def list_models(self, request_id: str) -> HttpAnswer:
        """`GET /v1/models`."""
        return json_answer(200, {"models": [_shown(view) for view in self._models.all()]}, request_id)

    def show_model(self, name: str, version: str, request_id: str) -> HttpAnswer:
        """`GET /v1/models/{name}`."""
        view = self._models.require(name, version)
        return json_answer(200, {**_shown(view), "versions": self._models.versions(name)}, request_id)

    # Server

    def live(self, request_id: str) -> HttpAnswer:
        """`GET /livez`, `/v2/health/live`."""
        return json_answer(200, {"live": True}, request_id)

    def ready(self, request_id: str) -> HttpAnswer:
        """`GET /readyz`, `/healthz`, `/v2/health/ready`: whether requests can be taken, whatever the models do."""
        if self._is_ready():
            return json_answer(200, {"ready": True}, request_id)
        raise ModelUnavailable("the server is not ready: its batch manager or model manager has not been heard")


class _Predictions:
    """The answers of one predict call."""

    def __init__(
        self, model: str, version: str, is_decoupled: bool, request_id: str, pictures: predict.Pictures
    ) -> None:
        self._model = model
        self._version = version
        self._is_decoupled = is_decoupled
        self._request_id = request_id
        self._items = pictures.items

    def one(self, outcomes: list[Outcome]) -> HttpAnswer:
        """JSON of a single picture's predictions."""
        results = [read(a) for a in _answers(outcomes[0])]
        return self._json(200, self._entry(self._items[0], results), results)

    def many(self, outcomes: list[Outcome]) -> HttpAnswer:
        """JSON with one result per picture, in order. If all failed, the first one's error is the answer's."""
        entries: list[dict[str, Any]] = []
        first: InferoxyError | None = None
        results: list[Result] = []
        for item, outcome in zip(self._items, outcomes, strict=True):
            if isinstance(outcome, InferoxyError):
                first = first or outcome
                entries.append({"error": outcome.message, "code": outcome.code.value})
                continue
            mine = [read(a) for a in outcome]
            results += mine
            entries.append(self._entry(item, mine))
        if first is not None and not any("image" in entry for entry in entries):
            return error_answer(first, self._request_id, {"results": entries})
        return self._json(200, {"results": entries}, results)

    def picture(self, outcomes: list[Outcome]) -> HttpAnswer:
        """The drawn picture itself; of several answers the last that drew one."""
        results = [read(a) for a in _answers(outcomes[0])]
        for result in reversed(results):
            output = drawn_picture(result)
            if output is not None:
                kind = f"image/{output.tensor.encoding}".encode()
                version = result.served.version or self._version
                lines = content_lines(kind, len(output.data)) + model_lines(self._model, version)
                return inference_answer(lines, self._request_id, result.served, [output.data])
        raise InvalidRequest(f"Accept: model {self._model!r} gave no picture, expected application/json")

    def _entry(self, item: predict.Posted | InferoxyError, results: list[Result]) -> dict[str, Any]:
        if isinstance(item, InferoxyError):
            raise InternalError("a refused picture was answered")
        entry: dict[str, Any] = {"image": item.size}
        if self._is_decoupled or len(results) != 1:
            entry["predictions"] = [result.prediction for result in results]
        else:
            entry["prediction"] = results[0].prediction
        if results:
            entry["served"] = served_fields(results[-1].served)
        return entry

    def _json(self, status: int, content: dict[str, Any], results: list[Result]) -> HttpAnswer:
        version = next((r.served.version for r in results if r.served.version), self._version)
        head = {"model": self._model, "version": version, "request_id": self._request_id}
        try:
            body = _ENCODE({**head, **content})
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise ModelError(f"model {self._model!r}: its prediction cannot be JSON: {exc}") from exc
        return answer(status, JSON, [body], self._request_id)


def not_found(path: str) -> InferoxyError:
    """There is nothing at this path."""
    return InferoxyError(f"path {path[:200]!r}: not found, see /docs", Code.NOT_FOUND)


def wrong_method(method: str, path: str, allowed: str) -> InferoxyError:
    """There is something at this path, but not for this method."""
    why = f"method: expected {allowed}, found {method[:20]} for {path[:200]!r}"
    return InferoxyError(why, Code.METHOD_NOT_ALLOWED)


def _answers(outcome: Outcome) -> list[Answer]:
    if isinstance(outcome, InferoxyError):
        raise outcome
    return outcome


def _spec(spec: m.TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _shown(view: m.ModelView) -> dict[str, Any]:
    """A model as clients see it: nothing of its environment or where it comes from."""
    spec = view.spec
    return {
        "name": spec.name,
        "version": spec.version,
        "default": spec.default,
        "state": view.state,
        "ready": is_ready(view),
        "error": view.error,
        "platform": v2.platform(view),
        "stateless": spec.stateless,
        "batch_size": spec.batch_size,
        "priority": spec.priority,
        "timeout_ms": spec.timeout_ms,
        "instances": view.instances,
        "inputs": [_spec(s) for s in view.inputs],
        "outputs": [_spec(s) for s in view.outputs],
        "metadata": view.metadata,
    }
