"""The record of one instance and the states it may go through.

Pure. What an instance should do next is planner.py's business.
Invariant: a state changes only through `Instance.move`, along ALLOWED; EXITED and FAILED are final.
"""

from dataclasses import dataclass

from inferoxy.errors import InternalError
from inferoxy.messages import InstanceState as S

ModelKey = tuple[str, str]

ALLOWED: dict[S, frozenset[S]] = {
    S.LAUNCHING: frozenset({S.LOADING, S.FAILED, S.EXITED}),
    S.LOADING: frozenset({S.READY, S.STOPPING, S.FAILED, S.EXITED}),
    S.READY: frozenset({S.DRAINING, S.STOPPING, S.FAILED, S.EXITED}),
    S.DRAINING: frozenset({S.STOPPING, S.FAILED, S.EXITED}),
    S.STOPPING: frozenset({S.FAILED, S.EXITED}),
    S.EXITED: frozenset(),
    S.FAILED: frozenset(),
}
ACTIVE = frozenset({S.LAUNCHING, S.LOADING, S.READY})  # counts towards what is wanted
STARTING = frozenset({S.LAUNCHING, S.LOADING})
LEAVING = frozenset({S.DRAINING, S.STOPPING})  # still holds its device
ENDED = frozenset({S.EXITED, S.FAILED})


@dataclass(slots=True)
class Instance:
    """One running copy of a model, as far as the task manager knows.

    `since` and all other instants are monotonic seconds; `started_at` is wall-clock time, because it outlives a restart
    of the task manager. `seen_at` is when the batch manager last listed it as connected. `fault` says why it is being
    killed: its end will count as a failure.
    """

    id: str
    model: str
    version: str
    digest: str
    since: float
    device: str = "cpu"
    gpu_memory_mib: int = 0
    state: S = S.LAUNCHING
    launched_at: float = 0.0
    ready_at: float = 0.0
    seen_at: float = 0.0
    idle_s: float = 0.0
    in_flight: int = 0
    sequences: int = 0
    where: str = ""
    log: str = ""
    started_at: float = 0.0
    is_adopted: bool = False
    fault: str = ""

    @property
    def key(self) -> ModelKey:
        """Which model version it runs."""
        return (self.model, self.version)

    def move(self, to: S, now: float) -> None:
        """Enter another state.

        Raises:
            InternalError: The transition is not in ALLOWED.
        """
        if to not in ALLOWED[self.state]:
            raise InternalError(f"instance {self.id}: cannot go from {self.state} to {to}")
        self.state = to
        self.since = now
