"""Messages to frames and back.

Pure: no sockets. One ZeroMQ message holds one or more envelopes, each a header frame followed by the tensor frames it
counts, so that several requests or replies for one peer travel in one message. Tensor frames are passed on untouched.
Invariant: decode never raises anything but InvalidRequest (or its subclass UnsupportedVersion) whatever the bytes are.
"""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from inferoxy import messages as m
from inferoxy.errors import InvalidRequest, UnsupportedVersion

INLINE_BYTES = 4_096  # copying so many bytes in every process costs less than a frame of their own

Frame = Any  # bytes, memoryview or zmq.Frame: whatever offers the buffer protocol

_FIXARRAY, _FIXARRAY_MASK, _ARRAY16 = 0x90, 0xF0, 0xDC
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    int(cls().kind): msgspec.msgpack.Decoder(cls) for cls in m.Header.__subclasses__()
}
encode_body = _ENCODER.encode
_PAYLOAD = msgspec.msgpack.Decoder(m.Payload)
_RESULT_PAYLOAD = msgspec.msgpack.Decoder(m.ResultPayload)
_PLACES = msgspec.msgpack.Decoder(m.Places)
_NO_PLACES = m.Places()


def encode(header: m.Header, frames: Sequence[Frame] = ()) -> list[Frame]:
    """The envelope of one message: its header frame, then its tensor frames."""
    header.frames = len(frames)
    return [_ENCODER.encode(header), *frames]


def decode_header(frame: Frame) -> Any:
    """The message of a header frame.

    Raises:
        UnsupportedVersion: The first element is another protocol version.
        InvalidRequest: It is not a header, or a field has the wrong type.
    """
    view = memoryview(frame)
    if len(view) >= 5 and view[0] == _ARRAY16:
        version, kind = view[3], view[4]
    elif len(view) >= 3 and view[0] & _FIXARRAY_MASK == _FIXARRAY:
        version, kind = view[1], view[2]
    else:
        raise InvalidRequest("header: expected a msgpack array of [version, kind, frames, ...], found something else")
    if version != m.PROTOCOL_VERSION:
        raise UnsupportedVersion(f"header: expected protocol version {m.PROTOCOL_VERSION}, found {version}")
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise InvalidRequest(f"header: kind {kind} is not known to protocol version {m.PROTOCOL_VERSION}")
    try:
        return decoder.decode(view)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"header of kind {m.Kind(kind).name}: {exc}") from exc


def decode(frames: Sequence[Frame]) -> Iterator[tuple[Any, Sequence[Frame]]]:
    """Each (header, tensor frames) of one ZeroMQ message, in order.

    Raises:
        InvalidRequest: A header is malformed or counts more frames than there are; envelopes before it were yielded.
    """
    at, end = 0, len(frames)
    while at < end:
        header = decode_header(frames[at])
        stop = at + 1 + header.frames
        if header.frames < 0 or stop > end:
            raise InvalidRequest(f"header: expected {header.frames} tensor frames behind it, found {end - at - 1}")
        yield header, frames[at + 1 : stop]
        at = stop


def each(header: Any, frames: Sequence[Frame]) -> Iterator[tuple[Any, Sequence[Frame]]]:
    """Each request or response of a joined envelope with its own frames; any other envelope as it is.

    Raises:
        InvalidRequest: The items count more or fewer frames than there are; those before were yielded.
    """
    if type(header) is not m.Requests and type(header) is not m.Responses:
        yield header, frames
        return
    at, end = 0, len(frames)
    for item in header.items:
        if not item.frames:
            yield item, ()
            continue
        stop = at + item.frames
        if item.frames < 0 or stop > end:
            raise InvalidRequest(f"item: expected {item.frames} tensor frames, found {end - at}")
        yield item, frames[at:stop]
        at = stop
    if at != end:
        raise InvalidRequest(f"items: expected {at} tensor frames for all, found {end}")


def encode_joined(kind: type[m.Requests | m.Responses], items: list[Any], frames: Sequence[Frame]) -> list[Frame]:
    """The envelope of several requests or responses, whose own counts of frames are set; `frames` are those of all."""
    header = kind()
    header.items = items
    header.frames = len(frames)
    return [_ENCODER.encode(header), *frames]


def encode_payload(payload: m.Payload | m.ResultPayload | m.Places) -> msgspec.Raw:
    """The opaque part of a request or response."""
    return msgspec.Raw(_ENCODER.encode(payload))


def decode_payload(raw: msgspec.Raw) -> m.Payload:
    """What a request asks of the model.

    Raises:
        InvalidRequest: It is malformed.
    """
    try:
        return _PAYLOAD.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"payload: {exc}") from exc


def decode_result(raw: msgspec.Raw) -> m.ResultPayload:
    """What a model answered.

    Raises:
        InvalidRequest: It is malformed.
    """
    try:
        return _RESULT_PAYLOAD.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"result payload: {exc}") from exc


def decode_places(raw: msgspec.Raw) -> m.Places:
    """Where tensors are that have neither frame nor inline bytes.

    Raises:
        InvalidRequest: It is malformed.
    """
    if raw == m.NO_PAYLOAD:
        return _NO_PLACES
    try:
        return _PLACES.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"places: {exc}") from exc


def inline_sizes(sizes: Sequence[int]) -> list[int | None]:
    """Which tensors of a request or result, by their sizes in bytes, travel inline: those that are small together."""
    room = INLINE_BYTES
    found: list[int | None] = []
    for size in sizes:
        is_inline = 0 < size <= room
        found.append(size if is_inline else None)
        room -= size * is_inline
    return found


def spread(tensors: Sequence[m.Tensor], data: bytes, frames: Sequence[Frame]) -> list[Frame]:
    """The bytes of each tensor, in order: out of `data` where they are inline, else the next frame.

    Raises:
        InvalidRequest: There are more or fewer bytes or frames than the tensors say.
    """
    whole: list[Frame] = []
    view, at, used = memoryview(data), 0, 0
    for tensor in tensors:
        size = tensor.inline
        if size is None:
            whole += frames[used : used + 1]
            used += 1
        elif size >= 0:
            whole.append(view[at : at + size])
            at += size
        else:
            raise InvalidRequest(f"tensors: expected no negative number of inline bytes, found {size}")
    if at != len(view) or used != len(frames):
        raise InvalidRequest(f"tensors: expected {used} frames and {at} bytes, found {len(frames)} and {len(view)}")
    return whole


def instance_token(secret: str, instance: str, model: str, version: str) -> str:
    """What an instance must present to serve a model: it cannot be made for another model without the secret."""
    text = "\0".join((instance, model, version)).encode()
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
