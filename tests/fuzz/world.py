"""What stands behind the bridges, in this process and without sockets: a batch manager's core, and instances.

A request that a bridge accepts goes all the way as it would in a stack: encoded, queued, batched, checked and run by an
instance's own code, and its answers come back. The models do next to nothing, so whatever fails has failed in ours.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import Future
from types import ModuleType
from typing import Any

from batch_manager.core import BatchManager
from batch_manager.sends import Link
from bridges.models import ModelIndex
from bridges.pending import Answer
from bridges.requests import Frames
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.config import LimitSettings
from inferoxy.errors import Code
from inferoxy.runtime import backend as b
from inferoxy.runtime.executor import Executor
from inferoxy.runtime.intake import Intake
from inferoxy.runtime.predict_batch import PredictBatch
from inferoxy.runtime.sdk import Array, Request
from inferoxy.tensors import DTYPES

BRIDGE = b"bridge"
LIMITS = LimitSettings(picture_pixels=1_000_000, picture_side=4_000)  # so that decoding is quick
BATCH_SIZE = 8
STEP_S = 0.02  # between two requests
BEAT_S = 1.0
OUR_FAULT = frozenset({Code.INTERNAL, Code.MODEL_ERROR, Code.INSTANCE_LOST, Code.MODEL_UNAVAILABLE})
KINDS = (*DTYPES, "BYTES")


class Fault(Exception):
    """An input was not refused, and then something went wrong."""


class _Rows(b.StackedBackend):
    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {"OUT": inputs["IN"]}


class _Each(b.EachBackend):
    """Gives back what it gets, each input X as output X_OUT."""

    def infer_each(self, requests: list[Request]) -> Sequence[b.Outcome]:
        return [b.Answer({f"{name}_OUT": array for name, array in request.items()}) for request in requests]


class _Steps(b.SequenceBackend):
    def start_sequence(self, sequence_id: int | str) -> None:
        hash(sequence_id)

    def infer_sequence(self, sequence_id: int | str, request: Request) -> b.Outcome:
        return b.Answer({"OUT": request["IN"]})

    def end_sequence(self, sequence_id: int | str, reason: str) -> None:
        hash(sequence_id)


def _predict_batch(samples: list[dict[str, Any]], draw: bool) -> list[dict[str, Any]]:
    return [
        {"prediction": {"size": s["image"].shape, "known": sorted(map(str, s))}, "image": s["image"]} for s in samples
    ]


class _Here(Pool):
    """A pool whose work is done when it comes."""

    def submit(self, work: Callable[..., Any], /, *given: Any, **named: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        try:
            done.set_result(work(*given, **named))
        except Exception as exc:
            done.set_exception(exc)
        return done


class _Instance:
    """A model, its intake and its executor."""

    def __init__(self, name: str, backend: b.Backend, stateless: bool = True) -> None:
        found = backend.signature
        self.hello = m.Hello(
            instance=name,
            model=name,
            model_version="1",
            inputs=found.inputs,
            outputs=found.outputs,
            batch_size=BATCH_SIZE,
            stacked=isinstance(backend, b.StackedBackend),
            stateless=stateless,
            max_sequences=BATCH_SIZE,
        )
        self.results: list[list[Any]] = []
        self._executor = Executor(backend, stateless, _Here(), self.results.append)
        self._intake = Intake(backend, BATCH_SIZE, _Here())

    def handle(self, header: m.Header, frames: Any) -> None:
        """What the batch manager says."""
        if isinstance(header, m.Batch):
            self._executor.run(self._intake.prepare(header, frames))
        elif isinstance(header, m.EndSequence):
            self._executor.end_sequence(header)


class World:
    """A batch manager with an instance of each model. The model `cold` has none, and has never declared its inputs."""

    def __init__(self) -> None:
        self.now = 0.0
        self._core = BatchManager(7, now=0.0)
        self._beat_at = 0.0
        self._next_id = 1
        self._answers: dict[int, list[Answer]] = {}
        self.instances = {name.encode(): _Instance(name, *given) for name, given in _backends().items()}
        specs = [
            m.ModelSpec(
                name=name,
                artifact=name,
                batch_size=BATCH_SIZE,
                stateless=name.encode() not in self.instances or self.instances[name.encode()].hello.stateless,
                max_sequences=BATCH_SIZE,
            )
            for name in ["cold", *_backends()]
        ]
        self._core.handle(b"", m.Catalog(revision="1", models=specs), (), 0.0)
        for peer, instance in self.instances.items():
            self._core.handle(peer, instance.hello, (), 0.0)
        views = [self._view(spec) for spec in specs]
        self.models = ModelIndex()
        self.models.update(m.Models(revision=5, models=views, complete=True))
        self._run()

    def _view(self, spec: m.ModelSpec) -> m.ModelView:
        instance = self.instances.get(spec.name.encode())
        if instance is None:
            return m.ModelView(spec)
        hello = instance.hello
        return m.ModelView(
            spec, "ready", inputs=hello.inputs, outputs=hello.outputs, stacked=hello.stacked, instances=1
        )

    def serve(self, request: m.Request, frames: Frames) -> list[Answer]:
        """Send a request as a bridge would; its answers. None have come when it has to wait.

        Raises:
            Fault: It was answered twice, or with an error that is our own.
        """
        number = request.id = self._next_id
        self._next_id += 1
        self.now += STEP_S
        request.frames = len(frames)
        self._answers[number] = []
        for header, own in wire.decode(wire.encode_joined(m.Requests, [request], frames)):
            self._core.handle(BRIDGE, header, own, self.now)
        self._run()
        if self.now >= self._beat_at:
            self._beat_at = self.now + BEAT_S
            for peer in self.instances:
                self._core.handle(peer, m.Heartbeat(), (), self.now)
        self._core.wake(self.now)
        self._run()
        answers = self._answers[number]
        if answers and answers[-1].response.final:
            del self._answers[number]
        for answer in answers:
            if answer.response.code in OUR_FAULT:
                raise Fault(f"answered {answer.response.code}: {answer.response.error}")
        return answers

    def gone(self, client: str) -> None:
        """A client has left."""
        self._core.handle(BRIDGE, m.Gone(clients=[client]), (), self.now)
        self._run()

    def cancel(self, ids: list[int]) -> None:
        """A client has lost interest."""
        self._core.handle(BRIDGE, m.Cancel(ids=ids), (), self.now)
        self._run()

    def _run(self) -> None:
        """Carry messages to and fro until there are no more."""
        while sends := self._core.take_sends():
            for link, peer, header, frames in sends:
                parts = wire.encode(header, frames)
                if link is Link.BACKEND:
                    for said, own in wire.decode(parts):
                        self.instances[peer].handle(said, own)
                elif link is Link.FRONTEND and peer == BRIDGE:
                    for said, own in wire.decode(parts):
                        self._take(said, own)
            for peer, instance in self.instances.items():
                while instance.results:
                    for said, own in wire.decode(instance.results.pop(0)):
                        self._core.handle(peer, said, own, self.now)

    def _take(self, said: Any, frames: Any) -> None:
        for item, own in wire.each(said, frames):
            if not isinstance(item, m.Response):
                continue
            mine = self._answers.get(item.id)
            if mine is None or (mine and mine[-1].response.final):
                raise Fault(f"request {item.id} was answered behind its end: {item.code} {item.error}")
            mine.append(Answer(item, own))


def _backends() -> dict[str, tuple[Any, ...]]:
    def spec(name: str, datatype: str, *shape: int) -> m.TensorSpec:
        return m.TensorSpec(name, datatype, shape)

    def signature(inputs: list[m.TensorSpec], outputs: list[m.TensorSpec]) -> b.Signature:
        return b.Signature(inputs, outputs, BATCH_SIZE, "fuzz")

    module = ModuleType("model")
    module.predict_batch = _predict_batch  # type: ignore[attr-defined]
    module.init = lambda **given: None  # type: ignore[attr-defined]
    config = m.InstanceConfig(
        instance="picture", model="picture", model_version="1", backend="", artifact="", runtime="", batch_size=8
    )
    kinds = [spec(kind, kind, -1) for kind in KINDS]
    return {
        "rows": (_Rows(signature([spec("IN", "FP32", -1, 4)], [spec("OUT", "FP32", -1, 4)])),),
        "kinds": (_Each(signature(kinds, [spec(f"{kind}_OUT", kind, -1) for kind in KINDS])),),
        "words": (_Each(signature([spec("WORDS", "BYTES", -1)], [spec("WORDS_OUT", "BYTES", -1)])),),
        "picture": (PredictBatch(module, config),),
        "sum": (_Steps(signature([spec("IN", "INT32", -1)], [spec("OUT", "INT32", -1)])), False),
    }
