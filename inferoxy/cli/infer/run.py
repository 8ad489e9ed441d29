"""One run of `inferoxy infer` over pictures and videos: look, ask, report, sum up.

Nothing is asked before the whole command line is known to be right. Asking is asking.py, what becomes of an
outcome report.py.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from inferoxy.cli import EXIT_FAILED, EXIT_INTERRUPTED
from inferoxy.cli.infer.asking import NeedsSequence, Question, ask_each, ask_in_sequences
from inferoxy.cli.infer.inputs import Kind, find_inputs
from inferoxy.cli.infer.model import check_takes_pictures, find_model
from inferoxy.cli.infer.progress import Count
from inferoxy.cli.infer.report import Plan, Report, Says
from inferoxy.cli.infer.results import STDOUT, Outcome, ResultFiles
from inferoxy.cli.infer.targets import (
    Encoding,
    check_is_file_name,
    check_results_file,
    encoding_for,
    folder_of,
    targets_for,
)
from inferoxy.cli.infer.video import Cut, look_at, opencv
from inferoxy.cli.interruption import Interruption
from inferoxy.client import Client, ModelInfo
from inferoxy.client import address as addresses
from inferoxy.client.calls import ConnectionFailed
from inferoxy.errors import Code, InferoxyError, InvalidRequest

VIDEOS_LOOKED_AT = 200  # more are not opened beforehand, only to know how long they are


class Wishes(NamedTuple):
    """What is asked. `in_sequence` None: if the model is stateful."""

    model: str
    version: str
    parameters: dict[str, Any]
    window: int
    in_sequence: bool | None
    cut: Cut
    url: str


class Outputs(NamedTuple):
    """What is made of the answers."""

    save: str | None
    save_as: Encoding
    json_file: str | None
    csv_file: str | None
    is_quiet: bool


class Job:
    """Everything that a command line asks for.

    Raises:
        InvalidRequest: It does not make sense, or names what is not there.
    """

    def __init__(self, wishes: Wishes, paths: Sequence[str], outputs: Outputs) -> None:
        check_is_file_name("--json", outputs.json_file)
        check_is_file_name("--csv", outputs.csv_file)
        if outputs.json_file == outputs.csv_file == STDOUT:
            raise InvalidRequest("--json, --csv: expected one of them on standard output at most, found both")
        if outputs.json_file is not None and outputs.json_file == outputs.csv_file:
            raise InvalidRequest(f"--json, --csv: expected two files, found {outputs.csv_file} for both")
        self._wishes = wishes
        self._outputs = outputs
        self._inputs = find_inputs(paths, folder_of(outputs.save))
        self._targets = targets_for(self._inputs, outputs.save, outputs.save_as)
        check_results_file("--json", outputs.json_file, self._inputs)
        check_results_file("--csv", outputs.csv_file, self._inputs)
        self._videos = sum(one.kind is Kind.VIDEO for one in self._inputs)
        if self._videos:
            opencv()

    def run(self, client: Client) -> int:
        """Ask, and report; the exit code.

        Raises:
            ConnectionFailed: The server is not there, or was lost.
            InferoxyError: The whole makes no sense, or a file cannot be written.
        """
        wishes, outputs = self._wishes, self._outputs
        model = find_model(client, wishes.model, wishes.version)
        check_takes_pictures(model)
        plans = self._plan()
        total = None if any(plan.expected is None for plan in plans) else sum(plan.expected or 0 for plan in plans)
        is_single = len(plans) == 1 and not self._videos
        is_written = outputs.json_file is not None or outputs.csv_file is not None
        says = Says.NOTHING if is_written or outputs.is_quiet else Says.TABLES if is_single else Says.LINES
        count = Count(self._what(), total, is_shown=not is_single, is_quiet=outputs.is_quiet)
        with Interruption() as interruption, ResultFiles(outputs.json_file, outputs.csv_file) as files:
            report = Report(plans, files, count, says)
            try:
                with count:
                    self._report_all(client, model, report, count, interruption)
            except KeyboardInterrupt:
                _tell_of_end(f"interrupted: {count.line(is_end=True)}", report.written)
                return EXIT_INTERRUPTED
            except ConnectionFailed:
                if count.done:
                    _tell_of_end(f"the server was lost: {count.line(is_end=True)}", report.written)
                raise
        if not is_single and not outputs.is_quiet:
            written = f"; written: {', '.join(report.written)}" if is_written and report.written else ""
            print(f"{count.line(is_end=True)}{written}", file=sys.stderr)
        return EXIT_FAILED if count.failed else 0

    def _report_all(
        self, client: Client, model: ModelInfo, report: Report, count: Count, interruption: Interruption
    ) -> None:
        is_whole = False
        try:
            for outcome in self._outcomes(client, model):
                with interruption.held():
                    self._stop_if_hopeless(client, outcome, count)
                    report.take(outcome)
            is_whole = True
        finally:
            with interruption.held():
                report.close(is_whole=is_whole)

    def _plan(self) -> list[Plan]:
        plans = []
        for at, one in enumerate(self._inputs):
            target = self._targets[at] if self._targets else None
            if one.kind is not Kind.VIDEO:
                plans.append(Plan(one, target))
            elif self._videos <= VIDEOS_LOOKED_AT or target is not None:
                plans.append(Plan(one, target, *look_at(one.path, self._wishes.cut)))
            else:
                plans.append(Plan(one, target, None))
        return plans

    def _outcomes(self, client: Client, model: ModelInfo) -> Iterator[Outcome]:
        wishes = self._wishes
        question = Question(
            wishes.model,
            wishes.version,
            encoding_for(self._targets),
            wishes.window,
            wishes.parameters,
            wishes.cut,
            sends_raw=addresses.parse(wishes.url).loopback,
        )
        if wishes.in_sequence or (wishes.in_sequence is None and model.stateless is False):
            yield from ask_in_sequences(client, question, self._inputs)
            return
        try:
            yield from ask_each(client, question, self._inputs)
        except NeedsSequence:
            if wishes.in_sequence is False:
                raise InvalidRequest(f"model {wishes.model!r} is stateful: leave out --no-sequence") from None
            yield from ask_in_sequences(client, question, self._inputs)

    def _stop_if_hopeless(self, client: Client, outcome: Outcome, count: Count) -> None:
        """Raise the error of the first outcome if all the others would only say the same."""
        error = outcome.error
        if count.done or not isinstance(error, InferoxyError):
            return
        if error.code in (Code.MODEL_NOT_FOUND, Code.UNAUTHENTICATED):
            raise error
        if error.code is Code.MODEL_UNAVAILABLE:
            raise InferoxyError(f"{outcome.input.name}: {error.message}", error.code)
        if error.code in (Code.INVALID_REQUEST, Code.UNSUPPORTED):  # its inputs are known once it has been asked
            check_takes_pictures(find_model(client, self._wishes.model, self._wishes.version))

    def _what(self) -> str:
        if self._videos == len(self._inputs):
            return "frames"
        return "pictures and frames" if self._videos else "pictures"


def _tell_of_end(line: str, written: Sequence[str]) -> None:
    print(line, file=sys.stderr)
    if written:
        print(f"complete up to there: {', '.join(written)}", file=sys.stderr)
