"""Which sequences the clients hold: who holds any is looked after, and nobody goes on with what he has not begun.

Pure. A client holds a sequence from its start until its end, or until it is told that it is lost; what is uncertain
counts as held. ZeroMQ reconnects silently, and what comes then is a new client: only here can it be told that the
sequence it goes on with was another's.
Invariant: of one client at most PER_CLIENT sequences are held; the one that was idle for longest makes way.
"""

from typing import NamedTuple

from inferoxy import messages as m
from inferoxy.errors import Code, SequenceUnknown

PER_CLIENT = 4_096

# Answers that leave it open whether the model will see the request.
_UNCERTAIN = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED})
_LOST = frozenset({Code.SEQUENCE_LOST, Code.SEQUENCE_UNKNOWN})
# Answers that a last request may get while its sequence lives on: it was refused at once, or it is uncertain.
_STILL_LIVES = _UNCERTAIN | {Code.QUEUE_FULL, Code.SHED, Code.MODEL_UNAVAILABLE, Code.PAYLOAD_TOO_LARGE}


class Key(NamedTuple):
    """A sequence of one client."""

    model: str
    version: str
    id: int | str


class HeldSequences:
    """The sequences of all clients of a bridge."""

    def __init__(self) -> None:
        self._held: dict[bytes, dict[Key, int]] = {}  # each with the number of the request that started it

    def clients(self) -> list[bytes]:
        """Those that hold any."""
        return list(self._held)

    def check(self, client: bytes, request: m.Request) -> None:
        """Refuse to go on with a sequence that the client does not hold.

        Raises:
            SequenceUnknown: It is such a step.
        """
        step = request.sequence
        if step is None or step.start or _key_of(request, step) in self._held.get(client, ()):
            return
        raise SequenceUnknown(
            f"sequence {step.id!r}: it has ended, or was not started on this connection; start it anew"
        )

    def sent(self, client: bytes, request: m.Request) -> None:
        """A request goes on; its id, the link's, is higher than those of requests before it."""
        step = request.sequence
        if step is None:
            return
        key = _key_of(request, step)
        if step.start:
            mine = self._held.setdefault(client, {})
            mine.pop(key, None)
            mine[key] = request.id
            if len(mine) > PER_CLIENT:
                del mine[next(iter(mine))]
        elif key in (mine := self._held.get(client, {})):
            mine[key] = mine.pop(key)  # now the last in order

    def answered(self, client: bytes, request: m.Request, code: str) -> None:
        """A request has its final answer; `code` is empty for success."""
        step, mine = request.sequence, self._held.get(client)
        if step is None or mine is None:
            return
        key = _key_of(request, step)
        has_not_begun = step.start and code and code not in _UNCERTAIN
        has_ended = step.end and code not in _STILL_LIVES
        is_over = code in _LOST or has_not_begun or has_ended
        if is_over and mine.get(key, request.id + 1) <= request.id:  # else it was started anew since
            del mine[key]
            if not mine:
                del self._held[client]

    def forget(self, client: bytes) -> bool:
        """The client is gone; returns whether it held a sequence."""
        return self._held.pop(client, None) is not None


def _key_of(request: m.Request, step: m.Sequence) -> Key:
    return Key(request.model, request.model_version, step.id)
