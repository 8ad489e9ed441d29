"""ModelStreamInfer: any number of requests and answers on one stream.

Requests run concurrently; those of one sequence are answered in the order in which they were sent, errors included.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from bridges.grpc import calls
from bridges.grpc.conversation import Conversation
from bridges.grpc.infer import Asked, Infer
from bridges.grpc.turns import Turn
from bridges.link import Link
from bridges.pending import Answer
from bridges.results import Result, read
from inferoxy import messages as m
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError, error_from
from protos import inference_pb2 as pb

FINAL = "triton_final_response"  # a response parameter: no answer follows
CODE = "x-inferoxy-code"  # a response parameter beside error_message, for clients that want to know more


class InferStream:
    """One stream.

    Args:
        context: The call's.
        name: Its request id; a request's own is this with its place in the stream behind it.
        link: To the batch manager.
        infer: Reads requests and makes responses.
        limits: What is accepted from clients.
        draining: Done when the server drains.
    """

    def __init__(
        self,
        context: Any,
        name: str,
        link: Link,
        infer: Infer,
        limits: LimitSettings,
        draining: asyncio.Future[None],
    ) -> None:
        self._context = context
        self._name = name[:100]
        self._infer = infer
        self._limits = limits
        self._talk = Conversation(context, link, draining)
        self._count = 0

    async def run(self) -> None:
        """Serve the stream to its end.

        Raises:
            InferoxyError: What it ends with instead.
        """
        await self._talk.run(self._on_message)

    def _on_message(self, data: bytes) -> None:
        name = f"{self._name}/{self._count}"
        self._count += 1
        message = None
        try:
            message = calls.parse(pb.ModelInferRequest, data, self._limits)
            asked = self._infer.ask(message, self._context, name)
        except Exception as exc:
            turn = self._talk.begin(_lane_of(message), len(data))
            self._talk.put(turn, _error_of(message, calls.told(exc, name)))
            return
        request, frames = asked.call
        turn = self._talk.begin(_lane_of(message), request.size)
        self._talk.submit(request, frames, _Answers(self._talk, self._infer, turn, asked, name).put)


class _Answers:
    """Passes the answers to one request on."""

    def __init__(self, talk: Conversation, infer: Infer, turn: Turn, asked: Asked, name: str) -> None:
        self._talk = talk
        self._infer = infer
        self._turn = turn
        self._asked = asked
        self._name = name

    def put(self, response: m.Response, tensors: Sequence[Any]) -> None:
        """One answer, or what became of the request instead."""
        try:
            message = self._message(response, tensors)
        except Exception as exc:
            message = _error_of(self._asked, calls.told(exc, self._name))
        size = len(response.data) + sum(map(len, tensors))
        self._talk.put(self._turn, message, size, is_last=response.final)

    def _message(self, response: m.Response, tensors: Sequence[Any]) -> Any:
        if response.code:
            raise error_from(response.code, response.error)
        asked = self._asked
        if response.payload != m.NO_PAYLOAD:
            answered = self._infer.answer(asked, read(Answer(response, tensors)))
        elif asked.tells_end or asked.ends_only:
            nothing = Result([], None, {}, response.served or m.Served())
            answered = self._infer.answer(asked._replace(ends_only=True), nothing)
        else:
            return None
        answered.parameters[FINAL].bool_param = response.final
        return pb.ModelStreamInferResponse(infer_response=answered)


def _lane_of(message: Any) -> tuple[str, Any] | None:
    """What a request is answered in order with: its sequence."""
    parameter = message.parameters.get("sequence_id") if message is not None else None
    if parameter is None:
        return None
    kind = parameter.WhichOneof("parameter_choice")
    sequence_id = getattr(parameter, kind) if kind else 0
    return (message.model_name, sequence_id) if sequence_id else None


def _error_of(about: Any, reason: InferoxyError) -> pb.ModelStreamInferResponse:
    """What a request has instead of an answer; `about` has its `id` and `model_name`, or is None."""
    response = pb.ModelStreamInferResponse(error_message=calls.details(reason))
    if about is not None:
        response.infer_response.id = about.id
        response.infer_response.model_name = about.model_name
    response.infer_response.parameters[CODE].string_param = reason.code.value
    return response
