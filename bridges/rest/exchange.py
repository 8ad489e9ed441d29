"""One HTTP inference: its requests to the batch manager, and how their answers become one HTTP answer.

The same object is run by the FastAPI routes and by the hot path, so that both answer alike.
Invariant: `on_answer` is called exactly once, unless the running exchange is cancelled.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from bridges.collecting import COLLECT_AT_MOST
from bridges.link import Link
from bridges.pending import Answer
from bridges.requests import Frames
from bridges.rest.answers import HttpAnswer, error_answer
from inferoxy.arena import OwnedSlot
from inferoxy.errors import STATUS, Code, InferoxyError, InternalError, Status
from inferoxy.messages import Request

Outcome = list[Answer] | InferoxyError
OnAnswer = Callable[[HttpAnswer], None]


class Exchange:
    """What is to be asked, and how to answer.

    Args:
        calls: Each request with its frames, or the error that stands in its place.
        finish: Makes the HTTP answer of the outcomes, which are in the order of `calls`; may raise InferoxyError.
        request_id: The HTTP request's.
        at_most: How many answers one request may give.
        pack: Applied to a successful answer in a thread, because it takes long; None: nothing is.
        statuses: The protocol's status of each error.
    """

    __slots__ = ("at_most", "calls", "finish", "pack", "request_id", "statuses")

    def __init__(
        self,
        calls: Sequence[tuple[Request, Frames] | InferoxyError],
        finish: Callable[[list[Outcome]], HttpAnswer],
        request_id: str,
        at_most: int = COLLECT_AT_MOST,
        *,
        pack: Callable[[HttpAnswer], HttpAnswer] | None = None,
        statuses: Mapping[Code, Status] = STATUS,
    ) -> None:
        self.calls = calls
        self.pack = pack
        self.statuses = statuses
        self.finish = finish
        self.request_id = request_id
        self.at_most = at_most


class Running:
    """An exchange under way.

    Args:
        exchange: What is asked; one request alone where `body` is given.
        link: To the batch manager.
        on_answer: Gets the answer.
        body: The slot that the request's body lies in.
    """

    __slots__ = ("_body", "_exchange", "_ids", "_is_cancelled", "_link", "_missing", "_on_answer", "_outcomes")

    def __init__(self, exchange: Exchange, link: Link, on_answer: OnAnswer, body: OwnedSlot | None = None) -> None:
        self._body = body
        self._exchange = exchange
        self._link = link
        self._on_answer = on_answer
        self._is_cancelled = False
        self._missing = 0
        self._outcomes: list[Outcome] = []
        self._ids: list[int] = []

    def start(self) -> None:
        """Send the requests; answers at once when there is none to send."""
        for at, call in enumerate(self._exchange.calls):
            if isinstance(call, InferoxyError):
                self._outcomes.append(call)
                continue
            self._outcomes.append([])
            self._missing += 1
            done = self._only if len(self._exchange.calls) == 1 else self._one_of(at)
            at_most, body = self._exchange.at_most, self._body
            self._ids.append(self._link.collect(call[0], call[1], done, at_most=at_most, body=body))
        if not self._missing:
            self._finish()

    def cancel(self) -> None:
        """The client is gone: nobody waits for the answers."""
        self._is_cancelled = True
        for request_id in self._ids:
            self._link.cancel(request_id)

    def _only(self, outcome: Outcome) -> None:
        self._outcomes[0] = outcome
        self._finish()

    def _one_of(self, at: int) -> Callable[[Outcome], None]:
        def done(outcome: Outcome) -> None:
            self._outcomes[at] = outcome
            self._missing -= 1
            if not self._missing:
                self._finish()

        return done

    def _finish(self) -> None:
        exchange = self._exchange
        try:
            answer = exchange.finish(self._outcomes)
        except InferoxyError as exc:
            answer = error_answer(exc, exchange.request_id, statuses=exchange.statuses)
        except Exception as exc:  # the caller is told that it was our fault, and the log says where
            asyncio.get_running_loop().call_exception_handler({"message": "an answer was not made", "exception": exc})
            answer = error_answer(InternalError("the answer could not be made"), exchange.request_id)
        else:
            if exchange.pack is not None:
                self._pack(exchange.pack, answer)
                return
        self._on_answer(answer)

    def _pack(self, pack: Callable[[HttpAnswer], HttpAnswer], answer: HttpAnswer) -> None:
        def on_packed(done: "asyncio.Future[HttpAnswer]") -> None:
            if self._is_cancelled:
                return
            failure = done.exception()
            if failure is not None:
                what = {"message": "an answer was not packed", "exception": failure}
                asyncio.get_running_loop().call_exception_handler(what)
            self._on_answer(answer if failure is not None else done.result())

        asyncio.ensure_future(asyncio.to_thread(pack, answer)).add_done_callback(on_packed)
