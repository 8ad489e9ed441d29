"""What the batch manager wants sent: messages with the socket and peer they are for.

Pure data.
"""

from enum import IntEnum
from typing import Any, NamedTuple

from inferoxy import messages as m


class Link(IntEnum):
    """Which socket a message goes to."""

    FRONTEND = 0
    BACKEND = 1
    CONTROL = 2


class Send(NamedTuple):
    """One message for one peer."""

    link: Link
    peer: bytes
    header: m.Header
    frames: Any = ()
