"""A loaded model with intake and executor in this process: batches in, answers out, no socket."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import Any

import pytest

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.runtime import backend
from inferoxy.runtime.executor import Executor
from inferoxy.runtime.intake import Intake
from tests.requests_for_models import Call, Given, make_batch, read_result


def write_model(folder: Path, code: str) -> Path:
    """A folder with this model.py."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(dedent(code))
    return folder


def config(artifact: Path, **changes: Any) -> m.InstanceConfig:
    """How an instance that serves this artifact is told to."""
    fields: dict[str, Any] = {"runtime": "", "batch_size": 8, "threads": 2, **changes}
    return m.InstanceConfig(
        instance="i1", model="x", model_version="1", backend="ipc:///unused", artifact=str(artifact), **fields
    )


def load(artifact: Path, **changes: Any) -> backend.Backend:
    """Load a model as an instance would."""
    return backend.load(config(artifact, **changes))


class Rig:
    """Runs batches; every answer is kept in `messages` as it was sent."""

    def __init__(self, artifact: Path, **changes: Any) -> None:
        self._before = list(sys.path)
        self.config = config(artifact, **changes)
        self.backend = backend.load(self.config)
        self.pool = ThreadPoolExecutor(2)
        self.messages: list[m.Result] = []
        self.answers: list[Given] = []
        self.intake = Intake(self.backend, self.backend.signature.batch_size, self.pool)
        self.executor = Executor(self.backend, self.config.stateless, self.pool, self._take)

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.executor.close()
        self.pool.shutdown()

    def run(self, *calls: Call) -> list[list[Given]]:
        """Run one batch; each call's answers in order. Asserts that every call got exactly one final answer."""
        self.messages.clear()
        self.answers.clear()
        batch, frames = make_batch(7, list(calls))
        self.executor.run(self.intake.prepare(batch, frames))
        self.pool.shutdown(wait=True)  # pictures are encoded in it
        self._renew_pool()
        assert [message.done for message in self.messages] == [False] * (len(self.messages) - 1) + [True]
        given: list[list[Given]] = [[] for _ in calls]
        for answer in self.answers:
            given[answer.ticket].append(answer)
        for answers in given:
            assert [answer.final for answer in answers] == [False] * (len(answers) - 1) + [True]
        return given

    def one(self, call: Call) -> Given:
        """Run a call alone; its only answer."""
        ((answer,),) = self.run(call)
        return answer

    def _take(self, frames: list[Any]) -> None:
        for message, tensors in wire.decode(frames):
            self.messages.append(message)
            self.answers += read_result(message, tensors)

    def _renew_pool(self) -> None:
        self.pool = ThreadPoolExecutor(2)
        self.intake = Intake(self.backend, self.backend.signature.batch_size, self.pool)
        self.executor._pool = self.pool


@pytest.fixture
def clean_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Undo what loading a model.py does to this process: sys.path, sys.modules and the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "model", raising=False)
