"""`POST /infer`: the first Inferoxy's one route.

Outputs stand in the answer in the order in which they came. An error that concerns one input stands in its output,
where those clients look for it, and the answer is 200.
"""

import asyncio

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive

from bridges.collecting import COLLECT_AT_MOST_BYTES
from bridges.legacy.calls import Call, Calls
from bridges.legacy.outputs import Given, failed
from bridges.link import Link
from bridges.rest import first, schemas
from bridges.rest.answers import JSON, HttpAnswer, answer
from bridges.rest.asgi import ClientGone, Command
from bridges.rest.handlers import HeaderMap
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError, PayloadTooLarge


def add(app: FastAPI, link: Link, limits: LimitSettings) -> None:
    """Add the route."""
    calls = Calls(link, limits)

    @app.post(
        "/infer",
        tags=["first Inferoxy"],
        summary="Run a model, in the form of the first Inferoxy",
        responses={
            200: {"model": first.InferAnswer},
            422: {"model": first.Faults, "description": "The body is not as it must be."},
            **schemas.errors(400, 408, 413, 415, 500),
        },
        openapi_extra={"requestBody": first.INFER_BODY},
    )
    async def infer() -> Response:
        """For its clients; others have `/v1/models/{name}/predict`, which takes pictures as files.

        An error of one input stands in its output, as `[code]: what happened`, and the answer is 200 all the same.
        """
        return _First(calls, limits)


class _First(Command):
    """One request."""

    def __init__(self, calls: Calls, limits: LimitSettings) -> None:
        super().__init__(self._serve, limits)
        self._calls = calls
        self._receive: Receive | None = None

    async def _answer(self, headers: HeaderMap, name: str, receive: Receive) -> HttpAnswer:
        self._receive = receive
        return await super()._answer(headers, name, receive)

    async def _serve(self, content: memoryview, name: str) -> HttpAnswer:
        try:
            body = first.read_body(content)
        except first.Unprocessable as exc:
            return first.unprocessable(exc, name)
        collected = _Collected(len(body.inputs))
        gone = asyncio.ensure_future(self._until_gone())
        gone.add_done_callback(lambda _: collected.fail(ClientGone()))
        begun: list[Call] = []
        try:
            for at, sent in enumerate(body.inputs):
                request_id = name if len(body.inputs) == 1 else f"{name}/{at + 1}"
                try:
                    begun.append(self._calls.begin(body.source_id, body.model, sent.sent(), request_id, collected.add))
                except InferoxyError as exc:
                    collected.add(failed(exc, sent.parameters), True)
            encoded = await collected.done
        finally:
            gone.cancel()
            for call in begun:
                self._calls.cancel(call)
        return answer(200, JSON, first.answer_parts(body, encoded), name)

    async def _until_gone(self) -> None:
        while self._receive is not None and (await self._receive())["type"] != "http.disconnect":
            pass


class _Collected:
    """The outputs of one request, as they come."""

    def __init__(self, inputs: int) -> None:
        self.done: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._encoded: list[bytes] = []
        self._missing = inputs
        self._bytes = 0
        self._end_if_all()

    def add(self, given: Given | None, is_last: bool) -> None:
        """An output, and whether it is the last of its input."""
        if self.done.done():
            return
        if given is not None:
            self._encoded.append(first.encode_output(given))
            self._bytes += len(self._encoded[-1])
        self._missing -= is_last
        if self._bytes > COLLECT_AT_MOST_BYTES:
            self.fail(PayloadTooLarge(f"outputs: expected at most {COLLECT_AT_MOST_BYTES} bytes of them, found more"))
        self._end_if_all()

    def fail(self, exc: Exception) -> None:
        """There will be no answer of outputs."""
        if not self.done.done():
            self.done.set_exception(exc)

    def _end_if_all(self) -> None:
        if not self._missing and not self.done.done():
            self.done.set_result(self._encoded)
