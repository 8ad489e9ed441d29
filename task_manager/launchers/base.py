"""What every launcher does: start, find again, watch and end the instances of one stack.

All calls block and may come from several threads at once; runner.py keeps them off the loop. An instance is named by
its id throughout; `Running.where` is for people.
Invariant: an instance that `launch` or `adopt` has returned is reported by `exits` exactly once, when it has ended, and
nothing of it is left behind then but its log.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from inferoxy.messages import InstanceConfig, ModelSpec

TAIL_LINES = 10  # log lines that an error message carries
TAIL_LINE_LENGTH = 400  # characters of each
TAIL_BYTES = 65_536  # read from the end of a log for them

# What numeric libraries take their number of threads from.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One instance to be started. `config` has paths and endpoints as this host sees them; `gpu` is "" for the CPU."""

    config: InstanceConfig
    spec: ModelSpec
    digest: str
    device: str = "cpu"
    gpu: str = ""

    @property
    def instance(self) -> str:
        """The id of the instance."""
        return self.config.instance


@dataclass(frozen=True, slots=True)
class Running:
    """An instance that has been started. `started_at` is wall-clock time; `log` a file, or empty."""

    instance: str
    model: str
    version: str
    digest: str
    device: str
    gpu_memory_mib: int
    where: str
    started_at: float
    log: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """An instance has ended. `code` is None where nobody can know it; negative for a signal."""

    instance: str
    code: int | None
    reason: str
    log_tail: Sequence[str] = ()


class Launcher(ABC):
    """Starts and ends instances of one stack."""

    @abstractmethod
    def launch(self, request: LaunchRequest) -> Running:
        """Start an instance; returns when it runs, which is before its model is loaded.

        Raises:
            ModelUnavailable: It cannot be started; the message says what is missing.
        """

    @abstractmethod
    def stop(self, instance: str, grace_s: float) -> None:
        """Ask it to end, wait up to `grace_s`, then kill it. Unknown and ended ones are ignored."""

    @abstractmethod
    def kill(self, instance: str) -> None:
        """End it now. Unknown and ended ones are ignored."""

    @abstractmethod
    def adopt(self) -> list[Running]:
        """Take over the stack's instances that an earlier task manager started, and remove the remains of ended ones.

        Raises:
            ModelUnavailable: Nobody can say at present which there are.
        """

    @abstractmethod
    def exits(self, timeout_s: float) -> list[Exit]:
        """The instances that have ended since the last call; waits up to `timeout_s` for one.

        Raises:
            ModelUnavailable: Nobody can say at present.
        """

    @abstractmethod
    def log_tail(self, instance: str, lines: int = TAIL_LINES) -> list[str]:
        """The last lines that a running instance has written; empty for an unknown one."""

    @abstractmethod
    def abandon(self) -> None:
        """The stack ends: nothing is started any more, and a launch that still prepares (pulls an image) gives up."""

    @abstractmethod
    def close(self) -> None:
        """Give up waiting: pending and later calls return soon. Instances go on."""


def launched(request: LaunchRequest, where: str, started_at: float, log: str = "") -> Running:
    """What `launch` returns for a request."""
    return Running(
        instance=request.instance,
        model=request.spec.name,
        version=request.spec.version,
        digest=request.digest,
        device=request.device,
        gpu_memory_mib=request.spec.gpu_memory_mib,
        where=where,
        started_at=started_at,
        log=log,
    )


def environment_of(request: LaunchRequest, config: InstanceConfig) -> dict[str, str]:
    """The variables an instance gets on top of the ones around it; the model's own come before the defaults."""
    threads = {name: str(config.threads) for name in THREAD_VARIABLES} if config.threads > 0 else {}
    return threads | request.spec.environment | {"INFEROXY_INSTANCE": msgspec.json.encode(config).decode()}


def readable_tail(text: str, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log for an error message: structured events as plain text, no empty or endless lines."""
    shown: list[str] = []
    for line in text.splitlines():
        shown += [part.rstrip() for part in _plain(line).splitlines() if part.strip()]
    return [line if len(line) <= TAIL_LINE_LENGTH else line[: TAIL_LINE_LENGTH - 1] + "…" for line in shown[-lines:]]


def _plain(line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line
    if not isinstance(event, Mapping) or "event" not in event:
        return line
    hidden = ("event", "level", "timestamp", "component", "instance", "model", "exception")
    extra = " ".join(f"{key}={value}" for key, value in event.items() if key not in hidden)
    return f"{event['event']} {extra}".strip() + f"\n{event.get('exception', '')}"
