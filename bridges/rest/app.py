"""The FastAPI application: every REST path, documented at /docs, over the functions of handlers.py.

Bodies are read by asgi.py, so nothing here parses, validates or copies.
Invariant: every answer, an unknown path's too, is JSON as answers.py makes it, or what was asked for.
"""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridges.link import Link
from bridges.rest import schemas
from bridges.rest.answers import HttpAnswer, error_answer
from bridges.rest.asgi import Inference, id_of, write
from bridges.rest.handlers import Handlers, not_found, wrong_method
from inferoxy import __version__
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError, InternalError

INFER_ERRORS = schemas.errors(400, 404, 408, 413, 415, 429, 499, 500, 501, 503, 504)
DESCRIPTION = "Pictures and tensors in, detections and tensors out. Errors are `{error, code, request_id}`."


def make_app(handlers: Handlers, link: Link, limits: LimitSettings) -> FastAPI:
    """The application for one bridge."""
    app = FastAPI(
        title="Inferoxy", version=__version__, description=DESCRIPTION, redirect_slashes=False, redoc_url=None
    )
    _add_pictures(app, handlers, link, limits)
    _add_health(app, handlers)
    _add_v2(app, handlers, link, limits)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, exc: HTTPException) -> Response:
        path = request.scope["path"]
        if exc.status_code == 405:
            allowed = (exc.headers or {}).get("Allow", "another")
            reason = wrong_method(request.method, path, allowed)
            return _Answered(_error(request, reason).with_header(b"allow", allowed.encode()))
        return _Answered(_error(request, not_found(path)))

    @app.exception_handler(Exception)
    async def failed(request: Request, exc: Exception) -> Response:
        return _Answered(_error(request, InternalError("the request could not be handled")))

    return app


class _Answered(Response):
    """An HttpAnswer as a response."""

    def __init__(self, answer: HttpAnswer) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await write(self._answer, send)


def _error(request: Request, exc: InferoxyError) -> HttpAnswer:
    return error_answer(exc, id_of(dict(request.scope["headers"])))


def _plain(request: Request, handle: Callable[..., HttpAnswer], *arguments: str) -> Response:
    """The answer of a handler that needs no body."""
    name = id_of(dict(request.scope["headers"]))
    try:
        return _Answered(handle(*arguments, name))
    except InferoxyError as exc:
        return _Answered(error_answer(exc, name))


def _add_pictures(app: FastAPI, handlers: Handlers, link: Link, limits: LimitSettings) -> None:
    version = schemas.query("version", "string", "The model's version; without it the default one.")

    @app.post(
        "/v1/models/{name}/predict",
        tags=["pictures"],
        summary="Run a picture model",
        responses={
            200: {
                "model": schemas.Prediction,
                "description": "Detections as JSON, or the drawn picture with `Accept: image/jpeg` or `image/png` "
                "(how it was served is then in X-Inferoxy-* headers).",
                "content": schemas.PICTURE_CONTENT,
            },
            **INFER_ERRORS,
        },
        openapi_extra={"requestBody": schemas.PREDICT_BODY, "parameters": schemas.PREDICT_QUERY},
    )
    async def predict(name: str, request: Request) -> Response:
        """One picture as the body, several as multipart files or `images`.

        One picture is answered with `prediction`; multipart and `images` with `results`, in order, where a picture that
        failed has `error` and `code`. If all failed the status is the first one's.
        """
        query = request.scope["query_string"]
        return Inference(lambda headers, body, rid: handlers.predict(name, query, headers, body, rid), link, limits)

    @app.delete(
        "/v1/models/{name}/sequences/{sequence_id:path}",
        tags=["pictures"],
        summary="End a sequence of a stateful model",
        responses={200: {"model": schemas.SequenceEnded}, **INFER_ERRORS},
        openapi_extra={"parameters": schemas.END_QUERY},
    )
    async def end_sequence(name: str, sequence_id: str, request: Request) -> Response:
        """It ends behind its requests that came before. 503 `SEQUENCE_LOST` says that it had ended already."""
        query = request.scope["query_string"]
        return Inference(lambda _, __, rid: handlers.end_sequence(name, sequence_id, query, rid), link, limits)

    known: dict[int | str, dict[str, Any]] = {200: {"model": schemas.ModelList}}

    @app.get("/v1/models", tags=["pictures"], summary="What is registered", responses=known)
    async def list_models(request: Request) -> Response:
        return _plain(request, handlers.list_models)

    @app.get(
        "/v1/models/{name}",
        tags=["pictures"],
        summary="One model",
        responses={200: {"model": schemas.Model}, **schemas.errors(404)},
        openapi_extra={"parameters": [version]},
    )
    async def show_model(name: str, request: Request) -> Response:
        return _plain(request, handlers.show_model, name, request.query_params.get("version", ""))


