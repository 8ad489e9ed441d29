"""Run all components of a stack as processes of their own: start, watch, start again, drain in order, sweep up.

When to start again is restarts.py, what is checked before is preflight.py. A component learns of its supervisor's
death by the end of file on the pipe it got from it (lifecycle.py).
Invariants: a component's end is noticed at once and logged; components are told to end in DRAIN_ORDER, the next only
when the ones before have ended or their time was over; when `run` returns, no process that it led to is left.
"""

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from inferoxy import logs, orphans, sockets
from inferoxy.config import ALIASES, Settings
from inferoxy.lifecycle import SUPERVISOR_FD, Lifecycle
from inferoxy.messages import Report
from inferoxy.preflight import Refused, locked, prepare_run_dir, sweep, with_free_ports
from inferoxy.restarts import TRANSITIONS, Restarts, State
from inferoxy.wire import encode

# name -> the command line that runs it
COMMANDS: dict[str, tuple[str, ...]] = {
    "model_manager": ("model-manager",),
    "batch_manager": ("batch-manager",),
    "task_manager": ("task-manager",),
    "bridge_rest": ("bridge", "rest"),
    "bridge_grpc": ("bridge", "grpc"),
    "bridge_zmq": ("bridge", "zmq"),
    "bridge_legacy": ("bridge", "legacy"),
}
# The setting without which a bridge is not started.
ADDRESSES = {"bridge_rest": "rest", "bridge_grpc": "grpc", "bridge_zmq": "zmq", "bridge_legacy": "legacy_requests"}
DRAIN_ORDER = (tuple(ADDRESSES), ("task_manager",), ("batch_manager",), ("model_manager",))

ANY_HOST = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "[::]": "[::1]"}

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_REFUSED = 3
EXIT_KILLED = 130
_FATAL_BEFORE_READY = (EXIT_BAD_INPUT, EXIT_REFUSED)  # starting again would end the same way

REPORT_PERIOD_S = 1.0
QUICK_END_S = 4.0  # all that Ctrl-C leaves for the components to end
QUICK_STEP_S = 2.0  # and the most that one step of DRAIN_ORDER may take of it
STEP_RESERVE_S = 0.3  # kept for each later step
GRACE_S = 5.0  # beyond drain_s, before a component is killed
KILLED_WITHIN_S = 2.0

_log = logs.get()


def run(settings: Settings, ready_file: Path | None = None) -> int:
    """Run a stack until told to end.

    Prints one line, `ready: rest http://… grpc … zmq … admin …`, when every component does its work.

    Args:
        settings: Of the stack; a port 0 becomes a free port.
        ready_file: Gets the same line, for callers that wait for it.

    Returns:
        The exit code: 0 ended as told, 1 a component could not be started, 2 a component refused its settings,
        3 a port or the data directory is taken, 130 killed by a second Ctrl-C.
    """
    logs.setup("supervisor", settings.log_level, settings.log_format)
    try:
        with locked(settings.data_dir):
            settings = with_free_ports(settings)
            prepare_run_dir(settings)
            try:
                return _Supervisor(settings, ready_file).run()
            finally:
                sweep(settings)
    except Refused as exc:
        print(f"error: {exc.message}", file=sys.stderr)
        return EXIT_REFUSED


