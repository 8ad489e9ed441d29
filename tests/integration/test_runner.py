"""Blocking launcher calls in threads, their outcomes as events in the loop."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from inferoxy.errors import ModelUnavailable
from inferoxy.messages import InstanceConfig
from task_manager.launchers.base import Exit, Launcher, LaunchRequest, Running
from task_manager.runner import Adopted, Away, Event, Exited, Launched, LaunchFailed, Runner
from tests.unit.running import spec

TIMEOUT_S = 10.0


class Script(Launcher):
    """A launcher without instances: each call does what the test has put there."""

    def __init__(self, *adopting: list[Running] | Exception) -> None:
        self.adopting = list(adopting)
        self.launching: Callable[[], Running]
        self.ended: list[Exit] = []
        self.faults: list[Exception] = []
        self.called: list[str] = []
        self.threads: set[int] = set()
        self._closed = threading.Event()

    def adopt(self) -> list[Running]:
        found = self.adopting.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def launch(self, request: LaunchRequest) -> Running:
        self.threads.add(threading.get_ident())
        return self.launching()

    def stop(self, instance: str, grace_s: float) -> None:
        self.called.append(f"stop {instance} {grace_s}")
        raise ModelUnavailable("the engine does not answer")

    def kill(self, instance: str) -> None:
        self.called.append(f"kill {instance}")

    def exits(self, timeout_s: float) -> list[Exit]:
        self._closed.wait(0.01)
        if self.faults:
            raise self.faults.pop(0)
        ended, self.ended = self.ended, []
        return ended

    def log_tail(self, instance: str, lines: int = 10) -> Sequence[str]:  # type: ignore[override]
        return []

    def abandon(self) -> None:
        self.called.append("abandon")

    def close(self) -> None:
        self._closed.set()


RUNNING = Running("one", "scale", "1", "d", "cpu", 0, "pid 1", 0.0)
REQUEST = LaunchRequest(InstanceConfig(instance="one", model="scale", model_version="1", backend=""), spec(), "d")


def events_of(launcher: Script, work: Callable[[Runner], None], count: int) -> list[Event]:
    """What is told while `work` is done, up to so many events."""

    async def main() -> list[Event]:
        told: asyncio.Queue[Event] = asyncio.Queue()
        runner = Runner(launcher, told.put_nowait)
        runner.start()
        work(runner)
        try:
            return [await asyncio.wait_for(told.get(), TIMEOUT_S) for _ in range(count)]
        finally:
            runner.close()

    return asyncio.run(main())


def test_what_runs_is_adopted_first_and_its_end_told() -> None:
    launcher = Script([RUNNING])
    ended = Exit("one", 0, "ended with exit code 0")
    launcher.ended = [ended]
    assert events_of(launcher, lambda runner: None, 2) == [Adopted([RUNNING]), Exited(ended)]


def test_a_launcher_that_cannot_say_what_runs_is_asked_again() -> None:
    launcher = Script(ModelUnavailable("no engine"), [])
    assert events_of(launcher, lambda runner: None, 3) == [Away("no engine"), Adopted([]), Away("")]


def test_an_engine_that_goes_away_later_is_told_and_adopts_nothing_twice() -> None:
    launcher = Script([])
    launcher.faults = [ModelUnavailable("no engine")]
    assert events_of(launcher, lambda runner: None, 3) == [Adopted([]), Away("no engine"), Away("")]


def test_a_launch_runs_in_another_thread_and_its_outcome_is_told() -> None:
    launcher = Script([])
    launcher.launching = lambda: RUNNING
    assert Launched(RUNNING) in events_of(launcher, lambda runner: runner.launch(REQUEST), 2)
    assert threading.get_ident() not in launcher.threads


def test_a_failed_launch_is_told_whatever_was_raised() -> None:
    for error, expected in ((ModelUnavailable("no image"), "no image"), (KeyError("x"), "KeyError: 'x'")):
        launcher = Script([])

        def fail(error: Exception = error) -> Running:
            raise error

        launcher.launching = fail
        assert LaunchFailed("one", expected) in events_of(launcher, lambda runner: runner.launch(REQUEST), 2)


def test_stop_and_kill_reach_the_launcher_and_their_failure_ends_nothing() -> None:
    launcher = Script([])

    def work(runner: Runner) -> None:
        runner.stop("one", 3.0)
        runner.kill("two")
        runner.abandon()

    events_of(launcher, work, 1)
    assert sorted(launcher.called) == ["abandon", "kill two", "stop one 3.0"]
