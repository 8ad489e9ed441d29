"""`Sequence`: the requests of one sequence, over a connection for threads.

What a request must say of its sequence is sequence_state.py's.
Invariant: one call at a time, and behind an open `map` none.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from numpy.typing import ArrayLike

from inferoxy import messages as m
from inferoxy.client.arguments import (
    Draw,
    arrays_of,
    behind_the_first,
    check_draw,
    check_window,
    new_request_id,
    plain,
)
from inferoxy.client.calls import Call, ClientProtocol, ConnectionFailed, Steps, conclude, drive
from inferoxy.client.pictures import Source, load
from inferoxy.client.protocols import BlockingTransport, PipeliningTransport
from inferoxy.client.results import Detections, InferResult, Prediction, last_prediction, last_result
from inferoxy.client.sequence_state import SequenceState
from inferoxy.errors import InferoxyError, InvalidRequest, SequenceLost

QUICK_S = 1.0  # for the end of a sequence that is left by an exception
MAP_WINDOW = 8

T = TypeVar("T")


class Sequence:
    """Ordered requests to a stateful model that share its state, such as the frames of one video.

    The first request starts the sequence; `close`, or the end of the `with` block, ends it. When its state is lost
    (SequenceLost: its instance died, it was idle for too long, the connection broke) the next call starts it anew,
    without a state; so does the next call when the first one failed. Any other failure leaves it alive.

    For one thread at a time: a call while another is under way is refused with InvalidRequest.
    """

    def __init__(
        self, protocol: ClientProtocol, transport: BlockingTransport, template: Call, sequence_id: int | str
    ) -> None:
        self._protocol = protocol
        self._transport = transport
        self._template = template
        self._state = SequenceState(sequence_id)
        self._turn = threading.Lock()
        self._mapping: Callable[[], Generator[Any, None, None] | None] = lambda: None
        self._is_closed = False

    @property
    def id(self) -> int | str:
        """What the server and the model know it by."""
        return self._state.id

    @property
    def model(self) -> str:
        """The model's name."""
        return self._template.model

    def predict(self, picture: Source, /, *, draw: Draw = "", **parameters: Any) -> Detections | Prediction:
        """What the model finds in the next picture; of several answers the last, with all of them in its `parts`.

        Args:
            picture: As in Client.predict, one at a time.
            draw: Also bring the picture with the findings drawn, in this encoding.
            **parameters: For the model, with this request; JSON-able.

        Raises:
            SequenceLost: The state is gone; the next call starts anew.
            InferoxyError: What happened instead of an answer.
            OSError: A file cannot be read.
        """
        return last_prediction(self.predict_all(picture, draw=draw, **parameters))

    def predict_all(self, picture: Source, /, *, draw: Draw = "", **parameters: Any) -> list[Detections | Prediction]:
        """All answers to the next picture; see `predict`. With `draw` over HTTP there can be one."""
        check_draw(draw)
        with self._one_at_a_time():
            loaded = load(picture)
            return self._begin(lambda call: self._protocol.predict_all(call, loaded, draw), parameters).result()

    def infer(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Items[str] = (),
    ) -> InferResult:
        """The model's output tensors for the next input tensors; see Client.infer and `predict`."""
        return last_result(self.infer_all(inputs, parameters=parameters, outputs=outputs))

    def infer_all(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Items[str] = (),
    ) -> list[InferResult]:
        """All answers to the next input tensors. Over HTTP there can be one."""
        with self._one_at_a_time():
            arrays, wanted = arrays_of(inputs), list(outputs)
            return self._begin(lambda call: self._protocol.infer_all(call, arrays, wanted), parameters or {}).result()

    def map(
        self, pictures: Iterable[Source], /, *, window: int = MAP_WINDOW, draw: Draw = "", **parameters: Any
    ) -> Iterator[Detections | Prediction]:
        """`predict` for one picture after another, in order.

        Over ZeroMQ up to `window` requests are under way at a time, so that consecutive pictures share batches; over
        HTTP and gRPC, which keep no order, one. Answers that are there are given before the next picture is taken.
        When a request fails its error is raised and those behind it are taken back; whether the model has seen them
        is not known. The same holds when the iterator is left early.

        Args:
            pictures: Taken one by one, when their turn has come.
            window: The most requests under way.
            draw: As in `predict`.
            **parameters: For the model, with every request; `init` with the first alone.

        Raises:
            InvalidRequest: `window` or `draw` is out of range.
        """
        check_draw(draw)
        check_window(window)
        mapping = self._map(pictures, window, draw, parameters)
        self._mapping = weakref.ref(mapping)
        return mapping

    def close(self) -> None:
        """End the sequence, if it was started, once the requests before are done; later calls are refused.

        Raises:
            InferoxyError: The server did not end it. That it is gone already is no error, nor that the server is.
        """
        self._close(self._template.timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self._close(QUICK_S)
        except InferoxyError:  # what has happened before matters more
            pass

    def __repr__(self) -> str:
        return f"Sequence({self.model!r}, {self.id!r})"

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            raise InvalidRequest(
                f"sequence {self.id!r}: expected one call at a time, found another under way, or a map"
            )
        try:
            if self._is_closed:
                raise InvalidRequest(f"sequence {self.id!r}: expected it open, found it closed")
            yield
        finally:
            self._turn.release()

    def _begin(self, operation: Callable[[Call], Steps[T]], parameters: Mapping[str, Any]) -> "_UnderWay[T]":
        call = self._template._replace(parameters=plain(parameters), request_id=new_request_id())
        return _UnderWay(self._state, self._transport, operation, call)

    def _map(
        self, pictures: Iterable[Source], window: int, draw: Draw, parameters: Mapping[str, Any]
    ) -> Generator[Detections | Prediction, None, None]:
        if not isinstance(self._transport, PipeliningTransport):
            window = 1
        under_way: deque[_UnderWay[list[Detections | Prediction]]] = deque()
        with self._one_at_a_time():
            try:
                for picture in pictures:
                    loaded = load(picture)
                    under_way.append(
                        self._begin(lambda call, one=loaded: self._protocol.predict_all(call, one, draw), parameters)  # type: ignore[misc]
                    )
                    parameters = behind_the_first(parameters)
                    while under_way and (len(under_way) >= window or under_way[0].is_done):
                        yield last_prediction(under_way.popleft().result())
                while under_way:
                    yield last_prediction(under_way.popleft().result())
            finally:
                for one in under_way:
                    one.abandon()

    def _close(self, timeout_s: float) -> None:
        mapping = self._mapping()
        if mapping is not None:
            try:
                mapping.close()
            except ValueError as exc:  # it runs in another thread
                raise InvalidRequest(f"sequence {self.id!r}: expected map to be at rest when it is closed") from exc
        if self._is_closed:
            return
        with self._one_at_a_time():
            self._is_closed = True
            if not self._state.may_live:
                return
            call = self._template._replace(
                timeout_s=timeout_s, request_id=new_request_id(), sequence=self._state.last_step()
            )
            try:
                drive(self._protocol.end(call), self._transport.exchange)
            except (SequenceLost, ConnectionFailed):  # it has ended, or will by idleness
                pass


class _UnderWay(Generic[T]):
    """One step, sent when it is made if the connection keeps order, else when its result is asked for."""

    def __init__(
        self,
        state: SequenceState,
        transport: BlockingTransport,
        operation: Callable[[Call], Steps[T]],
        call: Call,
    ) -> None:
        self._state = state
        self._transport = transport
        self._step: m.Sequence = state.next_step()
        self._steps = operation(call._replace(sequence=self._step))
        self._asked = None
        if isinstance(transport, PipeliningTransport):
            with state.noting(self._step):
                self._asked = transport.begin(next(self._steps))

    @property
    def is_done(self) -> bool:
        """Whether `result` would not wait."""
        return self._asked is not None and self._asked.outcome.done()

    def result(self) -> T:
        """Wait for it.

        Raises:
            InferoxyError: What happened instead.
        """
        with self._state.noting(self._step):
            answer = self._wait()
        self._state.answered(self._step)
        return answer

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if self._asked is not None:
            self._asked.abandon()
        self._steps.close()
        self._state.abandoned(self._step)

    def _wait(self) -> T:
        if self._asked is None:
            return drive(self._steps, self._transport.exchange)
        try:
            reply = self._asked.outcome.result()
        except InferoxyError as exc:
            return conclude(self._steps, None, exc)
        finally:
            self._asked.abandon()  # if the waiting thread was interrupted
        return conclude(self._steps, reply)
