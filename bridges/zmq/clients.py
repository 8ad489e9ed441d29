"""Which client's request is which on the link.

Pure. A client is the identity of its connection; its ids are its own, ours are the link's.
Invariant: a (client, id) is open at most once.
"""


class Clients:
    """The open requests of all clients."""

    def __init__(self) -> None:
        self._open: dict[bytes, dict[int, int]] = {}

    def is_open(self, client: bytes, request_id: int) -> bool:
        """Whether this request awaits its final answer."""
        return request_id in self._open.get(client, ())

    def open(self, client: bytes, request_id: int, link_id: int) -> None:
        """A request was submitted."""
        self._open.setdefault(client, {})[request_id] = link_id

    def close(self, client: bytes, request_id: int) -> int | None:
        """The request has its final answer, or is cancelled; returns the link's id, or None when it was not open."""
        mine = self._open.get(client)
        if mine is None:
            return None
        link_id = mine.pop(request_id, None)
        if not mine:
            del self._open[client]
        return link_id

    def forget(self, client: bytes) -> list[int]:
        """The client is gone; returns the link's ids of what it had open."""
        return list(self._open.pop(client, {}).values())
