"""inferoxy.v1.Inferoxy/Stream: the frames of a video in, answers with their numbers out.

The flow of messages is conversation.py's. A sequence's start is awaited before its next frame is sent, so that it is
always known whether a frame must start it.
Invariants: of a stateful model at most one frame under way is a start, and it was sent alone; a sequence that may live
when the stream ends is ended, by a last request or as one whose client is gone.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from bridges.collecting import COLLECT_AT_MOST
from bridges.grpc import calls, pictures
from bridges.grpc.conversation import WINDOW, Conversation
from bridges.grpc.turns import Turn
from bridges.link import Link
from bridges.pending import Answer
from bridges.requests import TEXT_LIMIT, Options, Prepared, request_id
from bridges.results import read
from inferoxy import messages as m
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InvalidRequest, ModelUnavailable, error_from
from protos import inferoxy_v1_pb2 as pb

DEFAULT_WINDOW = 8
CANCELLED_S = 0.02  # a stream that is cancelled looks half-closed for a moment, until its task is cancelled

_LOST = frozenset({Code.SEQUENCE_LOST, Code.SEQUENCE_UNKNOWN})
_streams = itertools.count(1)


class _Frame(NamedTuple):
    """A frame that can be sent."""

    number: int
    turn: Turn
    prepared: Prepared
    data: memoryview
    about: pictures.About


class PictureStream:
    """One stream.

    Args:
        context: The call's.
        name: Its request id.
        link: To the batch manager.
        limits: What is accepted from clients.
        draining: Done when the server drains.
    """

    def __init__(
        self, context: Any, name: str, link: Link, limits: LimitSettings, draining: asyncio.Future[None]
    ) -> None:
        self._context = context
        self._link = link
        self._limits = limits
        self._name = name
        self._client = f"{link.name}:{next(_streams)}"
        self._talk = Conversation(context, link, draining)
        self._talk.on_left = self._on_left
        self._start: Any = None
        self._options = Options()
        self._version = ""
        self._parameters: dict[str, Any] = {}
        self._window = DEFAULT_WINDOW
        self._is_stateful = False
        self._count = 0
        self._next_number = 0
        self._waiting: deque[_Frame] = deque()
        self._under_way: set[Turn] = set()
        self._last: Turn | None = None
        self._starts = 0  # starts of the sequence that were sent
        self._is_starting = False
        self._lives = False  # the last start has succeeded, and nothing has been heard of a loss since
        self._may_live = False

    async def run(self) -> None:
        """Serve the stream to its end.

        Raises:
            InferoxyError: What it ends with instead.
        """
        try:
            await self._talk.run(self._on_message, self._on_end)
        finally:
            self._waiting.clear()
            self._talk.on_left = None  # a cycle keeps things until garbage is collected
            if self._may_live:
                self._link.gone(self._client)

    def _on_message(self, data: bytes) -> None:
        message = calls.decode(pb.StreamRequest, data)
        kind = message.WhichOneof("message")
        expected = "start" if self._start is None else "frame"
        if kind != expected:
            where = "as the first message" if self._start is None else "behind the start"
            raise InvalidRequest(f"stream: expected a {expected} {where}, found {kind or 'neither start nor frame'}")
        if kind == "start":
            self._on_start(message.start)
        else:
            self._on_frame(message.frame, data)

    def _on_start(self, start: Any) -> None:
        view = self._link.models.find(start.model, start.version)
        if view is None:
            raise ModelUnavailable("the server is not ready: its models are not known yet, try again")
        pictures.check_takes_pictures(start.model, view)
        pictures.draw_of(start.draw)
        for field, names in (("drop", pb.Drop), ("order", pb.Order)):
            if getattr(start, field) not in names.values():
                raise InvalidRequest(f"{field}: expected {', '.join(names.keys())}, found {getattr(start, field)}")
        if start.window > WINDOW:
            raise InvalidRequest(f"window: expected 1..{WINDOW}, found {start.window}")
        if len(start.sequence) > TEXT_LIMIT:
            raise InvalidRequest(f"sequence: expected at most {TEXT_LIMIT} characters, found {len(start.sequence)}")
        self._options = pictures.options_of(start, None)
        self._parameters = pictures.parameters_of(start.parameters, start.parameters_json)
        self._version = view.spec.version
        self._is_stateful = not view.spec.stateless
        self._window = start.window or DEFAULT_WINDOW
        # Whoever drops frames reads them as they come; those that it has dropped are bounded as answers are.
        self._talk.window = COLLECT_AT_MOST if start.drop == pb.DROP_OLDEST else self._window
        self._name = request_id(start.request_id) if start.request_id else self._name
        self._start = start

    def _on_frame(self, frame: Any, data: bytes) -> None:
        start = self._start
        number = frame.number if frame.HasField("number") else self._next_number
        self._next_number = (number + 1) % 2**64
        name = f"{self._name[:100]}/{self._count}"
        self._count += 1
        turn = self._talk.begin(None if start.order == pb.ORDER_ANY else "frames", len(data))
        try:
            calls.check_size(data, self._limits)
            tensor, picture = pictures.picture_of(frame.picture, self._limits)
            parameters = pictures.parameters_of(frame.parameters, frame.parameters_json)
            parameters = {**self._parameters, **parameters} if parameters else self._parameters
            prepared = pictures.prepare(tensor, picture, parameters=parameters, picture=pictures.draw_of(start.draw))
        except Exception as exc:
            self._refuse(turn, number, exc, name)
            return
        if self._waiting and start.drop == pb.DROP_OLDEST:
            old = self._waiting.popleft()
            self._talk.put(old.turn, pb.StreamResponse(frame=old.number, dropped=pb.Dropped(), last=True))
        about = pictures.About(name, start.model, self._version, tensor)
        self._waiting.append(_Frame(number, turn, prepared, picture, about))
        self._advance()

    async def _on_end(self) -> None:
        """No further frame comes: behind those that wait the sequence ends."""
        if self._is_stateful:
            await asyncio.sleep(CANCELLED_S)
            self._last = self._talk.begin("frames", 0)
            self._advance()

    def _on_left(self, turn: Turn) -> None:
        self._under_way.discard(turn)
        self._advance()

    def _advance(self) -> None:
        """Send what may be sent."""
        while self._waiting and len(self._under_way) < self._window and not self._is_starting:
            self._send(self._waiting.popleft())
        if self._last is not None and not self._waiting and not self._is_starting:
            last, self._last = self._last, None
            if self._lives:
                self._end(last)
            else:
                self._talk.put(last, None)

    def _send(self, frame: _Frame) -> None:
        options, start_number = self._options, self._starts
        if self._is_stateful:
            is_start = not self._lives
            if is_start:
                self._is_starting = self._may_live = True
                start_number = self._starts = self._starts + 1
            options = options._replace(sequence=self._step(start=is_start))
        options = calls.within_deadline(options, self._context)
        request, frames = frame.prepared.request(self._start.model, [frame.data], options, frame.about.request_id)
        self._under_way.add(frame.turn)
        self._talk.submit(request, frames, partial(self._on_response, frame, start_number))

    def _end(self, turn: Turn) -> None:
        prepared = Prepared([], [], parameters={}, outputs=[], form="tensors")
        options = calls.within_deadline(self._options._replace(sequence=self._step(end=True)), self._context)
        request, frames = prepared.request(self._start.model, (), options, f"{self._name[:100]}/end")

        def ended(response: m.Response, tensors: Sequence[Any]) -> None:
            self._may_live = bool(response.code)
            self._talk.put(turn, None)

        self._talk.submit(request, frames, ended)

    def _step(self, *, start: bool = False, end: bool = False) -> m.Sequence:
        return m.Sequence(self._start.sequence or self._name, start, end, self._client)

    def _on_response(self, frame: _Frame, start_number: int, response: m.Response, tensors: Sequence[Any]) -> None:
        try:
            self._answer(frame, response, tensors)
        except Exception as exc:
            self._refuse(frame.turn, frame.number, exc, frame.about.request_id, is_last=response.final)
        if response.final and self._is_stateful and start_number == self._starts:
            if self._is_starting:
                self._is_starting = False
                self._lives = not response.code
            elif response.code in _LOST:
                self._lives = False
            self._advance()

    def _answer(self, frame: _Frame, response: m.Response, tensors: Sequence[Any]) -> None:
        if response.code:
            raise error_from(response.code, response.error)
        message = pb.StreamResponse(frame=frame.number, last=response.final)
        if response.payload != m.NO_PAYLOAD:
            pictures.fill_answer(message.answer, read(Answer(response, tensors)), frame.about)
        size = len(response.data) + sum(map(len, tensors))
        self._talk.put(frame.turn, message, size, is_last=response.final)

    def _refuse(self, turn: Turn, number: int, exc: Exception, name: str, *, is_last: bool = True) -> None:
        reason = calls.told(exc, name)
        error = pictures.error_of(reason, calls.details(reason), name)
        self._talk.put(turn, pb.StreamResponse(frame=number, error=error, last=is_last), is_last=is_last)
