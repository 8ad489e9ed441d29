"""What a request costs the batch manager, alone and in a crowd: `python -m inferoxy.bench.suite.crowd`.

A real batch manager process; this process plays all of its peers: the model manager, a bridge that keeps so many
requests open, and instances that answer at once. Every request is answered and followed by another of the same model.
Measured is the processor time of the batch manager, all its threads, per answered request: with one model, one instance
and as many open requests as keep it busy, and with 1,000 models, 64 instances and 10,000 open requests. The two are
measured in turns.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import zmq

from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.bench.suite import machine

AT_MOST = 1.3
BATCH = 32
JOINED = 64  # requests in one message, as a busy bridge sends them
DATA = bytes(64)
PING_S = 0.25
HEARTBEAT_S = 1.0
START_S = 10.0
SECRET = "bench"  # of a batch manager that lives for seconds and that nobody else can reach


class Scene(NamedTuple):
    """How many there are of each."""

    models: int
    instances: int
    requests: int
    shares_slots: bool = False  # all instances are on one device, which has a slot for each core


ALONE = Scene(1, 1, 4 * BATCH)
CROWD = Scene(1_000, 64, 10_000)
QUEUE = Scene(1_000, 64, 10_000, shares_slots=True)


class Peers:
    """All that a batch manager talks to.

    Args:
        run: The folder of its sockets.
        scene: How many models, instances and open requests.
    """

    def __init__(self, context: zmq.Context[Any], run: Path, scene: Scene) -> None:
        self.answered = 0
        self._scene = scene
        self._next_id = 1
        self._models: dict[int, str] = {}  # of each open request
        self._pinged_at = self._beaten_at = 0.0
        self._revision = 0  # of the models that the bridge was shown
        self._registry = sockets.router(context, f"ipc://{run}/registry.sock")
        self._bridge = sockets.dealer(context, f"ipc://{run}/frontend.sock", b"rest-bench")
        self._instances = {
            sockets.dealer(context, f"ipc://{run}/backend/backend.sock", f"i{number}".encode()): number
            for number in range(scene.instances)
        }
        payload = m.Payload([m.Tensor("INPUT0", "FP32", (1, 16), len(DATA))])
        self._payload = wire.encode_payload(payload)
        self._result = wire.encode_payload(m.ResultPayload([m.Tensor("OUTPUT0", "FP32", (1, 16), len(DATA))]))
        self._poller = zmq.Poller()
        for sock in (self._registry, self._bridge, *self._instances):
            self._poller.register(sock, zmq.POLLIN)

    def begin(self) -> None:
        """Register the models, connect the instances and open the requests.

        Raises:
            TimeoutError: The batch manager did not ask for its models.
        """
        deadline = time.monotonic() + START_S
        while not (self._give_catalog() and self._sees_models()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the batch manager did not take over its models within {START_S:g} s")
        for sock, number in self._instances.items():
            tensor = m.TensorSpec("INPUT0", "FP32", (-1, 16))
            model = self._model(number)
            hello = m.Hello(
                instance=f"i{number}",
                model=model,
                model_version="1",
                token=wire.instance_token(SECRET, f"i{number}", model, "1"),
                inputs=[tensor],
                batch_size=BATCH,
                stacked=True,
                device="cpu" if self._scene.shares_slots else f"gpu:{number}",
            )
            sockets.send(sock, wire.encode(hello))
        self._ask([self._model(number) for number in range(self._scene.requests)])

    def serve(self, seconds: float) -> None:
        """Answer, and ask again, for so long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if now >= self._pinged_at + PING_S:
                self._pinged_at = now
                sockets.send(self._bridge, wire.encode(m.Ping(revision=self._revision)))
            if now >= self._beaten_at + HEARTBEAT_S:
                self._beaten_at = now
                for sock in self._instances:
                    sockets.send(sock, wire.encode(m.Heartbeat()))
            for sock, _ in self._poller.poll(100):
                self._read(sock)

    def close(self) -> None:
        """Close all sockets."""
        for sock in (self._registry, self._bridge, *self._instances):
            sock.close(0)

    def _read(self, sock: Any) -> None:
        while (parts := sockets.recv(sock)) is not None:
            if sock is self._registry:
                continue
            for header, _ in wire.decode(parts):
                if type(header) is m.Batch:
                    items = [m.ResultItem(item.ticket, 0, self._result, data=DATA) for item in header.items]
                    sockets.send(sock, wire.encode(m.Result(batch=header.id, items=items, compute_us=100)))
                elif type(header) is m.Welcome and header.error:
                    raise RuntimeError(header.error)
                elif type(header) is m.Models:
                    self._revision = header.revision
                elif type(header) is m.Responses:
                    wrong = next((item for item in header.items if item.code), None)
                    if wrong is not None:
                        raise RuntimeError(f"request {wrong.id} was refused: {wrong.error}")
                    self.answered += len(header.items)
                    self._ask([self._models.pop(item.id) for item in header.items])

    def _give_catalog(self) -> bool:
        if not self._registry.poll(100):
            return False
        parts = sockets.recv(self._registry)
        if parts is None:
            return False
        specs = [
            m.ModelSpec(name=f"m{number}", artifact="none", batch_size=BATCH, queue_size=20_000)
            for number in range(self._scene.models)
        ]
        return sockets.send(self._registry, [parts[0], *wire.encode(m.Catalog(revision="1", models=specs))])

    def _sees_models(self) -> bool:
        """Whether the batch manager shows its models to the bridge."""
        sockets.send(self._bridge, wire.encode(m.Ping()))
        while self._bridge.poll(200):
            for header, _ in wire.decode(sockets.recv(self._bridge) or []):
                if type(header) is m.Models and header.complete:
                    return True
        return False

    def _model(self, number: int) -> str:
        """The model of this instance or request: only those with an instance are asked."""
        return f"m{number % self._scene.instances}"

    def _ask(self, models: Sequence[str]) -> None:
        for at in range(0, len(models), JOINED):
            items = [self._request(name) for name in models[at : at + JOINED]]
            sockets.send(self._bridge, wire.encode_joined(m.Requests, items, ()))

    def _request(self, model: str) -> m.Request:
        number = self._next_id
        self._next_id += 1
        self._models[number] = model
        return m.Request(
            id=number,
            model=model,
            payload=self._payload,
            timeout_us=60_000_000,
            key="INPUT0:FP32:16",
            size=len(DATA),
            request_id="bench",
            data=DATA,
        )


