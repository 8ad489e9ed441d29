"""The model SDK: what a model's code imports.

    from inferoxy.runtime import Model

The rest of this package runs inside a model instance (`python -m inferoxy.runtime`) and is no public interface.
Invariant: importing this costs numpy and msgspec, nothing else.
"""

from inferoxy.errors import InvalidRequest, ModelError
from inferoxy.runtime.sdk import Model, Request

__all__ = ["InvalidRequest", "Model", "ModelError", "Request"]
