"""A ZeroMQ client written from protos/wire.md alone: what a stranger makes of that page.

Nothing of Inferoxy is imported, nor a MessagePack library; the bytes are made and read here.
"""

import math
import struct
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import zmq

VERSION = 1
REQUEST, RESPONSE, CANCEL, PING, PONG, MODELS = range(1, 7)
DTYPES = {
    "BOOL": "?", "UINT8": "u1", "INT8": "i1", "UINT16": "<u2", "INT16": "<i2", "UINT32": "<u4", "INT32": "<i4",
    "UINT64": "<u8", "INT64": "<i8", "FP16": "<f2", "BF16": "<u2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
REFUSALS = (
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
)


def pack(value: Any) -> bytes:
    """A value as MessagePack."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode()
        return _head(len(raw), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + raw
    if isinstance(value, bytes):
        return _head(len(value), 0, -1, (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, dict):
        items = b"".join(pack(key) + pack(item) for key, item in value.items())
        return _head(len(value), 0x80, 15, (0, 0xDE, 0xDF)) + items
    return _head(len(value), 0x90, 15, (0, 0xDC, 0xDD)) + b"".join(map(pack, value))


def _pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    for code, form, low, high in (
        (0xCC, "B", 0, 2**8), (0xCD, "H", 0, 2**16), (0xCE, "I", 0, 2**32), (0xCF, "Q", 0, 2**64),
        (0xD0, "b", -(2**7), 0), (0xD1, "h", -(2**15), 0), (0xD2, "i", -(2**31), 0), (0xD3, "q", -(2**63), 0),
    ):  # fmt: skip
        if low <= value < high:
            return struct.pack(f">B{form}", code, value)
    raise OverflowError(value)


def _head(size: int, fixed: int, fixed_most: int, codes: tuple[int, int, int]) -> bytes:
    if size <= fixed_most:
        return bytes([fixed + size])
    for code, form in zip(codes, "BHI", strict=True):
        if code and size < 256 ** struct.calcsize(form):
            return struct.pack(f">B{form}", code, size)
    raise OverflowError(size)


class _Reader:
    """MessagePack as values."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        found = self.data[self.at : self.at + size]
        assert len(found) == size, "the data ends too early"
        self.at += size
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(f">{form}", self.take(struct.calcsize(form)))[0]

    def value(self) -> Any:
        code = self.number("B")
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 256
        if code < 0x90:
            return self._map(code & 15)
        if code < 0xA0:
            return [self.value() for _ in range(code & 15)]
        if code < 0xC0:
            return self.take(code & 31).decode()
        if code in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[code]
        if code in (0xC4, 0xC5, 0xC6):
            return self.take(self.number("BHI"[code - 0xC4]))
        if 0xCA <= code <= 0xD3:
            return self.number("fdBHIQbhiq"[code - 0xCA])
        if code in (0xD9, 0xDA, 0xDB):
            return self.take(self.number("BHI"[code - 0xD9])).decode()
        if code in (0xDC, 0xDD):
            return [self.value() for _ in range(self.number("HI"[code - 0xDC]))]
        if code in (0xDE, 0xDF):
            return self._map(self.number("HI"[code - 0xDE]))
        raise AssertionError(f"{code:#x} was not announced")

    def _map(self, size: int) -> dict[str, Any]:
        return {self.value(): self.value() for _ in range(size)}


def unpack(data: bytes) -> Any:
    """The one value that the data is."""
    reader = _Reader(data)
    found = reader.value()
    assert reader.at == len(data), "something stands behind the value"
    return found


class Tensor(NamedTuple):
    """One tensor, or picture, with the bytes of its frame."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: bytes
    encoding: str = ""

    def described(self) -> list[Any]:
        """The Tensor of the page; what has its default is left out where it may be."""
        whole = [self.name, self.datatype, list(self.shape), None, self.encoding]
        return whole if self.encoding else whole[:3]

    def array(self) -> Any:
        """Its elements."""
        if self.datatype != "BYTES":
            assert len(self.data) == math.prod(self.shape) * np.dtype(DTYPES[self.datatype]).itemsize
            return np.frombuffer(self.data, DTYPES[self.datatype]).reshape(self.shape)
        words, at = [], 0
        while at < len(self.data):
            (size,) = struct.unpack_from("<I", self.data, at)
            words.append(self.data[at + 4 : at + 4 + size])
            at += 4 + size
        return np.array(words, object).reshape(self.shape)


def tensor(name: str, datatype: str, values: Any) -> Tensor:
    """A tensor of these elements."""
    if datatype == "BYTES":
        words = np.array(values, object)
        data = b"".join(struct.pack("<I", len(word)) + word for word in words.ravel())
        return Tensor(name, datatype, words.shape, data)
    array = np.ascontiguousarray(values, DTYPES[datatype])
    return Tensor(name, datatype, array.shape, array.tobytes())


class Answer(NamedTuple):
    """A Response."""

    id: int
    code: str
    error: str
    final: bool
    tensors: dict[str, Tensor]
    prediction: Any
    parameters: dict[str, Any]
    served: list[Any] | None


class WireClient:
    """A DEALER; `epoch`, `revision` and `models` are what the bridge has told last.

    Args:
        endpoint: tcp://HOST:PORT.
        keys: The server's public key, then the client's public and secret one, to encrypt.
        wait_s: How long to wait for anything.
    """

    def __init__(self, endpoint: str, keys: tuple[bytes, bytes, bytes] | None = None, wait_s: float = 10.0) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RCVTIMEO, int(wait_s * 1e3))
        if keys:
            for option, key in zip((zmq.CURVE_SERVERKEY, zmq.CURVE_PUBLICKEY, zmq.CURVE_SECRETKEY), keys, strict=True):
                self.socket.set(option, key)
        self.socket.set(zmq.SNDTIMEO, int(wait_s * 1e3))
        self._refusals = self.socket.get_monitor_socket(sum(REFUSALS))
        self.socket.connect(endpoint)
        self._last_id = 0
        self.epoch = 0
        self.revision = 0
        self.pongs = 0
        self.models: dict[str, list[Any]] = {}
        self.answers: list[Answer] = []

    def __enter__(self) -> "WireClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def envelope(
        self, model: str, *tensors: Tensor, id: int = 0, payload: Sequence[Any] = (), fields: Sequence[Any] = ()
    ) -> tuple[int, list[bytes]]:
        """A Request's id and frames; `payload` stands behind the tensors, `fields` behind the payload."""
        if not id:
            self._last_id = id = self._last_id + 1
        header = [VERSION, REQUEST, len(tensors), id, model, [[t.described() for t in tensors], *payload], *fields]
        return id, [pack(header), *[t.data for t in tensors]]

    def send(self, *frames: bytes) -> None:
        """One ZeroMQ message."""
        self.socket.send_multipart(frames)

    def request(self, model: str, *tensors: Tensor, **more: Any) -> int:
        """Send one Request; its id."""
        number, frames = self.envelope(model, *tensors, **more)
        self.send(*frames)
        return number

    def step(self, model: str, sequence: list[Any], *tensors: Tensor, timeout_us: int = 0) -> int:
        """Send a step of a sequence."""
        return self.request(model, *tensors, fields=("", timeout_us, 0, sequence))

    def cancel(self, *ids: int) -> None:
        """Take requests back."""
        self.send(pack([VERSION, CANCEL, 0, list(ids)]))

    def ping(self) -> int:
        """Ask whether the bridge is there, and wait until it says so; the epoch."""
        pongs = self.pongs
        self.send(pack([VERSION, PING, 0, self.revision]))
        while self.pongs == pongs:
            self.take_in()
        return self.epoch

    def learn(self) -> dict[str, list[Any]]:
        """The ModelViews by name, once the bridge knows them."""
        until = time.monotonic() + 10.0
        while not self.models:
            assert time.monotonic() < until, "no Models came"
            self.ping()
            if not self.models:
                time.sleep(0.05)
                while self.socket.poll(0):
                    self.take_in()
        return self.models

    def refusal(self, wait_s: float = 5.0) -> tuple[int, int]:
        """Event and value with which ZeroMQ tells that the server did not take the connection."""
        assert self._refusals.poll(int(wait_s * 1e3)), "nothing was refused"
        event, value = struct.unpack("=HI", self._refusals.recv_multipart()[0])
        return event, value

    def take_in(self) -> None:
        """Receive one message, and do with each of its envelopes what the page says."""
        frames = self.socket.recv_multipart()
        while frames:
            header = unpack(frames.pop(0))
            assert header[0] == VERSION
            own, frames = frames[: header[2]], frames[header[2] :]
            assert len(own) == header[2]
            if header[1] == RESPONSE:
                self.answers.append(_answer(header, own))
            elif header[1] == PONG:
                self.pongs += 1
                if header[3] != self.epoch:
                    self.epoch, self.revision = header[3], 0
            elif header[1] == MODELS:
                self.revision = header[3]
                self.models = {view[0]["name"]: view for view in header[4]}
            else:
                raise AssertionError(f"kind {header[1]} was not announced")

    def next_answer(self) -> Answer:
        """The Response that comes next, whatever it answers."""
        while not self.answers:
            self.take_in()
        return self.answers.pop(0)

    def wait(self, id: int) -> list[Answer]:
        """All Responses to a request, the final one last; those to other requests are kept."""
        found: list[Answer] = []
        while not found or not found[-1].final:
            own = [answer for answer in self.answers if answer.id == id]
            self.answers = [answer for answer in self.answers if answer.id != id]
            found += own
            if not own:
                self.take_in()
        return found

    def ask(self, model: str, *tensors: Tensor, **more: Any) -> Answer:
        """Send one Request and wait for its only answer."""
        (found,) = self.wait(self.request(model, *tensors, **more))
        return found


def _answer(header: list[Any], frames: list[bytes]) -> Answer:
    given = header + [0, "", "", True, None, None][len(header) - 3 :] if len(header) < 9 else header
    number, code, error, final, payload, served = given[3:9]
    described, prediction, parameters = payload or ([], None, {})
    assert len(described) == len(frames)
    tensors = [
        Tensor(d[0], d[1], d[2], data, d[4] if len(d) > 4 else "") for d, data in zip(described, frames, strict=True)
    ]
    return Answer(number, code, error, final, {t.name: t for t in tensors}, prediction, parameters, served)
