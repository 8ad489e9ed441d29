"""Which sequences live on this instance, and under which id the model knows each.

Pure. Ids are unique per client; the model gets a client's own id unless another client's living sequence has it
already: then it gets the string "<id>@<client>", so that states never mix.
Invariant: a model id is held by at most one living sequence.
"""

from inferoxy.errors import Code, InferoxyError

SequenceId = int | str


class Sequences:
    """Living sequences by (client, id)."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, SequenceId], SequenceId] = {}
        self._taken: set[SequenceId] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def start(self, client: str, sequence: SequenceId) -> SequenceId:
        """Add a sequence that does not live yet; returns the id for the model."""
        model_id = sequence
        while model_id in self._taken:
            model_id = f"{model_id}@{client}"
        self._ids[client, sequence] = model_id
        self._taken.add(model_id)
        return model_id

    def is_alive(self, client: str, sequence: SequenceId) -> bool:
        """Whether it was started and has not ended."""
        return (client, sequence) in self._ids

    def find(self, client: str, sequence: SequenceId) -> SequenceId:
        """The model's id of a living sequence.

        Raises:
            InferoxyError: SEQUENCE_LOST, there is none.
        """
        model_id = self._ids.get((client, sequence))
        if model_id is None:
            raise InferoxyError(
                f"sequence {sequence!r}: expected a request with sequence_start first; its state is not here",
                Code.SEQUENCE_LOST,
            )
        return model_id

    def end(self, client: str, sequence: SequenceId) -> SequenceId | None:
        """Forget a sequence; returns the model's id, or None when there was none."""
        model_id = self._ids.pop((client, sequence), None)
        if model_id is not None:
            self._taken.discard(model_id)
        return model_id

    def drain(self) -> list[SequenceId]:
        """Forget all; returns the model's ids."""
        ids = list(self._ids.values())
        self._ids.clear()
        self._taken.clear()
        return ids
