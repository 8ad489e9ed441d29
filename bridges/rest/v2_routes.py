"""The routes of the Open Inference Protocol, under /v2, and of those of Triton's extensions that its clients use."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from bridges.link import Link
from bridges.rest import schemas, v2_schemas
from bridges.rest.asgi import Command, Inference
from bridges.rest.routes import INFER_ERRORS, awaited, plain
from bridges.rest.v2_control import V2Control
from bridges.rest.v2_handlers import V2Handlers
from inferoxy.config import LimitSettings

TAGS: list[str | Any] = ["Open Inference Protocol"]
MODEL, VERSION = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
COMMAND_ERRORS = schemas.errors(400, 404, 408, 413, 415, 501, 503)
EMPTY: dict[int | str, dict[str, Any]] = {200: {"description": "Done; the body is empty."}}


def add(app: FastAPI, handlers: V2Handlers, control: V2Control, link: Link, limits: LimitSettings) -> None:
    """Add the routes.

    Args:
        app: To this.
        handlers: Requests that are answered here.
        control: Requests that others are asked for.
        link: To the batch manager.
        limits: What is accepted from clients.
    """
    _add_infer(app, handlers, link, limits)
    _add_statistics(app, control)  # before a model's, because of its path
    _add_models(app, handlers, control)
    _add_repository(app, control, limits)
    _add_memory(app, control, limits)


def _add_infer(app: FastAPI, handlers: V2Handlers, link: Link, limits: LimitSettings) -> None:
    infer: dict[str, Any] = {
        "tags": TAGS,
        "summary": "Run a model on tensors",
        "responses": {200: {"model": v2_schemas.InferAnswer, "content": v2_schemas.BINARY_CONTENT}, **INFER_ERRORS},
        "openapi_extra": {"requestBody": v2_schemas.INFER_BODY, "parameters": v2_schemas.INFER_HEADERS},
    }

    @app.post(f"{MODEL}/infer", **infer)
    async def infer_default(name: str, request: Request) -> Response:
        return Inference(lambda headers, body, rid: handlers.infer(name, "", headers, body, rid), link, limits)

    @app.post(f"{VERSION}/infer", **infer)
    async def infer_version(name: str, version: str, request: Request) -> Response:
        return Inference(lambda headers, body, rid: handlers.infer(name, version, headers, body, rid), link, limits)


def _add_statistics(app: FastAPI, control: V2Control) -> None:
    statistics: dict[str, Any] = {
        "tags": TAGS,
        "summary": "What has become of requests, since the batch manager began",
        "responses": {200: {"model": v2_schemas.Statistics}, **schemas.errors(404, 503)},
    }

    @app.get("/v2/models/stats", **statistics)
    async def all_statistics(request: Request) -> Response:
        return await awaited(request, lambda rid: control.statistics("", "", rid))

    @app.get(f"{MODEL}/stats", **statistics)
    async def model_statistics(name: str, request: Request) -> Response:
        return await awaited(request, lambda rid: control.statistics(name, "", rid))

    @app.get(f"{VERSION}/stats", **statistics)
    async def model_version_statistics(name: str, version: str, request: Request) -> Response:
        return await awaited(request, lambda rid: control.statistics(name, version, rid))


def _add_models(app: FastAPI, handlers: V2Handlers, control: V2Control) -> None:
    @app.get("/v2", tags=TAGS, summary="Server metadata", responses={200: {"model": v2_schemas.ServerMetadata}})
    async def server_metadata(request: Request) -> Response:
        return plain(request, handlers.server_metadata)

    ready: dict[str, Any] = {
        "tags": TAGS,
        "summary": "Whether a request would be run",
        "responses": {200: {"model": schemas.Ready}, **schemas.errors(404, 503)},
    }

    @app.get(f"{MODEL}/ready", **ready)
    async def model_ready(name: str, request: Request) -> Response:
        return plain(request, handlers.model_ready, name, "")

    @app.get(f"{VERSION}/ready", **ready)
    async def model_version_ready(name: str, version: str, request: Request) -> Response:
        return plain(request, handlers.model_ready, name, version)

    metadata: dict[str, Any] = {
        "tags": TAGS,
        "summary": "Model metadata; starts the model when its inputs are not known yet",
        "responses": {200: {"model": v2_schemas.ModelMetadata}, **schemas.errors(404, 503)},
    }

    @app.get(MODEL, **metadata)
    async def model_metadata(name: str, request: Request) -> Response:
        return await awaited(request, lambda rid: control.metadata(name, "", rid))

    @app.get(VERSION, **metadata)
    async def model_version_metadata(name: str, version: str, request: Request) -> Response:
        return await awaited(request, lambda rid: control.metadata(name, version, rid))

    config: dict[str, Any] = {
        "tags": TAGS,
        "summary": "Model configuration, as Triton's clients read it; starts the model when its inputs are not known",
        "responses": {200: {"model": v2_schemas.ModelConfig}, **schemas.errors(404, 503)},
    }

    @app.get(f"{MODEL}/config", **config)
    async def model_config(name: str, request: Request) -> Response:
        return await awaited(request, lambda rid: control.config(name, "", rid))

    @app.get(f"{VERSION}/config", **config)
    async def model_version_config(name: str, version: str, request: Request) -> Response:
        return await awaited(request, lambda rid: control.config(name, version, rid))


def _add_repository(app: FastAPI, control: V2Control, limits: LimitSettings) -> None:
    @app.post(
        "/v2/repository/index",
        tags=TAGS,
        summary="All models and whether they are ready",
        responses={200: {"model": v2_schemas.RepositoryIndex}, **schemas.errors(400, 408, 413, 415)},
        openapi_extra={"requestBody": v2_schemas.INDEX_BODY},
    )
    async def index(request: Request) -> Response:
        return Command(control.index, limits)

    command: dict[str, Any] = {
        "tags": TAGS,
        "response_class": Response,
        "responses": {**EMPTY, **COMMAND_ERRORS},
        "openapi_extra": {"requestBody": v2_schemas.COMMAND_BODY},
    }

    @app.post("/v2/repository/models/{name}/load", summary="Start an instance and wait for it", **command)
    async def load(name: str, request: Request) -> Response:
        return Command(lambda body, rid: control.load(name, body, rid), limits)

    @app.post(
        "/v2/repository/models/{name}/unload", summary="Stop all instances; the next request starts one", **command
    )
    async def unload(name: str, request: Request) -> Response:
        return Command(lambda body, rid: control.unload(name, body, rid), limits)


def _add_memory(app: FastAPI, control: V2Control, limits: LimitSettings) -> None:
    shown: dict[str, Any] = {
        "tags": TAGS,
        "summary": "Registered shared memory",
        "responses": {200: {"model": v2_schemas.Regions}, **schemas.errors(400)},
    }
    done: dict[str, Any] = {
        "tags": TAGS,
        "response_class": Response,
        "responses": {**EMPTY, **schemas.errors(400)},
    }
    system, cuda = "/v2/systemsharedmemory", "/v2/cudasharedmemory"

    @app.get(f"{system}/status", **shown)
    async def regions(request: Request) -> Response:
        return await awaited(request, lambda rid: control.regions("", rid))

    @app.get(f"{system}/region/{{region}}/status", **shown)
    async def region_status(region: str, request: Request) -> Response:
        return await awaited(request, lambda rid: control.regions(region, rid))

    @app.post(
        f"{system}/region/{{region}}/register",
        tags=TAGS,
        summary="Name a window of a POSIX shared-memory object",
        response_class=Response,
        responses={**EMPTY, **COMMAND_ERRORS},
        openapi_extra={"requestBody": v2_schemas.REGISTER_BODY},
    )
    async def register(region: str, request: Request) -> Response:
        return Command(lambda body, rid: control.register(region, body, rid), limits)

    @app.post(f"{system}/unregister", summary="Forget all regions", **done)
    async def unregister_all(request: Request) -> Response:
        return await awaited(request, lambda rid: control.unregister("", rid))

    @app.post(f"{system}/region/{{region}}/unregister", summary="Forget a region, if it is there", **done)
    async def unregister(region: str, request: Request) -> Response:
        return await awaited(request, lambda rid: control.unregister(region, rid))

    @app.get(f"{cuda}/status", **shown)
    async def cuda_regions(request: Request) -> Response:
        return await awaited(request, control.cuda_regions)

    @app.get(f"{cuda}/region/{{region}}/status", **shown)
    async def cuda_region_status(region: str, request: Request) -> Response:
        return await awaited(request, control.cuda_regions)

    @app.post(f"{cuda}/region/{{region}}/register", summary="Refused: there is no CUDA shared memory", **done)
    async def cuda_register(region: str, request: Request) -> Response:
        return await awaited(request, control.cuda_register)

    @app.post(f"{cuda}/unregister", summary="Nothing to forget", **done)
    async def cuda_unregister_all(request: Request) -> Response:
        return await awaited(request, control.cuda_unregister)

    @app.post(f"{cuda}/region/{{region}}/unregister", summary="Nothing to forget", **done)
    async def cuda_unregister(region: str, request: Request) -> Response:
        return await awaited(request, control.cuda_unregister)
