"""What answers say beside their content: who gave them and how they were served; and what models are registered.

Pure.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from inferoxy import messages as m


class Size(NamedTuple):
    """A picture's size in pixels, as it is seen (EXIF orientation applied)."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Served:
    """How a request was served. `closed` says why its batch was sent: full, idle, delay, deadline or alone."""

    queue_ms: float = 0.0
    compute_ms: float = 0.0
    decode_ms: float = 0.0
    batch_size: int = 0
    closed: str = ""
    instance: str = ""

    @classmethod
    def of(cls, served: m.Served | None) -> "Served":
        """The same, from what travels in a response."""
        if served is None:
            return cls()
        return cls(
            served.queue_us / 1e3,
            served.compute_us / 1e3,
            served.decode_us / 1e3,
            served.batch_size,
            served.closed,
            served.instance,
        )


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A registered model version. `state`: starting, ready, idle (starts on the first request) or failing.

    `ready` says whether a request would be run. Inputs and outputs are known once an instance has run. What is None
    the server did not tell.
    """

    name: str
    version: str
    state: str
    ready: bool = False
    error: str = ""
    default: bool | None = None
    stateless: bool | None = None
    batch_size: int | None = None
    platform: str = ""
    inputs: tuple[m.TensorSpec, ...] = ()
    outputs: tuple[m.TensorSpec, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What every answer says about itself."""

    model: str = ""
    version: str = ""
    request_id: str = ""
    served: Served = field(default_factory=Served)
