"""What people are told of the outcomes, and the files that are written of them.

Outcomes come in the order of the inputs, those of a video's frames one after another.
"""

import json
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from inferoxy.cli.infer.drawing import Drawing
from inferoxy.cli.infer.inputs import Input, Kind, shown
from inferoxy.cli.infer.progress import Count
from inferoxy.cli.infer.results import Outcome, ResultFiles, reason_of, tracks_of

if TYPE_CHECKING:
    from inferoxy.client import Detections, Prediction

    Answer = Detections | Prediction

FRAMES_TOLD = 5  # failed frames of one video that are told one by one
CLASSES_TOLD = 6
VALUE_CHARACTERS = 100  # of a prediction without boxes, in a line


class Says(Enum):
    """What people are told on standard output."""

    NOTHING = 0
    LINES = 1
    TABLES = 2


class Plan(NamedTuple):
    """One input, the file for its drawing if one is wanted, and what is known of a video."""

    input: Input
    target: Path | None = None
    expected: int | None = 1
    fps: float = 0.0


class Report:
    """Takes outcomes, until it is closed.

    Args:
        plans: All inputs.
        files: Of results.
        count: How far it is.
        says: What people are told.
    """

    def __init__(self, plans: Sequence[Plan], files: ResultFiles, count: Count, says: Says) -> None:
        self._plans = plans
        self._files = files
        self._count = count
        self._says = says
        self._at = -1
        self._part: _Part | None = None
        self._unknown = sum(plan.expected is None for plan in plans)
        self._expected = sum(plan.expected or 0 for plan in plans)
        self._pictures_drawn = 0
        self._movies: list[str] = []

    def take(self, outcome: Outcome) -> None:
        """Write, save and tell one outcome.

        Raises:
            InferoxyError: A file cannot be written.
            InvalidRequest: CSV was asked for, and the prediction has no boxes.
        """
        part = self._part
        if part is None or part.plan.input is not outcome.input:
            self._end_input()
            self._at += 1
            part = self._part = _Part(self._plans[self._at])
        saved = part.drawing.save(outcome) if part.drawing is not None else None
        self._files.write(outcome, saved)
        self._pictures_drawn += saved is not None
        failure = part.note(outcome)
        self._count.add(failed=failure is not None)
        if failure is not None and part.failed <= FRAMES_TOLD:
            self._count.complain(failure)
        if outcome.answer is not None and outcome.frame is None:
            self._tell_picture(outcome.input, outcome.answer, saved)

    def close(self, *, is_whole: bool) -> None:
        """Complete what is open. Unless all outcomes have come, the last video is told of by the caller.

        Raises:
            InferoxyError: A movie cannot be given its name.
        """
        self._end_input(is_whole=is_whole)

    @property
    def written(self) -> list[str]:
        """What there is to look at."""
        pictures = f"{self._pictures_drawn:,} drawn picture{'s' if self._pictures_drawn > 1 else ''}"
        return [*self._files.names, *self._movies, *([pictures] if self._pictures_drawn else [])]

    def _end_input(self, *, is_whole: bool = True) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        movie = part.drawing.close() if part.drawing is not None else None
        if movie is not None:
            self._movies.append(shown(movie))
        if part.failed > FRAMES_TOLD:
            self._count.complain(f"{part.plan.input.name}: {part.failed - FRAMES_TOLD:,} more frames failed")
        if part.plan.input.kind is not Kind.VIDEO or not is_whole:
            return
        if self._says is not Says.NOTHING and part.frames:
            self._count.say(f"{part.plan.input.name}: {part}{_drawn(movie)}")
        self._unknown -= part.plan.expected is None
        self._expected += part.outcomes - (part.plan.expected or 0)
        self._count.expect(None if self._unknown else self._expected)

    def _tell_picture(self, one: Input, answer: "Answer", saved: Path | None) -> None:
        if self._says is Says.TABLES:
            from inferoxy.cli.infer.table import print_answer

            print_answer(one.name, answer, saved)
        elif self._says is Says.LINES:
            self._count.say(f"{one.name}: {_in_short(answer)}{_drawn(saved)}")


class _Part:
    """What has come of one input."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.drawing = Drawing(plan.target, plan.fps) if plan.target is not None else None
        self.outcomes = self.frames = self.failed = 0
        self._is_lack_told = False
        self._classes: Counter[str] = Counter()
        self._tracks: set[object] = set()

    def note(self, outcome: Outcome) -> str | None:
        """Count an outcome; what is to be said if it is a failure."""
        self.outcomes += 1
        self.frames += outcome.frame is not None
        name = outcome.input.name
        if outcome.error is not None:
            self.failed += 1
            place = name if outcome.frame is None else f"{name} frame {outcome.frame.number}"
            reason = reason_of(outcome.error)
            return reason if reason.startswith(name) and outcome.frame is None else f"{place}: {reason}"
        self._sum_up(outcome.answer)
        if self.drawing is not None and not self.drawing.is_complete and not self._is_lack_told:
            self._is_lack_told = True  # once for a video: the model draws nothing
            self.failed += 1
            return f"{name}: the model gave no drawn picture to save"
        return None

    def __str__(self) -> str:
        text = f"{self.frames:,} frame{'' if self.frames == 1 else 's'}"
        if self._classes:
            text += f", {_objects(self._classes)}"
        if self._tracks:
            text += f", {len(self._tracks):,} track{'' if len(self._tracks) == 1 else 's'}"
        return text

    def _sum_up(self, answer: "Answer | None") -> None:
        from inferoxy.client import Detections

        if isinstance(answer, Detections):
            self._classes.update(answer.class_name)
            self._tracks.update(track for track in tracks_of(answer) if isinstance(track, int | str) and track != "")


def _in_short(answer: "Answer") -> str:
    from inferoxy.client import Detections

    if isinstance(answer, Detections):
        return _objects(Counter(answer.class_name))
    text = json.dumps(answer.value, ensure_ascii=False)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[: VALUE_CHARACTERS - 1]}…"


def _objects(classes: "Counter[str]") -> str:
    count = classes.total()
    text = f"{count:,} object{'' if count == 1 else 's'}"
    told = [f"{name} {number:,}" for name, number in sorted(classes.items(), key=lambda one: (-one[1], one[0]))]
    more = ", …" if len(classes) > CLASSES_TOLD else ""
    return f"{text} ({', '.join(told[:CLASSES_TOLD])}{more})" if told else text


def _drawn(file: Path | None) -> str:
    return "" if file is None else f", drawn: {shown(file)}"