def _add_health(app: FastAPI, handlers: Handlers) -> None:
    ready_answers: dict[int | str, dict[str, Any]] = {200: {"model": schemas.Ready}, **schemas.errors(503)}

    for path in ("/livez", "/v2/health/live"):

        @app.get(path, tags=["health"], summary="The process answers", responses={200: {"model": schemas.Live}})
        async def live(request: Request) -> Response:
            return _plain(request, handlers.live)

    for path in ("/readyz", "/healthz", "/v2/health/ready"):

        @app.get(path, tags=["health"], summary="Requests can be taken", responses=ready_answers)
        async def ready(request: Request) -> Response:
            return _plain(request, handlers.ready)


def _add_v2(app: FastAPI, handlers: Handlers, link: Link, limits: LimitSettings) -> None:
    tags: list[str | Any] = ["Open Inference Protocol"]

    @app.get("/v2", tags=tags, summary="Server metadata", responses={200: {"model": schemas.ServerMetadata}})
    async def server_metadata(request: Request) -> Response:
        return _plain(request, handlers.server_metadata)

    infer: dict[str, Any] = {
        "tags": tags,
        "summary": "Run a model on tensors",
        "responses": {200: {"model": schemas.InferAnswer, "content": schemas.BINARY_CONTENT}, **INFER_ERRORS},
        "openapi_extra": {"requestBody": schemas.INFER_BODY, "parameters": schemas.INFER_HEADERS},
    }
    metadata: dict[str, Any] = {
        "tags": tags,
        "summary": "Model metadata",
        "responses": {200: {"model": schemas.ModelMetadata}, **schemas.errors(404)},
    }
    ready: dict[str, Any] = {
        "tags": tags,
        "summary": "Whether a request would be run",
        "responses": {200: {"model": schemas.Ready}, **schemas.errors(404, 503)},
    }

    @app.post("/v2/models/{name}/infer", **infer)
    async def infer_default(name: str, request: Request) -> Response:
        return Inference(lambda headers, body, rid: handlers.infer(name, "", headers, body, rid), link, limits)

    @app.post("/v2/models/{name}/versions/{version}/infer", **infer)
    async def infer_version(name: str, version: str, request: Request) -> Response:
        return Inference(lambda headers, body, rid: handlers.infer(name, version, headers, body, rid), link, limits)

    @app.get("/v2/models/{name}", **metadata)
    async def model_metadata(name: str, request: Request) -> Response:
        return _plain(request, handlers.model_metadata, name, "")

    @app.get("/v2/models/{name}/versions/{version}", **metadata)
    async def model_version_metadata(name: str, version: str, request: Request) -> Response:
        return _plain(request, handlers.model_metadata, name, version)

    @app.get("/v2/models/{name}/ready", **ready)
    async def model_ready(name: str, request: Request) -> Response:
        return _plain(request, handlers.model_ready, name, "")

    @app.get("/v2/models/{name}/versions/{version}/ready", **ready)
    async def model_version_ready(name: str, version: str, request: Request) -> Response:
        return _plain(request, handlers.model_ready, name, version)
