"""The batch manager's side of the frontend for protocol tests: a real ROUTER in a thread that answers by model name.

As there, requests may come joined and answers always leave so, with what is small inline.

echo       FP32 [-1, 16] and anything else: each INPUT… comes back as OUTPUT…
detector   one box as large as the picture; draws by giving the picture back
frames     three answers and an empty final one
broken     MODEL_ERROR            full      QUEUE_FULL           starting   not ready
silent     never answers          counter   a stateful model     cold       declares nothing yet
tally      a stateful model that answers as echo and detector do
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from inferoxy import messages as m
from inferoxy import sockets, wire
from tests.requests_for_models import pack

Answers = list[tuple[m.Response, list[Any]]]
PICTURE = m.TensorSpec("image", "UINT8", (-1, -1, 3))
ROW = m.TensorSpec("INPUT0", "FP32", (-1, 16))
ROW_OUT = m.TensorSpec("OUTPUT0", "FP32", (-1, 16))


def view(name: str, *inputs: m.TensorSpec, **more: Any) -> m.ModelView:
    spec = m.ModelSpec(
        name=name,
        artifact="model",
        stateless=more.pop("stateless", True),
        timeout_ms=more.pop("timeout_ms", 5_000.0),
        version=more.pop("version", "1"),
        default=more.pop("default", True),
        environment={"TOKEN": "a secret of the model"},
    )
    return m.ModelView(spec, more.pop("state", "ready"), inputs=list(inputs), instances=1, **more)


MODELS = [
    view("echo", ROW, outputs=[ROW_OUT], stacked=True),
    view("echo", version="2", default=False),
    view("detector", PICTURE),
    view("frames", PICTURE, decoupled=True),
    view("broken"),
    view("full"),
    view("silent", timeout_ms=400.0),
    view("counter", stateless=False),
    view("tally", stateless=False),
    m.ModelView(m.ModelSpec(name="cold", artifact="model")),
    m.ModelView(m.ModelSpec(name="starting", artifact="model", instances=m.Scale(1, 1)), state="starting"),
]
SERVED = m.Served(1_500, 2_500, 4, "full", "instance-1", "1", 500)


class AnsweringRouter:
    """Binds at once; `forget` makes it a batch manager that was restarted, `stop` and `start` one that was away."""

    def __init__(self, folder: Path, models: Sequence[m.ModelView] = MODELS) -> None:
        self.endpoint = f"ipc://{folder}/frontend.sock"
        self.requests: list[m.Request] = []
        self.cancelled: list[int] = []
        self.gone: list[str] = []
        self.commands: list[m.Command] = []
        self.messages = 0
        self.is_dropping = False
        self.is_holding = False  # answers wait until this is False again
        self.is_sending_rubbish = False
        self._models = list(models)
        self._epoch = 7
        self._revision = 1
        self._context = sockets.context()
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self._held: list[tuple[bytes, m.Request, Sequence[Any]]] = []
        self.start()

    def __enter__(self) -> "AnsweringRouter":
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._context.destroy(linger=0)

    def start(self) -> None:
        """Bind and answer."""
        self._socket = sockets.router(self._context, self.endpoint)
        self._is_ending = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and close the socket."""
        self._is_ending = True
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._socket.close(0)

    def forget(self) -> None:
        """From now on this is another run of the batch manager."""
        self._epoch += 1

    def wait_for(self, condition: Any, timeout_s: float = 5.0) -> None:
        """Return when the condition holds; fail after `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "what was waited for did not happen"
            time.sleep(0.005)

    def _serve(self) -> None:
        while not self._is_ending:
            self._socket.poll(20)
            if not self.is_holding:
                held, self._held = self._held, []
                for peer, request, frames in held:
                    self._send(peer, [], self._answer(request, frames))
            while (parts := sockets.recv(self._socket)) is not None:
                self.messages += 1
                others: list[Any] = []
                answers: Answers = []
                for header, frames in wire.decode(parts[1:]):
                    others += self._handle(header)
                    if isinstance(header, m.Request | m.Requests):
                        for request, own in wire.each(header, frames):
                            answers += self._serve_one(parts[0], request, own)
                if self.is_sending_rubbish:
                    sockets.send(self._socket, [parts[0], b"rubbish", b""])
                self._send(parts[0], others, answers)

    def _send(self, peer: bytes, others: list[Any], answers: Answers) -> None:
        joined: list[Any] = []
        if answers:
            frames = [frame for _, own in answers for frame in own]
            joined = wire.encode_joined(m.Responses, [response for response, _ in answers], frames)
        if joined or others:
            sockets.send(self._socket, [peer, *joined, *others])

    def _handle(self, header: Any) -> list[Any]:
        if isinstance(header, m.Ping):
            answers = wire.encode(m.Pong(epoch=self._epoch))
            if header.revision != self._revision:
                answers += wire.encode(m.Models(revision=self._revision, models=self._models, complete=True))
            return answers
        if isinstance(header, m.Command):
            self.commands.append(header)
            return wire.encode(m.Commanded(id=header.id, code="MODEL_UNAVAILABLE", error="no task manager here"))
        if isinstance(header, m.AskStatistics):
            return wire.encode(
                m.Statistics(id=header.id, models=[m.ModelStatistics(model=header.model or "echo", model_version="1")])
            )
        if isinstance(header, m.Cancel):
            self.cancelled += header.ids
        if isinstance(header, m.Gone):
            self.gone += header.clients
        return []

    def _serve_one(self, peer: bytes, header: m.Request, frames: Sequence[Any]) -> Answers:
        self.requests.append(header)
        if self.is_dropping:
            return []
        if self.is_holding:
            self._held.append((peer, header, frames))
            return []
        return self._answer(header, frames)

    def _answer(self, request: m.Request, frames: Sequence[Any]) -> Answers:
        payload = wire.decode_payload(request.payload)
        parts = wire.spread(payload.tensors, request.data, frames)
        match request.model:
            case "silent" | "counter":
                return []
            case "broken":
                return _response(request, code="MODEL_ERROR", error="the model says no")
            case "full":
                return _response(request, code="QUEUE_FULL", error="model 'full': its queue is full (queue_size 1)")
            case "frames":
                results = [m.ResultPayload([], {"frame": i}) for i in range(3)]
                answers = [_response(request, result, served=SERVED, final=False) for result in results]
                return [*[answer for (answer,) in answers], *_response(request)]
        if payload.form == "prediction":
            return _detected(request, payload, parts)
        tensors = [
            m.Tensor(t.name.replace("INPUT", "OUTPUT"), t.datatype, t.shape, encoding=t.encoding)
            for t in payload.tensors
        ]
        result = m.ResultPayload(tensors, None, payload.parameters)
        return _response(request, result, parts, served=SERVED)


def _detected(request: m.Request, payload: m.Payload, parts: Sequence[Any]) -> Answers:
    height, width, _ = payload.tensors[0].shape
    prediction = {
        "boxes": [[0, 0, width, height]],
        "confidence": [payload.parameters.get("confidence", 0.25)],
        "class_id": [3],
        "class_name": ["square"],
        "parameters": payload.parameters,
    }
    drawn = [m.Tensor("picture", "UINT8", (height, width, 3), encoding=payload.picture)] if payload.picture else []
    return _response(request, m.ResultPayload(drawn, prediction), parts if drawn else (), served=SERVED)


def _response(
    request: m.Request, result: m.ResultPayload | None = None, parts: Sequence[Any] = (), **more: Any
) -> Answers:
    if result is None:
        return [(m.Response(id=request.id, **more), [])]
    data, frames = pack(result.tensors, parts)
    response = m.Response(id=request.id, payload=wire.encode_payload(result), data=data, **more)
    response.frames = len(frames)
    return [(response, frames)]


def quiet_socket(context: zmq.Context[Any], endpoint: str, timeout_ms: int = 5_000) -> zmq.Socket[bytes]:
    """A DEALER whose receive fails after a while instead of hanging the test."""
    sock = sockets.dealer(context, endpoint)
    sock.set(zmq.RCVTIMEO, timeout_ms)
    return sock