def measure(scene: Scene, seconds: float, warmup_s: float) -> float:
    """Microseconds of the batch manager's processor time per answered request."""
    context = sockets.context()
    with tempfile.TemporaryDirectory(prefix="ix-crowd-") as name, _batch_manager(Path(name)) as pid:
        peers = Peers(context, Path(name) / "run", scene)
        try:
            peers.begin()
            peers.serve(warmup_s)
            before, answered = machine.cpu_s(pid), peers.answered
            peers.serve(seconds)
            spent, done = machine.cpu_s(pid) - before, peers.answered - answered
        finally:
            peers.close()
            context.destroy(linger=0)
    return spent / max(done, 1) * 1e6


@contextmanager
def _batch_manager(folder: Path) -> Iterator[int]:
    known = {key: value for key, value in os.environ.items() if not key.startswith("INFEROXY_")}
    known["INFEROXY_SECRET"] = SECRET
    command = [sys.executable, "-m", "inferoxy", "batch-manager", "--data-dir", str(folder), "--log-level", "warning"]
    with subprocess.Popen(command, env=known) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both in turns; 1 when the crowd costs too much."""
    parser = argparse.ArgumentParser(prog="python -m inferoxy.bench.suite.crowd", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=2.0)
    settings = parser.parse_args(arguments)
    ratios: list[float] = []
    for number in range(settings.rounds):
        alone, crowd = (measure(scene, settings.seconds, settings.warmup) for scene in (ALONE, CROWD))
        ratios.append(crowd / alone)
        print(
            f"  {number + 1}  batch manager, per request: {alone:.1f} us with {_told(ALONE)}; {crowd:.1f} us with "
            f"{_told(CROWD)}: {ratios[-1]:.2f}",
            flush=True,
        )
    found = median(ratios)
    holds = found <= AT_MOST
    print(
        f"crowd: {found:.2f} times the processor time ({min(ratios):.2f} to {max(ratios):.2f}), at most {AT_MOST}: "
        f"{'holds' if holds else 'FALLS SHORT'}"
    )
    return 0 if holds else 1


def _told(scene: Scene) -> str:
    return f"{scene.models:,} models, {scene.instances} instances, {scene.requests:,} open requests"


if __name__ == "__main__":
    sys.exit(main())
