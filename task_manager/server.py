"""The task manager's process: links to batch manager and model manager, the launcher behind its runner, the end.

What to do is decided in reconcile.py; here it is carried out and reported back.
Invariants: one task manager a data directory; told to end, it ends every instance of the stack within settings.drain_s
and a moment. Killed, it leaves them running for the next one to adopt.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from inferoxy import logs, sockets, wire
from inferoxy import messages as m
from inferoxy.config import Settings
from inferoxy.errors import InvalidRequest
from inferoxy.lifecycle import Lifecycle
from inferoxy.messages import InstanceState as S
from task_manager.gpus import gpus_of
from task_manager.launchers.base import Launcher
from task_manager.launchers.process_launcher import ProcessLauncher
from task_manager.planner import Drain, Limits, Stop
from task_manager.reconcile import Reconciler, Start
from task_manager.requests import launch_request
from task_manager.runner import Adopted, Away, Event, Exited, Launched, LaunchFailed, Runner

COMPONENT = "task_manager"
TICK_S = 1.0
SOONEST_S = 0.01  # between two plans that nothing but time has caused
KILL_MARGIN_S = 5.0  # a launcher's own stop has had its chance by then
LAST_S = 2.0  # for what was killed to be gone, at the end
EXIT_BUG, EXIT_TAKEN = 1, 3

log = logs.get()


def run(settings: Settings) -> int:
    """Run until told to end; the exit code."""
    logs.setup(COMPONENT, settings.log_level, settings.log_format)
    lifecycle = Lifecycle()
    try:
        lock = _lock(settings.data_dir)
        if lock is None:
            log.error("another task manager runs in this data directory", data_dir=str(settings.data_dir))
            return EXIT_TAKEN
        with lock:
            return asyncio.run(_Server(settings, lifecycle).serve())
    finally:
        lifecycle.close()


def make_launcher(settings: Settings) -> Launcher:
    """The launcher that the settings name."""
    if settings.launcher == "process":
        return ProcessLauncher(settings.data_dir)
    from task_manager.launchers.docker_launcher import DockerLauncher  # the docker package is an extra

    return DockerLauncher(settings)


class _Server:
    def __init__(self, settings: Settings, lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._cores = len(os.sched_getaffinity(0))
        self._grace_s = settings.docker.stop_grace_s if settings.launcher == "docker" else settings.drain_s
        limits = Limits(settings.drain_s, self._grace_s + KILL_MARGIN_S, settings.instance_lost_s)
        self._records = Reconciler(gpus_of(settings), limits, time.time)
        self._plan_timer: asyncio.TimerHandle | None = None
        self._plan_soon: asyncio.Handle | None = None
        self._is_ready = self._is_ending = self._has_bug = False
        self._happened = asyncio.Event()

    async def serve(self) -> int:
        asyncio.get_running_loop().set_exception_handler(self._on_bug)
        context = sockets.context()
        self._control = self._dealer(context, self._settings.control, self._on_control)
        self._registry = self._dealer(context, self._settings.registry, self._on_registry)
        self._runner = Runner(make_launcher(self._settings), self._on_event)
        told, ticking = asyncio.create_task(self._lifecycle.wait()), asyncio.create_task(self._tick())
        self._work = (told, ticking)
        try:
            self._runner.start()
            await asyncio.wait(self._work, return_when=asyncio.FIRST_COMPLETED)
            if ticking.done() and not ticking.cancelled():
                self._on_bug(asyncio.get_running_loop(), {"message": "", "exception": ticking.exception()})
            if self._has_bug:
                # The next task manager adopts what runs; ending it all would make a small fault a large one.
                log.critical("ends because of a bug, and leaves the instances running")
                return EXIT_BUG
            await self._end_all()
            return 0
        finally:
            for task in self._work:
                task.cancel()
            await asyncio.gather(*self._work, return_exceptions=True)
            self._cancel_plans()
            self._runner.close()
            self._control.close()
            self._registry.close()
            context.destroy(linger=0)

    def _dealer(self, context: Any, endpoint: str, on_message: Any) -> sockets.LoopSocket:
        return sockets.LoopSocket(sockets.dealer(context, endpoint, COMPONENT.encode()), on_message)

    # What comes in

    def _on_control(self, frames: list[Any]) -> None:
        for header in _decoded(frames):
            if isinstance(header, m.Command):
                self._records.on_command(header, time.monotonic())
                self._replan()
            if not isinstance(header, m.Loads):
                continue
            is_new = header.epoch != self._records.epoch
            self._records.on_loads(header, time.monotonic())
            if is_new:
                for instance in self._records.draining():
                    self._control.send(wire.encode(m.Drain(instance=instance)))
            self._replan()

    def _on_registry(self, frames: list[Any]) -> None:
        for header in _decoded(frames):
            if isinstance(header, m.Catalog):
                self._records.on_catalog(header, time.monotonic())
            elif isinstance(header, m.Command):
                self._records.on_command(header, time.monotonic())
            self._replan()

    def _on_event(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case Adopted(running):
                self._records.on_adopted(running, now)
            case Launched(running):
                self._records.on_launched(running, now)
                if self._is_ending:
                    self._end_with(self._runner.kill)
            case LaunchFailed(instance, error):
                self._records.on_launch_failed(instance, error, now)
            case Exited(exit):
                self._records.on_exit(exit, now)
            case Away(error):
                self._records.on_away(error)
        if not self._is_ready:
            self._is_ready = True
            self._lifecycle.ready()
        self._happened.set()
        self._replan()

    async def _tick(self) -> None:
        while True:
            self._control.send(wire.encode(m.Attach()))
            self._registry.send(wire.encode(m.Subscribe(component=COMPONENT, revision=self._records.revision)))
            self._report()
            self._replan()
            await asyncio.sleep(TICK_S)

    # What goes out

    def _replan(self) -> None:
        """Plan once for all that has come in together."""
        if self._plan_soon is None and not self._is_ending:
            self._plan_soon = asyncio.get_running_loop().call_soon(self._plan)

    def _plan(self) -> None:
        self._cancel_plans()
        now = time.monotonic()
        for action in self._records.plan(now):
            match action:
                case Start(instance, launch):
                    self._runner.launch(launch_request(launch, instance, self._settings, self._cores))
                case Drain(instance, _):
                    self._control.send(wire.encode(m.Drain(instance=instance.id)))
                case Stop(instance, _):
                    self._runner.stop(instance.id, self._grace_s)
                case _:
                    self._runner.kill(action.instance.id)
        for condition in self._records.conditions():
            self._control.send(wire.encode(condition))
        wait_s = max(SOONEST_S, self._records.wake_at - now)
        if wait_s < TICK_S:
            self._plan_timer = asyncio.get_running_loop().call_later(wait_s, self._replan)

    def _cancel_plans(self) -> None:
        for handle in (self._plan_timer, self._plan_soon):
            if handle is not None:
                handle.cancel()
        self._plan_timer = self._plan_soon = None

    def _report(self) -> None:
        report = self._records.report(time.monotonic()) | {"launcher": self._settings.launcher, "pid": os.getpid()}
        self._registry.send(wire.encode(m.Report(component=COMPONENT, report=report)))

    # The end

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something raised in a callback of the loop."""
        log.error("bug", message=context["message"], exc_info=context.get("exception"))
        self._has_bug = True
        for task in self._work:
            task.cancel()

    async def _end_all(self) -> None:
        """Stop what runs, bounded by settings.drain_s; then kill it."""
        self._is_ending = True
        self._cancel_plans()
        self._runner.abandon()
        log.info("ends all instances", instances=len(self._records.instances))
        grace_s = min(self._grace_s, self._settings.drain_s)
        self._end_with(lambda instance: self._runner.stop(instance, grace_s))
        await self._until_gone(self._settings.drain_s, but=S.LAUNCHING)
        for instance in self._records.instances.values():
            if instance.state is not S.LAUNCHING:
                log.warning("kills an instance that did not stop", instance=instance.id, model=instance.model)
                self._runner.kill(instance.id)
        await self._until_gone(LAST_S)
        self._report()

    def _end_with(self, how: Callable[[str], None]) -> None:
        for instance in self._records.end_all(time.monotonic()):
            how(instance)

    async def _until_gone(self, limit_s: float, but: S | None = None) -> None:
        """Return when no instance is left, those in one state not counted, or at the limit."""
        until = time.monotonic() + limit_s
        while any(i.state is not but for i in self._records.instances.values()):
            self._happened.clear()
            try:
                await asyncio.wait_for(self._happened.wait(), until - time.monotonic())
            except TimeoutError:
                return


def _decoded(frames: list[Any]) -> list[Any]:
    try:
        return [header for header, _ in wire.decode(frames)]
    except InvalidRequest as exc:
        log.warning("a message cannot be read", error=exc.message)
        return []


def _lock(data_dir: Path) -> TextIO | None:
    """The data directory's lock file, held until it is closed; None when another process holds it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    file = (data_dir / "task_manager.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
