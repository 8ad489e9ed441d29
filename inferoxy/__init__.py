"""Inferoxy: a message-broker model proxy.

This package is the shared core: messages, wire, sockets, configuration, the client SDK (`Client`, `AsyncClient`) and
the model SDK (`inferoxy.runtime`). The components live beside it: bridges, batch_manager, task_manager, model_manager.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "InferoxyError", "SequenceLost", "__version__"]

if TYPE_CHECKING:
    from inferoxy.client import AsyncClient, Client
    from inferoxy.errors import InferoxyError, SequenceLost

_LAZY = {
    "Client": "inferoxy.client",
    "AsyncClient": "inferoxy.client",
    "InferoxyError": "inferoxy.errors",
    "SequenceLost": "inferoxy.errors",
}


def __getattr__(name: str) -> Any:
    """Import the client on first use: a model container imports `inferoxy.runtime` alone."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'inferoxy' has no attribute {name!r}")
