"""A link to a world: what bridges that keep requests under way are given in place of one with a socket."""

from collections.abc import Sequence
from typing import Any

from bridges.pending import Answer, OnResponse
from inferoxy import messages as m
from inferoxy.errors import Code
from tests.fuzz.world import World


class WorldLink:
    """Requests are run when they come; their answers are given out by `deliver`, as a loop's next turn would."""

    name = "fuzz-1"

    def __init__(self) -> None:
        self.world = World()
        self.models = self.world.models
        self._answers: list[tuple[int, OnResponse, list[Answer]]] = []

    def submit(self, request: m.Request, frames: Sequence[Any], on_response: OnResponse, body: Any = None) -> int:
        """See Link.submit."""
        answers = self.world.serve(request, frames)
        if not answers or not answers[-1].response.final:  # it has to wait for longer than an input lives
            self.world.cancel([request.id])
            late = m.Response(id=request.id, code=Code.DEADLINE_EXCEEDED, error="it had to wait")
            answers = [*answers, Answer(late, ())]
        self._answers.append((request.id, on_response, answers))
        return request.id

    def cancel(self, request_id: int) -> None:
        """See Link.cancel."""
        self._answers = [entry for entry in self._answers if entry[0] != request_id]

    def gone(self, client: str) -> None:
        """See Link.gone."""
        self.world.gone(client)

    def deliver(self) -> None:
        """Give out all answers, and those to what is asked meanwhile."""
        while self._answers:
            _, on_response, answers = self._answers.pop(0)
            for answer in answers:
                on_response(*answer)
