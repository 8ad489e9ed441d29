"""What the modules of routes have in common: answers of handlers as responses.

Invariant: an error becomes JSON as answers.py makes it.
"""

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridges.rest import schemas
from bridges.rest.answers import HttpAnswer, error_answer
from bridges.rest.asgi import id_of, write
from inferoxy.errors import InferoxyError

INFER_ERRORS = schemas.errors(400, 404, 408, 413, 415, 429, 499, 500, 501, 503, 504)


class Answered(Response):
    """An HttpAnswer as a response."""

    def __init__(self, answer: HttpAnswer) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await write(self._answer, send)


async def awaited(request: Request, answer: Callable[[str], Awaitable[HttpAnswer]]) -> Response:
    """The answer of a handler that needs no body but has to ask others."""
    name = id_of(dict(request.scope["headers"]))
    try:
        return Answered(await answer(name))
    except InferoxyError as exc:
        return Answered(error_answer(exc, name))


def error(request: Request, exc: InferoxyError) -> HttpAnswer:
    return error_answer(exc, id_of(dict(request.scope["headers"])))


def plain(request: Request, handle: Callable[..., HttpAnswer], *arguments: str) -> Response:
    """The answer of a handler that needs no body."""
    name = id_of(dict(request.scope["headers"]))
    try:
        return Answered(handle(*arguments, name))
    except InferoxyError as exc:
        return Answered(error_answer(exc, name))
