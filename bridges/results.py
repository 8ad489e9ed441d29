"""Read what a model answered: the payload of a response together with its tensors' bytes.

Pure, and the same for all bridges; the forms in which clients get it are theirs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bridges.pending import Answer
from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.errors import InferoxyError, InternalError, InvalidRequest

PICTURE = "picture"  # the name of the drawn picture among the tensors


class Output(NamedTuple):
    """One tensor of a result with its bytes."""

    tensor: m.Tensor
    data: memoryview


class Result(NamedTuple):
    """One answer, read."""

    outputs: list[Output]
    prediction: Any
    parameters: dict[str, Any]
    served: m.Served


def read(answer: Answer) -> Result:
    """The content of a successful answer.

    Raises:
        InternalError: It is malformed: the instance broke the protocol.
    """
    try:
        payload = wire.decode_result(answer.response.payload)
        frames = wire.spread(payload.tensors, answer.response.data, answer.frames)
    except InvalidRequest as exc:
        raise InternalError(f"the model's answer is malformed: {exc.message}") from exc
    outputs = [Output(t, sockets.buffer(f)) for t, f in zip(payload.tensors, frames, strict=True)]
    return Result(outputs, payload.prediction, payload.parameters, answer.response.served or m.Served())


def drawn_picture(result: Result) -> Output | None:
    """The drawn picture, encoded, or None when the model gave none."""
    return next((o for o in result.outputs if o.tensor.name == PICTURE and o.tensor.encoding), None)


def served_fields(served: m.Served) -> dict[str, Any]:
    """How a request was served, as clients see it. Durations in milliseconds."""
    return {
        "queue_ms": served.queue_us / 1e3,
        "compute_ms": served.compute_us / 1e3,
        "decode_ms": served.decode_us / 1e3,
        "batch_size": served.batch_size,
        "closed": served.closed,
        "instance": served.instance,
    }


def error_fields(exc: InferoxyError, request_id: str) -> dict[str, str]:
    """An error, as clients see it."""
    return {"error": exc.message, "code": exc.code.value, "request_id": request_id}


def served_headers(served: m.Served) -> Sequence[tuple[str, str]]:
    """How a request was served, for protocols that say it beside the answer."""
    return (
        ("x-inferoxy-queue-ms", f"{served.queue_us / 1e3:.3f}"),
        ("x-inferoxy-compute-ms", f"{served.compute_us / 1e3:.3f}"),
        ("x-inferoxy-decode-ms", f"{served.decode_us / 1e3:.3f}"),
        ("x-inferoxy-batch-size", str(served.batch_size)),
        ("x-inferoxy-closed", header_text(served.closed)),
        ("x-inferoxy-instance", header_text(served.instance)),
    )


def model_headers(model: str, version: str) -> Sequence[tuple[str, str]]:
    """Which model answered, for protocols that say it beside the answer."""
    return (("x-inferoxy-model", header_text(model)), ("x-inferoxy-version", header_text(version)))


def header_text(text: str) -> str:
    """The text as headers can carry it: what is not printable ASCII becomes a question mark."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
