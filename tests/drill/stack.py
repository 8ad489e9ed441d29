"""A stack to be broken: `inferoxy up` as the tests start it, and what belongs to it seen from outside."""

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from inferoxy.messages import InstanceConfig
from tests.integration.stack import Stack, processes_of

MODELS = Path(__file__).parent / "models"
DOUBLE, SUM = MODELS / "double", MODELS / "sum"
STATEFUL = {"artifact": str(SUM), "stateless": False, "max_sequences": 16, "batch_size": 4}  # of a model `sum`
_CONFIG = b"INFEROXY_INSTANCE="


def models_yaml(**models: dict[str, Any]) -> str:
    """A models.yaml. What a model leaves out: the artifact is `double`, one copy runs, and the queue is long."""
    defaults = {
        "artifact": str(DOUBLE),
        "runtime": "python",
        "batch_size": 8,
        "queue_size": 10_000,
        "instances": {"min": 1, "max": 1},
    }
    return json.dumps({name: defaults | fields for name, fields in models.items()})


class DrillStack(Stack):
    """See Stack.

    Args:
        models: See Stack.
        kept: Where its log, and what its instances printed, is kept when it has ended.
        given: See Stack.
    """

    def __init__(self, models: str, kept: Path, **given: Any) -> None:
        super().__init__(models, **given)
        self._kept = kept

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kept.write_text(self.log() + self.instance_logs())
        if kind is None:
            super().__exit__(kind, exc, traceback)
        else:
            self.close()

    def instances(self, model: str) -> dict[str, int]:
        """Pids of a model's instance processes, by instance, whether or not any component knows of them."""
        found: dict[str, int] = {}
        for pid, command in processes_of(self.data_dir).items():
            if "inferoxy.runtime" not in command:
                continue
            config = _config_of(pid)
            if config is not None and config.model == model:
                found[config.instance] = pid
        return found

    def events(self, event: str) -> list[dict[str, Any]]:
        """What was logged under this name, in order."""
        found = []
        for line in self.log().splitlines():
            if event in line and line.startswith("{"):
                said = json.loads(line)
                if said["event"] == event:
                    found.append(said)
        return found

    def load_s(self, model: str) -> list[float]:
        """How long each start of the model took, from its launch until it was ready, in order."""
        return [said["took_s"] for said in self.events("an instance is ready") if said["model"] == model]

    def instance_logs(self) -> str:
        """What all instances have printed."""
        return "".join(path.read_text(errors="replace") for path in (self.data_dir / "logs" / "instances").glob("*"))

    def signal(self, component: str, number: int) -> float:
        """Signal a component; the instant."""
        pid = self.pid_of(component)
        at = time.monotonic()
        os.kill(pid, number)
        return at


def _config_of(pid: int) -> InstanceConfig | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for entry in environment:
        if entry.startswith(_CONFIG):
            return msgspec.json.decode(entry.removeprefix(_CONFIG), type=InstanceConfig)
    return None
