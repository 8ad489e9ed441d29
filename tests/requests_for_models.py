"""Requests and results as they travel between batch manager and instance, written shortly for tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from inferoxy import messages as m
from inferoxy import tensors, wire

Array = np.ndarray[Any, Any]


@dataclass
class Call:
    """One request: arrays by name, or an encoded picture (bytes, encoding, declared shape).

    Small tensors travel inline, as bridges send them; `frames` are sent in place of all tensors' bytes.
    """

    inputs: dict[str, Array] = field(default_factory=dict)
    picture: tuple[bytes, str, tuple[int, ...]] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    form: str = "tensors"
    draw: str = ""
    id: str = ""
    sequence: m.Sequence | None = None
    timeout_us: int = 30_000_000
    raw_payload: bytes | None = None
    frames: list[Any] | None = None


@dataclass
class Given:
    """One answer, decoded."""

    ticket: int
    code: str
    error: str
    final: bool
    tensors: dict[str, Array]
    prediction: Any
    parameters: dict[str, Any]
    encoded: dict[str, tuple[str, bytes]]
    empty: bool


def pack(described: Sequence[m.Tensor], parts: Sequence[Any]) -> tuple[bytes, list[Any]]:
    """The inline bytes and the frames of these tensors, whose descriptions are changed accordingly."""
    data, frames = b"", []
    sizes = wire.inline_sizes([len(part) for part in parts])
    for tensor, size, part in zip(described, sizes, parts, strict=True):
        tensor.inline = size
        if size is None:
            frames.append(part)
        else:
            data += part
    return data, frames


def make_batch(id: int, calls: list[Call]) -> tuple[m.Batch, list[Any]]:
    """A batch whose tickets are 0, 1, … in the order of the calls, and its frames."""
    items, frames = [], []
    for ticket, call in enumerate(calls):
        found, mine = [], []
        for name, array in call.inputs.items():
            found.append(m.Tensor(name, tensors.datatype_of(array), array.shape))
            mine.append(bytes(tensors.to_bytes(array)))
        if call.picture is not None:
            data, encoding, shape = call.picture
            found.append(m.Tensor("", "UINT8", shape, encoding=encoding))
            mine.append(data)
        data, mine = pack(found, mine) if call.frames is None else (b"", call.frames)
        payload = wire.encode_payload(
            m.Payload(found, call.parameters, call.outputs, call.form, call.draw)  # type: ignore[arg-type]
        )
        if call.raw_payload is not None:
            payload = msgspec.Raw(call.raw_payload)
        items.append(
            m.BatchItem(
                ticket, len(mine), payload, call.timeout_us, call.sequence, request_id=call.id, data=data
            )
        )  # fmt: skip
        frames += mine
    return m.Batch(id=id, items=items), frames


def read_result(result: m.Result, frames: list[Any]) -> list[Given]:
    """The answers in a RESULT message."""
    answers, at = [], 0
    for item in result.items:
        mine = frames[at : at + item.frames]
        at += item.frames
        empty = item.payload == m.NO_PAYLOAD
        payload = m.ResultPayload([]) if empty else wire.decode_result(item.payload)
        arrays, encoded = {}, {}
        assert item.places == m.NO_PAYLOAD, "these instances were given no shared memory"
        for tensor, frame in zip(payload.tensors, wire.spread(payload.tensors, item.data, mine), strict=True):
            if tensor.encoding:
                encoded[tensor.name] = (tensor.encoding, bytes(frame))
            else:
                arrays[tensor.name] = tensors.from_bytes(tensor.name, tensor.datatype, tensor.shape, bytes(frame))
        answers.append(
            Given(
                item.ticket,
                item.code,
                item.error,
                item.final,
                arrays,
                payload.prediction,
                payload.parameters,
                encoded,
                empty,
            )
        )
    return answers
