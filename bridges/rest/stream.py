"""What is said on a WebSocket `/v1/models/{name}/stream`: its query, the client's texts, and the answers.

Pure. Which answer may leave when is stream_flow.py's; docs/streaming.md describes it to clients.
Invariant: whatever the client sent, only InferoxyError is raised.
"""

from enum import IntEnum
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridges.requests import TEXT_LIMIT, Options
from bridges.rest.predict import read_query
from bridges.results import Result, drawn_picture, error_fields, served_fields
from inferoxy.errors import InferoxyError, InvalidRequest, ModelError
from inferoxy.messages import Tensor

DEFAULT_WINDOW = 8
MAX_WINDOW = 64
REASON_BYTES = 123  # a control frame holds no more

Message = bytes | str  # a binary message or a text


class Closing(IntEnum):
    """Why the server closes a stream (RFC 6455, 7.4; 4000 and up are for applications)."""

    INVALID_TEXT = 1007
    REFUSED = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    ENDING = 1012
    NO_MODEL = 4404


class Wish(NamedTuple):
    """What the query asks for.

    `parameters` go to the model with every frame, `sequence_id` is what a stateful model calls this stream; None: it is
    named by its request id. `window` frames may be under way; with `drops` a newer frame takes the place of one that
    waits. With `in_order` answers come in the order of their frames.
    """

    options: Options
    parameters: dict[str, Any]
    picture: Literal["", "jpeg", "png"]
    window: int
    in_order: bool
    drops: bool
    sequence_id: int | str | None


class Said(Struct, forbid_unknown_fields=True):
    """A text message: what holds for the frames behind it.

    `parameters` replace those of an earlier text, beside the query's; `id` is for the next frame alone; `end` asks to
    be told when all frames so far are answered, and ends the sequence.
    """

    parameters: dict[str, Any] | UnsetType = UNSET
    id: str | int | UnsetType = UNSET
    end: bool = False


_SAID = msgspec.json.Decoder(Said)
_ENCODE = msgspec.json.Encoder().encode


def read_wish(query: bytes) -> Wish:
    """The meaning of a query: `draw`, `window`, `order`, `drop`, and what `predict` has too.

    Raises:
        InvalidRequest: One of ours is none of its values.
    """
    options, parameters = read_query(query)
    step = options.sequence
    if step is not None and (step.start or step.end):
        raise InvalidRequest("sequence_start, sequence_end: expected neither, the connection is the sequence")
    window = parameters.pop("window", DEFAULT_WINDOW)
    if type(window) is not int or not 1 <= window <= MAX_WINDOW:
        raise InvalidRequest(f"window: expected 1..{MAX_WINDOW} frames, found {str(window)[:40]!r}")
    return Wish(
        options._replace(sequence=None),
        parameters,
        _one_of(parameters, "draw", ("", "jpeg", "png")),
        window,
        _one_of(parameters, "order", ("sent", "any")) == "sent",
        _one_of(parameters, "drop", ("", "oldest")) == "oldest",
        None if step is None else step.id,
    )


def read_text(text: bytes) -> Said:
    """The meaning of a text message.

    Raises:
        InvalidRequest: It is no JSON object of these keys.
    """
    try:
        said = _SAID.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f'text: expected {{"parameters": {{…}}}}, {{"id": …}} or {{"end": true}} ({exc})') from exc
    if isinstance(said.id, str) and len(said.id) > TEXT_LIMIT:
        raise InvalidRequest(f"id: expected at most {TEXT_LIMIT} characters, found {len(said.id)}")
    return said


def answer(about: dict[str, Any], picture: Tensor, result: Result, is_final: bool) -> list[Message]:
    """The messages for one answer to a frame: JSON, and behind it the drawn picture if there is one.

    Args:
        about: The frame's number, and its id if it has one.
        picture: The frame, as it was sent.
        result: What the model gave.
        is_final: No more answers to this frame follow.

    Raises:
        ModelError: The prediction cannot be JSON.
    """
    height, width, _ = picture.shape
    content = {**about, "final": is_final, "image": {"width": width, "height": height}}
    content["prediction"] = result.prediction
    drawn = drawn_picture(result)
    if drawn is not None:
        content["picture"] = drawn.tensor.encoding
    content["served"] = served_fields(result.served)
    try:
        messages: list[Message] = [_ENCODE(content).decode()]
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ModelError(f"the model's prediction cannot be JSON: {exc}") from exc
    if drawn is not None:
        messages.append(bytes(drawn.data))
    return messages


def note(content: dict[str, Any]) -> Message:
    """A message of plain content."""
    return _ENCODE(content).decode()


def failure(about: dict[str, Any], exc: InferoxyError, request_id: str, *, is_final: bool = True) -> Message:
    """The message for what failed; `about` is empty when that was no frame."""
    return note({**about, **({"final": is_final} if about else {}), **error_fields(exc, request_id)})


def reason(text: str) -> str:
    """As much of a text as fits into a close frame."""
    return text.encode()[:REASON_BYTES].decode(errors="ignore")


def _one_of(parameters: dict[str, Any], name: str, known: tuple[str, ...]) -> Any:
    found = parameters.pop(name, known[0])
    if found not in known or not isinstance(found, str):
        raise InvalidRequest(f"{name}: expected {' or '.join(filter(None, known))}, found {str(found)[:40]!r}")
    return found
