"""What is asked of the batch manager beside requests, and who waits for the answer.

Invariant: whoever asks is answered, or told that nobody answers; nothing is asked twice.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from inferoxy import wire
from inferoxy.errors import ModelUnavailable, error_from
from inferoxy.messages import AskStatistics, Command, Commanded, Statistics

ANSWER_S = 5.0  # the batch manager answers at once when it is there


class Questions:
    """The open questions of one link."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, header: Command | AskStatistics, send: Callable[[list[Any]], bool]) -> Any:
        """Send a question and wait for its answer.

        Args:
            header: Its id is set here.
            send: Takes the message's parts; false when there is nobody to send to.

        Raises:
            InferoxyError: It was refused; ModelUnavailable, nobody answers.
        """
        header.id = next(self._ids)
        waiter = self._open[header.id] = asyncio.get_running_loop().create_future()
        try:
            if not send(wire.encode(header)):
                raise ModelUnavailable("the batch manager is away: try again")
            async with asyncio.timeout(ANSWER_S):
                answer = await waiter
        except TimeoutError as exc:
            raise ModelUnavailable(f"the batch manager did not answer within {ANSWER_S:g} s: try again") from exc
        finally:
            del self._open[header.id]
        if isinstance(answer, Commanded) and answer.code:
            raise error_from(answer.code, answer.error)
        return answer

    def answered(self, header: Commanded | Statistics) -> None:
        """An answer has come."""
        waiter = self._open.get(header.id)
        if waiter is not None and not waiter.done():
            waiter.set_result(header)
