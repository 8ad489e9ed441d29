"""Build what bridges send to the batch manager, checking what clients may not choose freely.

Pure. What stands in a payload is the protocols' matter (predict, v2, zmq). What a client repeats with every request is
prepared once (`Prepared`).
Invariant: a request made here can be encoded, whatever its client sent.
"""

import itertools
import re
import secrets
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from inferoxy import messages as m
from inferoxy import tensors, wire
from inferoxy.errors import InvalidRequest

PRIORITY_LIMIT = 1_000_000
TIMEOUT_LIMIT_US = 24 * 3_600_000_000
TEXT_LIMIT = 256  # characters of a request id, sequence id or trace

_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_PREFIX = secrets.token_hex(5)
_COUNT = itertools.count(1)

Frames = Sequence[Any]


class Options(NamedTuple):
    """How a request is to be served, whatever protocol said so. 0 and empty mean the model's own."""

    version: str = ""
    timeout_us: int = 0
    priority: int = 0
    sequence: m.Sequence | None = None
    trace: str = ""


def request_id(given: str = "") -> str:
    """The client's own id if it can stand in headers and logs; else a new one."""
    if given and _SAFE_ID.fullmatch(given):
        return given
    return f"{_PREFIX}-{next(_COUNT):x}"


def check_options(options: Options) -> Options:
    """The options as they are.

    Raises:
        InvalidRequest: One is out of its range.
    """
    _check_range("timeout", options.timeout_us, 0, TIMEOUT_LIMIT_US, " microseconds")
    _check_range("priority", options.priority, -PRIORITY_LIMIT, PRIORITY_LIMIT)
    if len(options.trace) > TEXT_LIMIT:
        raise InvalidRequest(f"trace: expected at most {TEXT_LIMIT} characters, found {len(options.trace)}")
    if options.sequence is not None:
        found = options.sequence.id
        if isinstance(found, str):
            if not 0 < len(found) <= TEXT_LIMIT:
                raise InvalidRequest(f"sequence_id: expected 1..{TEXT_LIMIT} characters, found {len(found)}")
        else:
            _check_range("sequence_id", found, 0, 2**64 - 1)
    return options


def is_bare_end(inputs: int, options: Options, view: m.ModelView | None) -> bool:
    """Whether a request is not to be run, but only to end its sequence: it has no inputs.

    Args:
        inputs: How many it has.
        options: What it says of its sequence.
        view: What is known of the model, or None.

    Raises:
        InvalidRequest: It has no inputs and ends no sequence.
    """
    if inputs:
        return False
    if options.sequence is None or not options.sequence.end:
        raise InvalidRequest("inputs: expected at least one, found none; none are needed with sequence_end alone")
    if view is not None and view.spec.stateless:
        why = f"inputs: expected at least one, found none: model {view.spec.name!r} is stateless, it has no sequences"
        raise InvalidRequest(why)
    return True


class Prepared:
    """What all requests of one description have in common: everything but their bytes and how they are to be served.

    Args:
        inputs: The tensors, checked; small ones become inline.
        sizes: Their bytes, in order.
        parameters: For the model.
        outputs: The wanted tensors; empty: all.
        form: The wanted form of answer.
        picture: The wanted encoding of the drawn picture; empty: none.

    Raises:
        InvalidRequest: A parameter cannot travel, an integer of more than 64 bits say, or an output is wanted twice.
    """

    __slots__ = ("_frames", "_inline", "_key", "_payload", "_rows", "size")

    def __init__(
        self,
        inputs: Sequence[m.Tensor],
        sizes: Sequence[int],
        *,
        parameters: dict[str, Any],
        outputs: list[str],
        form: Literal["tensors", "prediction"],
        picture: Literal["", "jpeg", "png"] = "",
    ) -> None:
        tensors.check_outputs(outputs)
        inline = wire.inline_sizes(sizes)
        self._inline = [at for at, size in enumerate(inline) if size is not None]
        self._frames = [at for at, size in enumerate(inline) if size is None]
        described = [
            m.Tensor(tensor.name, tensor.datatype, tensor.shape, size, tensor.encoding)
            for tensor, size in zip(inputs, inline, strict=True)
        ]
        try:
            self._payload = wire.encode_payload(m.Payload(described, parameters, outputs, form, picture))
        except (OverflowError, TypeError, ValueError, RecursionError) as exc:
            why = f"shapes and parameters: expected numbers of at most 64 bits and plain values ({exc})"
            raise InvalidRequest(why) from exc
        self._rows, self._key = tensors.rows_and_key(inputs)
        self.size = sum(sizes)

    def request(self, model: str, frames: Frames, options: Options, request_id: str) -> tuple[m.Request, Frames]:
        """One request, complete but for its id, and the frames that travel with it.

        Args:
            model: Its name, as the client gave it.
            frames: The bytes of all tensors, in order and of the sizes told.
            options: Checked by `check_options`.
            request_id: What logs and answers call it.
        """
        inline = self._inline
        if not inline:
            data = b""
        elif len(inline) == 1:
            data = bytes(frames[inline[0]])
        else:
            data = b"".join([frames[at] for at in inline])
        request = m.Request(
            model=model,
            payload=self._payload,
            model_version=options.version,
            timeout_us=options.timeout_us,
            priority=options.priority,
            sequence=options.sequence,
            trace=options.trace,
            rows=self._rows,
            key=self._key,
            size=self.size,
            request_id=request_id,
            data=data,
        )
        return request, [frames[at] for at in self._frames] if self._frames else ()


def _check_range(what: str, found: int, low: int, high: int, unit: str = "") -> None:
    if not low <= found <= high:
        raise InvalidRequest(f"{what}: expected {low}..{high}{unit}, found {found}")
