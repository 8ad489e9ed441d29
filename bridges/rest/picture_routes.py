"""The routes for pictures and the list of models, under /v1."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from bridges.link import Link
from bridges.rest import schemas
from bridges.rest.asgi import Inference
from bridges.rest.handlers import Handlers
from bridges.rest.routes import INFER_ERRORS, plain
from inferoxy.config import LimitSettings


def add(app: FastAPI, handlers: Handlers, link: Link, limits: LimitSettings) -> None:
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
        """It ends behind its requests that came before. 400 `SEQUENCE_UNKNOWN`: it had ended already, or never was."""
        query = request.scope["query_string"]
        return Inference(lambda _, __, rid: handlers.end_sequence(name, sequence_id, query, rid), link, limits)

    known: dict[int | str, dict[str, Any]] = {200: {"model": schemas.ModelList}}

    @app.get("/v1/models", tags=["pictures"], summary="What is registered", responses=known)
    async def list_models(request: Request) -> Response:
        return plain(request, handlers.list_models)

    @app.get(
        "/v1/models/{name}",
        tags=["pictures"],
        summary="One model",
        responses={200: {"model": schemas.Model}, **schemas.errors(404)},
        openapi_extra={"parameters": [version]},
    )
    async def show_model(name: str, request: Request) -> Response:
        return plain(request, handlers.show_model, name, request.query_params.get("version", ""))
