"""One stream between its WebSocket and the batch manager: frames become requests, responses become messages.

What is written when is stream_socket.py's. With a stateful model the stream is a sequence: it begins with the first
frame, and anew behind an end or when its state is lost.
Invariants: every frame taken in is answered, by an error if need be; when the stream is closed nothing of it stays open
at the link, and its sequence ends.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from bridges import picture_gate
from bridges.collecting import COLLECT_AT_MOST_BYTES
from bridges.link import Link
from bridges.models import describe_inputs, takes_picture
from bridges.pending import Answer, OnResponse
from bridges.requests import Options, Prepared
from bridges.rest import stream
from bridges.rest.stream import Closing, Message, Wish
from bridges.rest.stream_flow import Entry, Flow
from bridges.results import read
from inferoxy import messages as m
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, InvalidRequest, ModelNotFound, error_from

_CLIENTS = itertools.count(1)

# Of the first frame: it stays open whether the model will see it. All other errors mean that the sequence never began.
_UNCERTAIN = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED})
# Of an end: the sequence lives on.
_REFUSED = frozenset({Code.QUEUE_FULL, Code.SHED, Code.MODEL_UNAVAILABLE, Code.DEADLINE_EXCEEDED})
_IS_OVER = frozenset({Code.SEQUENCE_LOST, Code.SEQUENCE_UNKNOWN})


class _Frame(NamedTuple):
    """A picture that has come."""

    number: int
    data: bytes
    parameters: dict[str, Any]
    about: dict[str, Any]


class Session:
    """A stream.

    Args:
        link: To the batch manager.
        limits: What pictures are accepted.
        model: Its name.
        wish: The query.
        request_id: Of the whole stream; frames get it with their number.
        tell: Called when there is something new to write; never from within a call of this class.

    Attributes:
        closing: Why the stream is to be closed as soon as what is open has been answered, if it is.
    """

    def __init__(self, link: Link, limits: LimitSettings, model: str, wish: Wish, request_id: str, tell: Any) -> None:
        self.closing: tuple[Closing, str] | None = None
        self._link = link
        self._limits = limits
        self._model = model
        self._wish = wish
        self._request_id = request_id
        self._tell = tell
        self._flow = Flow(wish.window, int(limits.body_mib * 2**20), wish.in_order)
        self._parameters = wish.parameters
        self._next_id: str | int | None = None
        self._frames = 0
        self._waiting: _Frame | None = None
        self._open: dict[int, None] = {}  # ids on the link
        self._client = f"{link.name}:{next(_CLIENTS)}"
        self._sequence_id = wish.sequence_id or request_id
        self._begun_by = 0  # number of the frame that began the living sequence; 0: none lives
        self._had_sequence = False
        self._is_ending = False
        self._is_closed = False

    def check_model(self) -> None:
        """Refuse what can be known to be wrong before the first frame.

        Raises:
            ModelNotFound: There is no such model.
            InvalidRequest: It takes no pictures.
        """
        view = self._link.models.find(self._model, self._wish.options.version)
        if view is not None and takes_picture(view) is False:
            raise InvalidRequest(
                f"model {self._model!r} takes tensors ({describe_inputs(view)}), not pictures: "
                f"ask for them over gRPC's ModelStreamInfer or ZeroMQ"
            )

    @property
    def takes(self) -> bool:
        """Whether `take` may be called."""
        if self._is_ending:  # a start that overtook the end of the sequence before would replace it with all its steps
            return False
        return self.closing is None and (self._wish.drops or self._flow.has_room)

    @property
    def is_idle(self) -> bool:
        """Everything is answered, and has been given out by `next_message`."""
        return self._flow.is_idle and self._waiting is None

    def take(self, message: Message) -> None:
        """A message of the client."""
        if isinstance(message, str):
            self._take_text(message)
            return
        self._frames += 1
        about: dict[str, Any] = {"frame": self._frames}
        if self._next_id is not None:
            about["id"] = self._next_id
            self._next_id = None
        frame = _Frame(self._frames, message, self._parameters, about)
        if self._flow.has_room:
            self._submit(frame)
            return
        if self._waiting is not None:
            self._flow.tell(stream.note({**self._waiting.about, "dropped": True, "final": True}))
        self._waiting = frame

    def next_message(self) -> Message | None:
        """What to write next, or None. With it a frame may be over, and the one that waits takes its place."""
        message = self._flow.take()
        if self._flow.has_room:
            self._submit_waiting()
        return message

    def finish(self, closing: Closing, why: str) -> None:
        """Take no more, and close when what is open has been answered."""
        if self.closing is None:
            self.closing = (closing, stream.reason(why))

    def close(self, *, in_order: bool) -> None:
        """The client has left; closing again does nothing.

        Args:
            in_order: It said so. Then the frames of its sequence are run that have been taken in, and it ends as by a
                request; else nobody waits for them, and it ends as that of a client who is gone.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._waiting = None
        if in_order and self._begun_by:
            self._send_end(lambda *_: self._link.gone(self._client))
            return
        for link_id in list(self._open):
            self._link.cancel(link_id)
        self._open.clear()
        if self._had_sequence:
            self._link.gone(self._client)

    # What the client says

    def _take_text(self, text: str) -> None:
        try:
            said = stream.read_text(text.encode())
        except InferoxyError as exc:
            self._flow.tell(stream.failure({}, exc, self._request_id))
            return
        if said.parameters is not UNSET:
            self._parameters = {**self._wish.parameters, **said.parameters}
        if said.id is not UNSET:
            self._next_id = said.id
        if said.end:
            self._submit_waiting()
            self._end()

    def _end(self) -> None:
        mark = self._flow.open(0, is_mark=True)
        content: dict[str, Any] = {"ended": True, "frames": self._frames}
        if not self._begun_by:
            self._flow.add(mark, [stream.note(content)], is_last=True)
            return

        def on_response(response: m.Response, _: Sequence[Any]) -> None:
            self._is_ending = False
            if response.code:
                content.update(error=response.error, code=response.code, ended=response.code not in _REFUSED)
            if content["ended"]:
                self._begun_by = 0
            self._flow.add(mark, [stream.note(content)], is_last=True)
            self._tell()

        self._is_ending = True
        self._send_end(on_response)

    def _send_end(self, on_response: OnResponse) -> None:
        options = self._wish.options._replace(sequence=m.Sequence(self._sequence_id, end=True, client=self._client))
        prepared = Prepared([], [], parameters={}, outputs=[], form="tensors")
        request, frames = prepared.request(self._model, (), options, self._request_id)
        self._link.submit(request, frames, on_response)

    # Frames

    def _submit_waiting(self) -> None:
        if self._waiting is not None:
            frame, self._waiting = self._waiting, None
            self._submit(frame)

    def _submit(self, frame: _Frame) -> None:
        entry = self._flow.open(len(frame.data))
        try:
            self.check_model()
        except InferoxyError as exc:
            self._fail(frame, entry, exc)
            self.finish(closing_of(exc), exc.message)
            return
        try:
            request, frames, picture = self._request(frame)
        except InferoxyError as exc:
            self._fail(frame, entry, exc)
            return
        step = request.sequence
        if step is not None:
            self._had_sequence = True
            if step.start:
                self._begun_by = frame.number
                frame.about["sequence_start"] = True
        begun_by = self._begun_by

        def on_response(response: m.Response, tensors: Sequence[Any]) -> None:
            if response.final:
                self._open.pop(response.id, None)
                if step is not None and begun_by == self._begun_by:
                    self._note_state(response.code, is_first=step.start)
            if not self._is_closed:
                self._answer(frame, entry, picture, response, tensors)
                self._tell()

        self._open[self._link.submit(request, frames, on_response)] = None

    def _request(self, frame: _Frame) -> tuple[m.Request, Sequence[Any], m.Tensor]:
        view = self._link.models.find(self._model, self._wish.options.version)
        picture = picture_gate.examine(frame.data, self._limits, f"frame {frame.number}").tensor()
        prepared = Prepared(
            [picture], [len(frame.data)],
            parameters=frame.parameters, outputs=[], form="prediction", picture=self._wish.picture,
        )  # fmt: skip
        options: Options = self._wish.options
        if view is None or not view.spec.stateless:
            step = m.Sequence(self._sequence_id, start=not self._begun_by, client=self._client)
            options = options._replace(sequence=step)
        request, frames = prepared.request(self._model, [frame.data], options, self._id_of(frame))
        return request, frames, picture

    def _note_state(self, code: str, *, is_first: bool) -> None:
        """A frame of the living sequence has its final answer."""
        if code in _IS_OVER or (is_first and code and code not in _UNCERTAIN):
            self._begun_by = 0

    def _answer(
        self, frame: _Frame, entry: Entry, picture: m.Tensor, response: m.Response, tensors: Sequence[Any]
    ) -> None:
        if response.code:
            self._fail(frame, entry, error_from(response.code, response.error))
            return
        if response.payload == m.NO_PAYLOAD:
            messages: list[Message] = [stream.note({**frame.about, "final": True})] if response.final else []
        else:
            try:
                messages = stream.answer(frame.about, picture, read(Answer(response, tensors)), response.final)
            except InferoxyError as exc:
                messages = [stream.failure(frame.about, exc, self._id_of(frame), is_final=response.final)]
        self._flow.add(entry, messages, is_last=response.final)
        if self._flow.held_bytes > COLLECT_AT_MOST_BYTES:
            self.finish(Closing.REFUSED, f"expected answers to be read, found {COLLECT_AT_MOST_BYTES} bytes unread")

    def _fail(self, frame: _Frame, entry: Entry, exc: InferoxyError) -> None:
        self._flow.add(entry, [stream.failure(frame.about, exc, self._id_of(frame))], is_last=True)

    def _id_of(self, frame: _Frame) -> str:
        return f"{self._request_id}/{frame.number}"


def closing_of(exc: InferoxyError) -> Closing:
    """How a stream is closed that cannot be served at all."""
    return Closing.NO_MODEL if isinstance(exc, ModelNotFound) else Closing.REFUSED
