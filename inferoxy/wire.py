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

Frame = Any  # bytes, memoryview or zmq.Frame: whatever offers the buffer protocol

_FIXARRAY, _FIXARRAY_MASK, _ARRAY16 = 0x90, 0xF0, 0xDC
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    int(cls().kind): msgspec.msgpack.Decoder(cls) for cls in m.Header.__subclasses__()
}
encode_body = _ENCODER.encode
_PAYLOAD = msgspec.msgpack.Decoder(m.Payload)
_RESULT_PAYLOAD = msgspec.msgpack.Decoder(m.ResultPayload)


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


def encode_payload(payload: m.Payload | m.ResultPayload) -> msgspec.Raw:
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


def instance_token(secret: str, instance: str, model: str, version: str) -> str:
    """What an instance must present to serve a model: it cannot be made for another model without the secret."""
    text = "\0".join((instance, model, version)).encode()
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
