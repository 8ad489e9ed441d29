"""What is said of streams in the OpenAPI document, and to those who ask for one without a WebSocket.

A real upgrade never comes here: uvicorn's protocol gives its connection to stream_socket.py.
"""

from fastapi import FastAPI, Request
from starlette.responses import Response

from bridges.rest import schemas
from bridges.rest.answers import HttpAnswer
from bridges.rest.routes import plain
from bridges.rest.stream import DEFAULT_WINDOW, MAX_WINDOW
from inferoxy.errors import InvalidRequest

QUERY = [
    *schemas.END_QUERY,
    schemas.query("draw", "string", "jpeg or png: the drawn picture follows each answer as a binary message."),
    schemas.query("window", "integer", f"Most frames under way, 1..{MAX_WINDOW}; {DEFAULT_WINDOW} unless given."),
    schemas.query("order", "string", "sent (the default): answers in the order of their frames; any: as they come."),
    schemas.query("drop", "string", "oldest: a newer frame takes the place of one that waits, which is not run."),
    schemas.query("sequence_id", "string", "What a stateful model is told the stream is called."),
    schemas.PREDICT_QUERY[-1],
]


def add(app: FastAPI) -> None:
    """Add the route."""

    @app.get(
        "/v1/models/{name}/stream",
        tags=["pictures"],
        summary="Stream frames over a WebSocket",
        status_code=101,
        responses={101: {"description": "The connection is a WebSocket now."}, **schemas.errors(400)},
        openapi_extra={"parameters": QUERY},
    )
    async def stream(name: str, request: Request) -> Response:
        """Each binary message is a frame, an encoded picture; each is answered with JSON as a text message.

        With a stateful model the connection is a sequence. See docs/streaming.md.
        """
        return plain(request, _refuse)


def _refuse(request_id: str) -> HttpAnswer:
    raise InvalidRequest("Upgrade: expected websocket, found none")
