"""Instances as subprocesses of this machine: `python -m inferoxy.runtime`, each in a session of its own.

They outlive a task manager that was killed, and are adopted by the next one from the records of process_records.py.
Output goes to LOG_FOLDER/<instance>.log, of which the newest KEPT_LOGS are kept.
Invariant: only a process whose start has been compared with its record, or a child not yet waited for, is signalled.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from inferoxy.config import ALIASES
from inferoxy.errors import ModelUnavailable
from inferoxy.logs import get
from task_manager.launchers.base import (
    TAIL_BYTES,
    TAIL_LINES,
    Exit,
    Launcher,
    LaunchRequest,
    Running,
    environment_of,
    readable_tail,
)
from task_manager.launchers.process_records import Record, RecordFiles, find_by_environment, start_ticks

log = get()

LOG_FOLDER = "logs/instances"
RECORD_FOLDER = "run-state"
KEPT_LOGS = 50  # of instances that have ended

# An instance gets the task manager's variables, as any subprocess would, but for those that configure the proxy itself
# and may hold passwords.
_OWN_PREFIXES = ("INFEROXY_", *ALIASES)


@dataclass(slots=True)
class _Process:
    record: Record
    pidfd: int
    child: subprocess.Popen[bytes] | None  # None: adopted


class ProcessLauncher(Launcher):
    """Starts instances beside the task manager.

    Args:
        data_dir: The stack's data directory, for logs and records.
    """

    def __init__(self, data_dir: Path) -> None:
        self._logs = data_dir / LOG_FOLDER
        self._logs.mkdir(parents=True, exist_ok=True)
        self._records = RecordFiles(data_dir / RECORD_FOLDER)
        self._processes: dict[str, _Process] = {}
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)

    def launch(self, request: LaunchRequest) -> Running:
        """Start a process; see Launcher."""
        log = self._logs / f"{request.instance}.log"
        record = Record(
            instance=request.instance,
            model=request.spec.name,
            version=request.spec.version,
            digest=request.digest,
            device=request.device,
            gpu_memory_mib=request.spec.gpu_memory_mib,
            started_at=time.time(),
            log=str(log),
        )
        if not request.spec.artifact:
            message = f"model {record.model!r} is an image ({request.spec.address}): use the docker launcher"
            raise ModelUnavailable(f"{message}, or give it an artifact instead of an address")
        with self._lock:
            if self._is_abandoned:
                raise ModelUnavailable(f"model {record.model!r}: the task manager is ending")
            self._records.write(record)
            try:
                child = self._spawn(request, log)
            except OSError as exc:
                self._records.remove(record.instance)
                raise ModelUnavailable(f"model {record.model!r}: cannot start a process: {exc}") from exc
            record.pid, record.start_ticks = child.pid, start_ticks(child.pid) or 0
            self._records.write(record)
            self._watch(_Process(record, os.pidfd_open(child.pid), child))
        self._prune_logs()
        return record.running()

    def stop(self, instance: str, grace_s: float) -> None:
        """SIGTERM, and SIGKILL to the whole session after `grace_s`; see Launcher."""
        with self._lock:
            process = self._processes.get(instance)
            if process is None:
                return
            self._signal(process, signal.SIGTERM)
            pidfd = os.dup(process.pidfd)
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            if not poller.poll(max(0.0, grace_s) * 1000):
                self.kill(instance)
        finally:
            os.close(pidfd)

    def kill(self, instance: str) -> None:
        """SIGKILL to the whole session; see Launcher."""
        with self._lock:
            process = self._processes.get(instance)
            if process is not None:
                self._kill_session(process)
                self._signal(process, signal.SIGKILL)

    def adopt(self) -> list[Running]:
        """Take over the recorded processes that still run; see Launcher."""
        found: list[Running] = []
        with self._lock:
            for record in self._records.read():
                if record.instance in self._processes:
                    continue
                was_complete = bool(record.pid)
                if not was_complete:
                    record.pid = find_by_environment(record.instance) or 0
                    record.start_ticks = start_ticks(record.pid) or 0 if record.pid else 0
                pidfd = _open(record)
                if pidfd is None:
                    self._records.remove(record.instance)
                    continue
                if not was_complete:
                    try:
                        self._records.write(record)
                    except OSError as exc:  # a full disk: it is found by its environment again
                        log.warning("could not complete a record", instance=record.instance, reason=exc.strerror)
                self._watch(_Process(record, pidfd, None))
                found.append(record.running())
        return found

    def exits(self, timeout_s: float) -> list[Exit]:
        """Reap what has ended; see Launcher."""
        if self._epoll.closed:
            return []
        try:
            ready = self._epoll.poll(timeout_s)
        except ValueError:  # closed meanwhile
            return []
        descriptors = {fd for fd, _ in ready}
        with self._lock:
            ended = [process for process in self._processes.values() if process.pidfd in descriptors]
            return [self._reap(process) for process in ended]

    def log_tail(self, instance: str, lines: int = TAIL_LINES) -> list[str]:
        """The end of its log file; see Launcher."""
        path = self._logs / f"{instance}.log"
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - TAIL_BYTES))
                return readable_tail(file.read().decode(errors="replace"), lines)
        except OSError:
            return []

    def abandon(self) -> None:
        """Start nothing more; see Launcher."""
        with self._lock:
            self._is_abandoned = True

    def close(self) -> None:
        """Stop watching; see Launcher."""
        os.eventfd_write(self._wake, 1)
        with self._lock:
            for process in self._processes.values():
                os.close(process.pidfd)
                if process.child is not None:
                    process.child.returncode = process.child.poll() or 0  # it is the next task manager's to watch
            self._processes.clear()
            self._epoll.close()
            os.close(self._wake)

    def _spawn(self, request: LaunchRequest, log: Path) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if _is_inherited(name)}
        environment["CUDA_VISIBLE_DEVICES"] = request.gpu  # empty: none, so that a CPU model takes no GPU by accident
        environment |= environment_of(request, request.config)
        artifact = Path(request.config.artifact)
        log.touch(mode=0o600)
        with log.open("ab") as output:
            # -P: the model's folder, which is the working directory, must not shadow installed packages.
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "inferoxy.runtime"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=artifact if artifact.is_dir() else artifact.parent,
                env=environment,
                start_new_session=True,
            )

    def _watch(self, process: _Process) -> None:
        self._processes[process.record.instance] = process
        self._epoll.register(process.pidfd, select.EPOLLIN)

    def _reap(self, process: _Process) -> Exit:
        instance, child = process.record.instance, process.child
        self._epoll.unregister(process.pidfd)
        if child is not None:
            # Before the wait: as long as the zombie is there, its number cannot belong to anybody else.
            self._kill_session(process)
            code: int | None = child.wait()
        else:
            code = None
        os.close(process.pidfd)
        del self._processes[instance]
        self._records.remove(instance)
        return Exit(instance, code, _describe(code), self.log_tail(instance))

    def _signal(self, process: _Process, number: int) -> None:
        try:
            signal.pidfd_send_signal(process.pidfd, number)
        except ProcessLookupError:
            pass  # it has ended; `exits` tells

    def _kill_session(self, process: _Process) -> None:
        """SIGKILL to the process and what it has started; its own number is still taken, or this does nothing."""
        record = process.record
        if process.child is None and start_ticks(record.pid) != record.start_ticks:
            return
        try:
            os.killpg(record.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def _prune_logs(self) -> None:
        with self._lock:
            running = {f"{instance}.log" for instance in self._processes}
        ended = sorted((p for p in self._logs.glob("*.log") if p.name not in running), key=_modified_at)
        for path in ended[:-KEPT_LOGS]:
            path.unlink(missing_ok=True)


def _open(record: Record) -> int | None:
    """A descriptor of the recorded process, or None when that has ended."""
    if not record.pid:
        return None
    try:
        pidfd = os.pidfd_open(record.pid)
    except OSError:
        return None
    # Compared after the descriptor was opened: from then on it cannot come to mean another process.
    if start_ticks(record.pid) != record.start_ticks:
        os.close(pidfd)
        return None
    return pidfd


def _describe(code: int | None) -> str:
    if code is None:
        return "ended (its exit code went to an earlier task manager)"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _is_inherited(name: str) -> bool:
    return not name.startswith(_OWN_PREFIXES)


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
