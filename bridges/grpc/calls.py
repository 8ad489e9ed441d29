"""What every gRPC method shares: reading its message, its request id and deadline, and how errors are told.

Invariants: whatever bytes come, only InferoxyError is raised; details are never empty and always fit into the metadata
that clients accept.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from bridges.requests import Options, request_id
from inferoxy import logs
from inferoxy.config import LimitSettings
from inferoxy.errors import RETRY_AFTER_S, Code, InferoxyError, InternalError, InvalidRequest, PayloadTooLarge, Status

ROOM_TO_REFUSE = 2  # a message up to so many times the limit is refused by us, a larger one by gRPC
DETAILS_BYTES = 2_000  # tripled when none of it is ASCII; clients take 8 KiB of metadata
_LATE_S = 0.05  # so close to its deadline a call is told that it has passed

_CODES = {code.value[0]: code for code in grpc.StatusCode}

Statuses = Mapping[Code, Status]
Method = Callable[[bytes, Any, str], Awaitable[Any]]
Conversing = Callable[[Any, str], Awaitable[None]]


def largest_message(limits: LimitSettings) -> int:
    """What gRPC itself is to accept, in bytes."""
    return int(limits.body_mib * 2**20) * ROOM_TO_REFUSE


def parse(kind: Any, data: bytes, limits: LimitSettings) -> Any:
    """A message of this kind that is within the limit. See `check_size` and `decode`."""
    check_size(data, limits)
    return decode(kind, data)


def check_size(data: bytes, limits: LimitSettings) -> None:
    """Compare a message's size with the limit.

    Raises:
        PayloadTooLarge: It is over it.
    """
    limit = limits.body_mib * 2**20
    if len(data) > limit:
        raise PayloadTooLarge(f"message: expected at most {limit:.0f} bytes (limits.body_mib), found {len(data)}")


def decode(kind: Any, data: bytes) -> Any:
    """A message of this kind.

    Raises:
        InvalidRequest: The bytes are no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise InvalidRequest(f"message: expected {kind.DESCRIPTOR.full_name}, found something else ({exc})") from exc


def within_deadline(options: Options, context: Any) -> Options:
    """The options, with the call's deadline if that comes first."""
    left_s = context.time_remaining()
    if left_s is None:
        return options
    left_us = max(1, int(left_s * 1e6))
    return options._replace(timeout_us=min(left_us, options.timeout_us or left_us))


def unary(method: Method, statuses: Statuses) -> Any:
    """The method for a server, with its errors told as gRPC tells them. It gets its message as bytes."""

    async def guarded(data: bytes, context: Any) -> Any:
        name = _request_id(context)
        try:
            return await method(data, context, name)
        except Exception as exc:
            refusal = _refusal(exc, name, context, statuses)
        del data  # gRPC keeps the exception that `abort` raises, and with it this frame
        return await context.abort(*refusal)

    return grpc.unary_unary_rpc_method_handler(guarded, response_serializer=_serialize)


def bidirectional(conversing: Conversing, statuses: Statuses) -> Any:
    """The same for a method that reads and writes any number of messages on its context."""

    async def guarded(_: Any, context: Any) -> None:
        name = _request_id(context)
        try:
            context.set_trailing_metadata((("x-request-id", name),))
            await conversing(context, name)
            return
        except Exception as exc:
            refusal = _refusal(exc, name, context, statuses)
        await context.abort(*refusal)

    return grpc.stream_stream_rpc_method_handler(guarded, response_serializer=_serialize)


def told(exc: Exception, name: str) -> InferoxyError:
    """What a client is told of an exception; an unexpected one is logged."""
    if isinstance(exc, InferoxyError):
        return exc
    logs.get().error("unexpected error", request=name, exc_info=exc)
    return InternalError("the request could not be handled")


def details(reason: InferoxyError) -> str:
    """An error's text as gRPC can carry it: never empty, not too long, and valid Unicode."""
    data = (reason.message or reason.code.value).encode("utf-8", "replace")
    if len(data) <= DETAILS_BYTES:
        return data.decode()
    return data[: DETAILS_BYTES - 3].decode("utf-8", "ignore") + "…"


def _refusal(exc: Exception, name: str, context: Any, statuses: Statuses) -> tuple[Any, str, Any]:
    """What a call is aborted with: its status, details and trailing metadata.

    The exception lets go of the frames it came through: they hold the message, and who still holds the exception would
    keep that until garbage is collected.
    """
    reason = told(exc, name)
    _forget_frames(exc)
    name = reason.request_id or name
    metadata = [("x-inferoxy-code", reason.code.value), ("x-request-id", name)]
    if reason.code in RETRY_AFTER_S:
        metadata.append(("retry-after", str(RETRY_AFTER_S[reason.code])))
    status = _CODES[statuses[reason.code].grpc]
    if reason.code is Code.DEADLINE_EXCEEDED:
        left_s = context.time_remaining()
        if left_s is not None and left_s < _LATE_S:  # its own deadline, not one that it might try again after
            status = grpc.StatusCode.DEADLINE_EXCEEDED
    return status, details(reason), tuple(metadata)


def _forget_frames(exc: BaseException | None) -> None:
    while exc is not None:
        exc.__traceback__ = None
        exc = exc.__cause__ or exc.__context__


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _request_id(context: Any) -> str:
    for key, value in context.invocation_metadata():
        if key == "x-request-id" and isinstance(value, str):
            return request_id(value)
    return request_id()
