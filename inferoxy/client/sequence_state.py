"""What a client knows of one sequence: whether its next request must start it, and whether the server may have it.

Pure; the same for Sequence and AsyncSequence, which send the requests.
Invariant: of the requests under way at most one starts the sequence, and it was sent first.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from inferoxy import messages as m
from inferoxy.client.calls import ConnectionFailed
from inferoxy.errors import DeadlineExceeded, InferoxyError, SequenceLost


class SequenceState:
    """One sequence.

    Args:
        sequence_id: Its id.

    Attributes:
        may_live: The server may have it, so that it should be told of the end.
    """

    def __init__(self, sequence_id: int | str) -> None:
        self.id = sequence_id
        self.may_live = False
        self._lives = False  # its start has succeeded, and nothing has been heard of its loss
        self._is_starting = False  # its start is under way

    def next_step(self) -> m.Sequence:
        """What the next request carries, which is sent at once; `answered` or `abandoned` follows."""
        start = not self._lives and not self._is_starting
        if start:
            self._is_starting = self.may_live = True
        return m.Sequence(self.id, start)

    def answered(self, step: m.Sequence, error: InferoxyError | None = None) -> None:
        """A step has its answer, or failed."""
        if step.start:
            self._is_starting = False
            self._lives = error is None
            # Who got no answer does not know; any other error says that nothing was started.
            self.may_live = error is None or isinstance(error, DeadlineExceeded | ConnectionFailed)
        if isinstance(error, SequenceLost):
            self._lives = self.may_live = False

    @contextmanager
    def noting(self, step: m.Sequence) -> Iterator[None]:
        """Note how a step fails, if it does so inside."""
        try:
            yield
        except InferoxyError as exc:
            self.answered(step, exc)
            raise
        except BaseException:
            self.abandoned(step)
            raise

    def abandoned(self, step: m.Sequence) -> None:
        """Nobody waits for a step any more."""
        if step.start:
            self._is_starting = False

    def last_step(self) -> m.Sequence:
        """What the request carries that ends the sequence."""
        self._lives = self._is_starting = self.may_live = False
        return m.Sequence(self.id, end=True)
