"""The FastAPI application: every REST path, documented at /docs, over the functions of handlers.py.

Bodies are read by asgi.py, so nothing here parses, validates or copies. Routes are added by the *_routes modules.
Invariant: every answer, an unknown path's too, is JSON as answers.py makes it, or what was asked for.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from bridges.link import Link
from bridges.rest import first_routes, picture_routes, schemas, stream_routes, v2_routes
from bridges.rest.handlers import Handlers, not_found, wrong_method
from bridges.rest.routes import Answered, error, plain
from bridges.rest.v2_control import V2Control
from inferoxy import __version__
from inferoxy.config import LimitSettings
from inferoxy.errors import InternalError

DESCRIPTION = "Pictures and tensors in, detections and tensors out. Errors are `{error, code, request_id}`."


def make_app(handlers: Handlers, control: V2Control, link: Link, limits: LimitSettings) -> FastAPI:
    """The application for one bridge."""
    app = FastAPI(
        title="Inferoxy", version=__version__, description=DESCRIPTION, redirect_slashes=False, redoc_url=None
    )
    picture_routes.add(app, handlers, link, limits)
    stream_routes.add(app)
    first_routes.add(app, link, limits)
    _add_health(app, handlers)
    v2_routes.add(app, handlers.v2, control, link, limits)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, exc: HTTPException) -> Response:
        path = request.scope["path"]
        if exc.status_code == 405:
            allowed = (exc.headers or {}).get("Allow", "another")
            reason = wrong_method(request.method, path, allowed)
            return Answered(error(request, reason).with_header(b"allow", allowed.encode()))
        return Answered(error(request, not_found(path)))

    @app.exception_handler(Exception)
    async def failed(request: Request, exc: Exception) -> Response:
        return Answered(error(request, InternalError("the request could not be handled")))

    app.openapi = partial(_described, app, app.openapi)  # type: ignore[method-assign]
    return app


def _described(app: FastAPI, describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The OpenAPI document without the answers of a validation that FastAPI does for other applications."""
    if app.openapi_schema is None:
        document = describe()
        for path in document["paths"].values():
            for operation in path.values():
                if operation["responses"].get("422", {}).get("description") == "Validation Error":
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema


def _add_health(app: FastAPI, handlers: Handlers) -> None:
    ready_answers: dict[int | str, dict[str, Any]] = {200: {"model": schemas.Ready}, **schemas.errors(503)}

    for path in ("/livez", "/v2/health/live"):

        @app.get(path, tags=["health"], summary="The process answers", responses={200: {"model": schemas.Live}})
        async def live(request: Request) -> Response:
            return plain(request, handlers.live)

    for path in ("/readyz", "/healthz", "/v2/health/ready"):

        @app.get(path, tags=["health"], summary="Requests can be taken", responses=ready_answers)
        async def ready(request: Request) -> Response:
            return plain(request, handlers.ready)
