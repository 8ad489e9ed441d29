"""The error tree and the one table that maps error codes to HTTP and gRPC statuses.

Every error a caller can see is an InferoxyError with a code of `Code`; bridges look its status up in STATUS and nowhere
else. A message names the field or id, what was expected and what was found.
"""

from enum import StrEnum
from typing import NamedTuple


class Code(StrEnum):
    """What went wrong, as it stands in `{"error": message, "code": code, "request_id": id}`."""

    INVALID_REQUEST = "INVALID_REQUEST"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    QUEUE_FULL = "QUEUE_FULL"
    SHED = "SHED"
    CANCELLED = "CANCELLED"
    MODEL_ERROR = "MODEL_ERROR"
    INTERNAL = "INTERNAL"
    UNSUPPORTED = "UNSUPPORTED"
    SEQUENCE_UNKNOWN = "SEQUENCE_UNKNOWN"
    INSTANCE_LOST = "INSTANCE_LOST"
    SEQUENCE_LOST = "SEQUENCE_LOST"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


class Status(NamedTuple):
    """HTTP status and gRPC status code (the integers of grpc.StatusCode)."""

    http: int
    grpc: int


STATUS: dict[Code, Status] = {
    Code.INVALID_REQUEST: Status(400, 3),  # INVALID_ARGUMENT
    Code.UNAUTHENTICATED: Status(401, 16),  # UNAUTHENTICATED
    Code.MODEL_NOT_FOUND: Status(404, 5),  # NOT_FOUND
    Code.NOT_FOUND: Status(404, 5),  # NOT_FOUND
    Code.ALREADY_EXISTS: Status(400, 6),  # ALREADY_EXISTS
    Code.SEQUENCE_UNKNOWN: Status(400, 3),  # INVALID_ARGUMENT
    Code.METHOD_NOT_ALLOWED: Status(405, 12),  # UNIMPLEMENTED
    Code.REQUEST_TIMEOUT: Status(408, 4),  # DEADLINE_EXCEEDED
    Code.PAYLOAD_TOO_LARGE: Status(413, 8),  # RESOURCE_EXHAUSTED
    Code.UNSUPPORTED_MEDIA_TYPE: Status(415, 3),  # INVALID_ARGUMENT
    Code.QUEUE_FULL: Status(429, 8),  # RESOURCE_EXHAUSTED
    Code.SHED: Status(429, 8),  # RESOURCE_EXHAUSTED
    Code.CANCELLED: Status(499, 1),  # CANCELLED
    Code.MODEL_ERROR: Status(500, 13),  # INTERNAL
    Code.INTERNAL: Status(500, 13),  # INTERNAL
    Code.UNSUPPORTED: Status(501, 12),  # UNIMPLEMENTED
    Code.INSTANCE_LOST: Status(503, 14),  # UNAVAILABLE
    Code.SEQUENCE_LOST: Status(503, 14),  # UNAVAILABLE
    Code.MODEL_UNAVAILABLE: Status(503, 14),  # UNAVAILABLE
    Code.DEADLINE_EXCEEDED: Status(504, 4),  # DEADLINE_EXCEEDED
}

# What clients of the Open Inference Protocol expect instead: those of KServe try again what timed out in a queue.
V2_STATUS: dict[Code, Status] = {**STATUS, Code.DEADLINE_EXCEEDED: Status(503, 14)}  # UNAVAILABLE

# Codes whose answer carries Retry-After: the same request may succeed a little later.
RETRY_AFTER_S: dict[Code, int] = {Code.QUEUE_FULL: 1, Code.SHED: 1, Code.MODEL_UNAVAILABLE: 5}


class InferoxyError(Exception):
    """Any failure that a caller is told about."""

    code: Code = Code.INTERNAL

    def __init__(self, message: str, code: Code | None = None, request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        if code is not None:
            self.code = code


class InvalidRequest(InferoxyError):
    """The request is wrong in itself; sending it again will not help."""

    code = Code.INVALID_REQUEST


class UnsupportedVersion(InvalidRequest):
    """A header of a protocol version this build does not speak."""


class ModelNotFound(InferoxyError):
    """No such model or version is registered."""

    code = Code.MODEL_NOT_FOUND


class PayloadTooLarge(InferoxyError):
    """A body, tensor or picture is over a configured limit."""

    code = Code.PAYLOAD_TOO_LARGE


class ModelError(InferoxyError):
    """The model's own code failed on this request."""

    code = Code.MODEL_ERROR


class ModelUnavailable(InferoxyError):
    """The model cannot be loaded or placed; the message carries the instance's last log lines."""

    code = Code.MODEL_UNAVAILABLE


class SequenceLost(InferoxyError):
    """The sequence's state is gone; it can be started anew."""

    code = Code.SEQUENCE_LOST


class SequenceUnknown(SequenceLost):
    """A step of a sequence that was never started, has ended, or whose state went with a restart."""

    code = Code.SEQUENCE_UNKNOWN


class DeadlineExceeded(InferoxyError):
    """The request's time was over before an answer came."""

    code = Code.DEADLINE_EXCEEDED


class InternalError(InferoxyError):
    """A bug of ours."""


class ConfigError(InferoxyError):
    """A setting or a model spec is wrong; the message names file, line, key, expected and found."""

    code = Code.INVALID_REQUEST


def error_from(code: str, message: str, request_id: str = "") -> InferoxyError:
    """The exception for a code that came over a wire; an unknown code becomes InternalError with the code in front."""
    try:
        known = Code(code)
    except ValueError:
        return InternalError(f"{code}: {message}", request_id=request_id)
    kind = _CLASSES.get(known, InferoxyError)
    return kind(message, known, request_id)


_CLASSES: dict[Code, type[InferoxyError]] = {
    cls.code: cls
    for cls in (
        InvalidRequest,
        ModelNotFound,
        PayloadTooLarge,
        ModelError,
        ModelUnavailable,
        SequenceLost,
        SequenceUnknown,
        DeadlineExceeded,
        InternalError,
    )
}
