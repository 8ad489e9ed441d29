"""What a registry store offers; sqlite_store.py is the embedded default.

Calls block: the server makes them off its loop, one at a time.
"""

from typing import Protocol

from inferoxy.errors import Code, InferoxyError
from model_manager.registry import Registry


class StoreUnavailable(InferoxyError):
    """The store cannot be reached or written; serving goes on from the last registry."""

    code = Code.MODEL_UNAVAILABLE


class Store(Protocol):
    """Keeps a registry."""

    def load(self) -> Registry:
        """What was saved last; an empty registry the first time.

        Raises:
            StoreUnavailable: It cannot be read.
        """

    def save(self, registry: Registry) -> None:
        """Keep this registry in place of the last one: all of it or, when this process dies meanwhile, nothing.

        Raises:
            StoreUnavailable: It cannot be written.
        """

    def close(self) -> None:
        """Give the connection back."""
