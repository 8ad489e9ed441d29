"""Ask a model about pictures and frames, and give what became of each, in order.

Pictures and frames are read when their turn comes; what is held is what is under way. A stateless model has `window` of
them under way; for a stateful one all pictures are one sequence, and every video is one.
Invariants: every picture has one outcome; of a video there is one for each frame asked about, or for what ended it.
"""

import itertools
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from inferoxy.cli.infer.inputs import Input, Kind
from inferoxy.cli.infer.results import Outcome
from inferoxy.cli.infer.video import Cut, Frame, VideoReader, encode, to_rgb
from inferoxy.client import Client, Detections, Prediction
from inferoxy.client.arguments import Draw
from inferoxy.client.calls import ConnectionFailed
from inferoxy.client.pictures import Source, measure
from inferoxy.errors import Code, InferoxyError

RAW_LIMIT_BYTES = 8 << 20  # a larger frame goes as JPEG even to a server on this machine: several are held at a time
CROWDED = (Code.QUEUE_FULL, Code.SHED)
CROWDED_WAITS_S = (0.5, 1.0, 2.0, 4.0)  # before a picture that found no room is asked about again
_NO_SEQUENCE = "sequence_id: expected one"  # how a server begins to say that a model is stateful


@dataclass(frozen=True, slots=True)
class Question:
    """What every request has in common.

    Attributes:
        model: Its name.
        version: Empty: the default one.
        draw: As in Client.predict.
        window: The most requests under way.
        parameters: For the model.
        cut: Which frames of videos are wanted.
        sends_raw: Whether frames travel as they are, which is best on one machine, or as JPEG.
    """

    model: str
    version: str
    draw: Draw
    window: int
    parameters: dict[str, Any]
    cut: Cut
    sends_raw: bool


class NeedsSequence(Exception):
    """The model is stateful; nothing has been answered yet."""


class _Job(NamedTuple):
    """What is to be asked, or why it cannot be."""

    input: Input
    frame: Frame | None = None
    source: Source | None = None
    error: InferoxyError | OSError | None = None

    def became(
        self, answer: Detections | Prediction | None = None, error: InferoxyError | OSError | None = None
    ) -> Outcome:
        return Outcome(self.input, self.frame, answer, error)


def ask_each(client: Client, question: Question, inputs: Iterable[Input]) -> Iterator[Outcome]:
    """Ask a stateless model.

    Raises:
        NeedsSequence: It is stateful.
        ConnectionFailed: The server is not there, or was lost.
    """
    waiting: deque[_Job] = deque()
    answered = False
    about: dict[str, Any] = {"draw": question.draw, "version": question.version, **question.parameters}
    items = client.predict_many(
        question.model, _sources(_jobs(question, inputs), waiting), window=question.window, **about
    )
    with closing(items):
        for item in items:
            yield from _failed_before(waiting)
            job, answer, error = waiting.popleft(), item.answer, item.error
            if not answered and isinstance(error, InferoxyError) and error.message.startswith(_NO_SEQUENCE):
                raise NeedsSequence
            if isinstance(error, InferoxyError) and error.code in CROWDED and job.source is not None:
                answer, error = _ask_again(client, question, job.source, error)
            answered = True
            yield job.became(answer, error)
    yield from _failed_before(waiting)


def ask_in_sequences(client: Client, question: Question, inputs: Sequence[Input]) -> Iterator[Outcome]:
    """Ask a stateful model: the pictures as one sequence, each video as one.

    After a failed request it is not known what the model has seen of those behind it, so the sequence ends there.

    Raises:
        ConnectionFailed: The server is not there, or was lost.
    """
    for is_video, group in itertools.groupby(inputs, lambda one: one.kind is Kind.VIDEO):
        if is_video:
            for one in group:
                yield from _ask_sequence(client, question, [one])
        else:
            yield from _ask_sequence(client, question, group)


def _ask_sequence(client: Client, question: Question, inputs: Iterable[Input]) -> Iterator[Outcome]:
    waiting: deque[_Job] = deque()
    jobs = _jobs(question, inputs)
    with closing(jobs), client.sequence(question.model, version=question.version) as sequence:
        answers = sequence.map(
            _sources(jobs, waiting), window=question.window, draw=question.draw, **question.parameters
        )
        try:
            for answer in answers:
                yield from _failed_before(waiting)
                yield waiting.popleft().became(answer)
        except ConnectionFailed:
            raise
        except InferoxyError as exc:
            yield from _failed_before(waiting)
            lost = waiting.popleft()
            yield lost.became(error=exc)
            yield from _not_asked(lost, waiting, jobs)
        yield from _failed_before(waiting)


def _not_asked(lost: _Job, waiting: deque[_Job], jobs: Iterator[_Job]) -> Iterator[Outcome]:
    """The pictures behind the one whose failure ended their sequence; a video has nothing more to say."""
    if lost.input.kind is Kind.VIDEO:
        return
    because = InferoxyError(f"not asked: the sequence ended with {lost.input.name}", Code.SEQUENCE_LOST)
    for job in itertools.chain(tuple(waiting), jobs):
        yield job.became(error=job.error or because)
    waiting.clear()


def _sources(jobs: Iterator[_Job], waiting: deque[_Job]) -> Iterator[Source]:
    """What can be sent; everything is put to what waits for its outcome."""
    for job in jobs:
        waiting.append(job)
        if job.source is not None:
            yield job.source


def _failed_before(waiting: deque[_Job]) -> Iterator[Outcome]:
    """Those in front that could not be sent."""
    while waiting and waiting[0].source is None:
        job = waiting.popleft()
        yield job.became(error=job.error)


def _jobs(question: Question, inputs: Iterable[Input]) -> Generator[_Job, None, None]:
    for one in inputs:
        try:
            if one.kind is Kind.VIDEO:
                yield from _frames(question, one)
            else:
                data = _standard_input() if one.kind is Kind.STDIN else one.path.read_bytes()
                measure(data, "picture")
                yield _Job(one, source=data)
        except (InferoxyError, OSError) as exc:
            yield _Job(one, error=exc)


def _frames(question: Question, one: Input) -> Iterator[_Job]:
    count = 0
    with VideoReader(one.path, question.cut) as reader:
        for frame in reader:
            raw = question.sends_raw and frame.image.nbytes <= RAW_LIMIT_BYTES
            source = to_rgb(frame.image) if raw else encode(frame.image)
            yield _Job(one, frame if question.draw else frame.without_image(), source)
            count += 1
        if not count:
            raise InferoxyError(f"no frame of it is wanted: {reader.described}", Code.INVALID_REQUEST)


@cache
def _standard_input() -> bytes:
    """All of it: it cannot be read again, should the model turn out to be stateful."""
    return sys.stdin.buffer.read()


def _ask_again(
    client: Client, question: Question, source: Source, error: InferoxyError
) -> tuple[Detections | Prediction | None, InferoxyError | None]:
    """A picture that the server had no room for. Meanwhile no other is sent, which gives it time."""
    for wait_s in CROWDED_WAITS_S:
        time.sleep(wait_s)
        try:
            answer = client.predict(
                question.model, source, draw=question.draw, version=question.version, **question.parameters
            )
        except InferoxyError as exc:
            error = exc
            if exc.code not in CROWDED:
                break
        else:
            return answer, None
    if isinstance(error, ConnectionFailed):
        raise error
    return None, error