class _Component:
    """One supervised process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.ENDED
        self.restarts = Restarts()
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None
        self.pidfd = -1
        self.started_at = 0.0
        self.due_at = float("inf")  # when to start it again
        self.last_end = ""

    def move(self, to: State) -> None:
        if to not in TRANSITIONS[self.state]:
            raise AssertionError(f"{self.name}: {self.state.value} -> {to.value}")
        self.state = to

    def report(self, now: float) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": self.state.value,
            "pid": self.process.pid if self.process else 0,
            "uptime_s": round(now - self.started_at, 1) if self.process else 0.0,
            "restarts": self.restarts.count,
            "last_end": self.last_end,
        }


class _Supervisor:
    """The loop of `run`."""

    def __init__(self, settings: Settings, ready_file: Path | None) -> None:
        self._settings = settings
        self._ready_file = ready_file
        self._signals: list[int] = []
        self._lifecycle = Lifecycle()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        orphans.adopt()
        self._config = _write_config(settings)
        off = {name for name, setting in ADDRESSES.items() if not getattr(settings, setting)}
        self._components = {name: _Component(name) for name in COMMANDS if name not in off}
        self._selector = selectors.DefaultSelector()
        self._context = sockets.context()
        self._registry = sockets.dealer(self._context, settings.registry, b"supervisor")
        self._report_at = 0.0
        self._started = time.monotonic()
        self._announced = False
        self._failure = 0

    def run(self) -> int:
        self._selector.register(self._lifecycle.fileno(), selectors.EVENT_READ)
        try:
            for component in self._components.values():
                self._start(component)
            while not self._lifecycle.stopping and not self._failure:
                self._turn()
            self._selector.unregister(self._lifecycle.fileno())
            return self._drain() or self._failure
        finally:
            self._kill(list(self._components.values()))
            orphans.kill_all(time.monotonic() + KILLED_WITHIN_S)
            self._selector.close()
            self._context.destroy(linger=0)
            self._lifecycle.close()

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._report_at:
            self._report_at = now + REPORT_PERIOD_S
            self._tell_registry(now)
            orphans.reap({c.process.pid for c in self._components.values() if c.process})
        for component in self._components.values():
            if now >= component.due_at:
                self._start(component)
        due_at = min(self._report_at, *(component.due_at for component in self._components.values()))
        self._wait(due_at)
        now = time.monotonic()
        for component in self._components.values():
            if component.process and component.process.poll() is not None:
                self._ended(component, now)

    def _start(self, component: _Component) -> None:
        ours, theirs = socket.socketpair()
        env = {k: v for k, v in os.environ.items() if not k.startswith("INFEROXY_") and k not in ALIASES}
        env[SUPERVISOR_FD] = str(theirs.fileno())
        command = [sys.executable, "-m", "inferoxy", *COMMANDS[component.name], "--config", str(self._config)]
        with theirs:
            process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        ours.setblocking(False)
        component.process, component.channel = process, ours
        component.pidfd = os.pidfd_open(process.pid)
        component.started_at = time.monotonic()
        component.due_at = float("inf")
        component.move(State.STARTING)
        component.restarts.started(component.started_at)
        self._selector.register(ours, selectors.EVENT_READ, component)
        self._selector.register(component.pidfd, selectors.EVENT_READ)
        _log.debug("process started", process=component.name, pid=process.pid)

    def _wait(self, until: float) -> None:
        """Sleep until something happens: a component is ready or ends, a signal comes, or the time is over."""
        for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
            component = key.data
            if not isinstance(component, _Component) or component.channel is None:
                continue
            try:
                said = component.channel.recv(64)
            except OSError:
                said = b""
            if not said:
                self._selector.unregister(component.channel)
                component.channel.close()
                component.channel = None
            elif component.state is State.STARTING:
                component.move(State.READY)
                component.restarts.ready()
                took_s = round(time.monotonic() - component.started_at, 3)
                _log.info("process ready", process=component.name, pid=_pid(component), took_s=took_s)
                self._report_at = 0.0
                self._announce()

    def _announce(self) -> None:
        if self._announced or any(not c.restarts.was_ready for c in self._components.values()):
            return
        self._announced = True
        line = ready_line(self._settings)
        print(line, flush=True)
        if self._ready_file:
            temporary = self._ready_file.with_name(f".{self._ready_file.name}.{os.getpid()}")
            temporary.write_text(f"{line}\n")
            temporary.replace(self._ready_file)
        self._lifecycle.ready()
        _log.info("stack ready", took_s=round(time.monotonic() - self._started, 3))

    def _ended(self, component: _Component, now: float) -> None:
        """A component has ended unasked."""
        code = self._forget(component)
        self._report_at = 0.0
        if not component.restarts.was_ready and code in _FATAL_BEFORE_READY:
            component.move(State.ENDED)
            self._failure = code
            _log.error("process cannot start", process=component.name, end=component.last_end)
            return
        wait_s = component.restarts.ended(now)
        if component.restarts.hopeless:
            component.move(State.ENDED)
            self._failure = EXIT_FAILED
            _log.error("process given up", process=component.name, end=component.last_end)
            return
        component.move(State.WAITING)
        component.due_at = now + wait_s
        _log.warning("process ended", process=component.name, end=component.last_end, restart_in_s=wait_s)

    def _forget(self, component: _Component) -> int:
        """Give back what belonged to a process that has ended; its exit code (negative: the signal)."""
        if component.process is None:
            return 0
        code = component.process.wait()
        component.last_end = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if component.channel:
            self._selector.unregister(component.channel)
            component.channel.close()
        self._selector.unregister(component.pidfd)
        os.close(component.pidfd)
        component.process, component.channel, component.pidfd = None, None, -1
        return code

    def _drain(self) -> int:
        """Tell every component to end, in order, and wait; kill what does not end in time, or on a second signal."""
        quick = signal.SIGINT in self._signals[:1]
        end_at = time.monotonic() + QUICK_END_S
        _log.info("draining", signal=signal.Signals(self._signals[0]).name if self._signals else "")
        for at, names in enumerate(DRAIN_ORDER):
            step = [self._components[name] for name in names if name in self._components]
            for component in step:
                component.due_at = float("inf")
                if component.process:
                    component.move(State.STOPPING)
                    component.process.terminate()
            now = time.monotonic()
            later = STEP_RESERVE_S * (len(DRAIN_ORDER) - 1 - at)
            until = min(now + QUICK_STEP_S, end_at - later) if quick else now + self._settings.drain_s + GRACE_S
            if not self._wait_for(step, until):
                return EXIT_KILLED
        _log.info("ended")
        return 0

    def _wait_for(self, components: Sequence[_Component], until: float) -> bool:
        """Wait until these have ended, killing them when the time is over. False on a second signal."""
        while running := [component for component in components if component.process]:
            if len(self._signals) > 1:
                return False
            if time.monotonic() >= until:
                _log.warning("killed, it did not end in time", processes=[component.name for component in running])
                self._kill(running)
                break
            self._wait(min(until, time.monotonic() + 0.1))
            for component in running:
                if component.process and component.process.poll() is not None:
                    self._forget(component)
                    component.move(State.ENDED)
        return True

    def _kill(self, components: Sequence[_Component]) -> None:
        for component in components:
            if component.process:
                component.process.kill()
        for component in components:
            if component.process:
                self._forget(component)
                component.move(State.ENDED)

    def _tell_registry(self, now: float) -> None:
        processes = [component.report(now) for component in self._components.values()]
        report = {"pid": os.getpid(), "uptime_s": round(now - self._started, 1), "processes": processes}
        sockets.send(self._registry, encode(Report(component="supervisor", report=report)))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)


def ready_line(settings: Settings) -> str:
    """Where a stack can be reached from this machine, as one line."""
    scheme, _, zmq_address = settings.zmq.rpartition("//")
    parts = [
        f"rest http://{_reachable(settings.rest)}" if settings.rest else "",
        f"grpc {_reachable(settings.grpc)}" if settings.grpc else "",
        f"zmq {scheme}//{_reachable(zmq_address) if scheme == 'tcp:' else zmq_address}" if settings.zmq else "",
        f"admin http://{_reachable(settings.admin)}" if settings.admin else "",
    ]
    return " ".join(["ready:", *filter(None, parts)])


def _reachable(address: str) -> str:
    """HOST:PORT with a host that can be connected to, where it stands for all addresses."""
    host, _, port = address.rpartition(":")
    return f"{ANY_HOST.get(host, host)}:{port}"


def _pid(component: _Component) -> int:
    return component.process.pid if component.process else 0


def _write_config(settings: Settings) -> Path:
    """The settings that hold, for the components; they carry secrets, so only this user may read them."""
    path = settings.run_dir / "config.yaml"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.safe_dump(settings.model_dump(mode="json"), file)
    return path
