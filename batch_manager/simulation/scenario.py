"""What is simulated: tasks, each a model with a stream of requests, and the one device they share.

Pure. Reading a file, and saying in which line something is wrong, is scenario_file.py's.
Invariants: a Scenario that came out of `check` has at least one task and at most MAX_REQUESTS requests (a Poisson
stream's expected number counts); every arrival pattern has exactly one form.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inferoxy.problems import Expect, Problem, found

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_REQUESTS = 1_000_000
FORMS = ("every_ms", "poisson", "bursts", "times_ms")


Count = Annotated[int, Field(ge=1, le=1_000_000), Expect("an integer of 1 to 1,000,000")]
Size = Annotated[int, Field(ge=0, le=2**40), Expect("an integer of at least 0")]
Time = Annotated[float, Field(ge=0.001, le=1e9), Expect("a number of 0.001 to 1e9")]
Delay = Annotated[float, Field(ge=0, le=1e9), Expect("a number of 0 to 1e9")]
Share = Annotated[float, Field(ge=0, lt=1), Expect("a number of at least 0 and below 1")]
Flag = Annotated[bool, Expect("true or false")]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Poisson(_Fields):
    """Requests that know nothing of one another."""

    rate_per_s: Time
    duration_s: Time


class Bursts(_Fields):
    """`count` times `size` requests at one instant."""

    every_ms: Time
    size: Count
    count: Count


class Arrivals(_Fields):
    """When a task's requests come, from `offset_ms` on; `jitter_ms` is the most by which one may be late."""

    every_ms: Time | None = None
    count: Count | None = None
    poisson: Annotated[Poisson | None, Expect("a mapping such as {rate_per_s: 50, duration_s: 10}")] = None
    bursts: Annotated[Bursts | None, Expect("a mapping such as {every_ms: 500, size: 8, count: 10}")] = None
    times_ms: Annotated[list[Delay] | None, Expect("a list of numbers of at least 0")] = None
    offset_ms: Delay = 0.0
    jitter_ms: Delay = 0.0

    def expected(self) -> float:
        """How many requests there will be; for a Poisson stream on average."""
        if self.poisson:
            return self.poisson.rate_per_s * self.poisson.duration_s
        if self.bursts:
            return self.bursts.size * self.bursts.count
        return len(self.times_ms) if self.times_ms is not None else self.count or 0


class Task(_Fields):
    """One model and its stream of requests. Keys that models.yaml has too mean the same here."""

    service_ms: Time  # a batch of one
    per_item_ms: Delay = 0.0  # for each further item of a batch
    jitter: Share = 0.0  # service times vary by this share, evenly to both sides
    arrivals: Annotated[Arrivals, Expect("a mapping such as {every_ms: 10, count: 20}")]
    instances: Annotated[int, Field(ge=1, le=1000), Expect("an integer of 1 to 1000")] = 1
    batch_size: Count = 1
    max_queue_delay_ms: Delay = 0.0
    priority: Size = 100
    latency_budget_ms: Delay = 0.0
    protect: Annotated[Literal["none", "budget", "strict"], Expect("none, budget or strict")] = "budget"
    target_fps: Delay = 0.0
    slots: Size = 1
    timeout_ms: Time = 30_000.0
    queue_size: Count = 256
    queue_mib: Count = 512  # simulated requests have no bytes: accepted so that a model's keys can be copied
    drop_policy: Annotated[
        Literal["reject", "drop_oldest", "drop_newest"], Expect("reject, drop_oldest or drop_newest")
    ] = "reject"


class Scenario(_Fields):
    """The whole. `warm`: instances have said how long a batch takes before the first request comes.

    `hop_ms` is what a message takes from client to batch manager, from there to an instance, and back: two of them pass
    between runs on one worker, four with every request.
    """

    workers: Annotated[int, Field(ge=1, le=1000), Expect("an integer of 1 to 1000")] = 1
    hop_ms: Delay = 0.0
    seed: Size = 0
    warm: Flag = True
    tasks: Annotated[dict[str, Task], Expect("a mapping of names to tasks")]


def check(content: object) -> tuple[Scenario | None, list[Problem]]:
    """Make a scenario of a file's plain values.

    Returns:
        The scenario and no problem, or None and every problem.
    """
    if not isinstance(content, Mapping):
        return None, [Problem((), f"expected a mapping with tasks, found {found(content)}")]
    try:
        scenario = Scenario.model_validate(dict(content))
    except ValidationError as exc:
        return None, list(dict.fromkeys(_problem(error) for error in exc.errors()))
    problems = [problem for name, task in scenario.tasks.items() for problem in _task_problems(name, task)]
    if not scenario.tasks:
        problems.append(Problem(("tasks",), "expected at least one task, found none"))
    requests = sum(task.arrivals.expected() for task in scenario.tasks.values())
    if requests > MAX_REQUESTS:
        problems.append(
            Problem(("tasks",), f"expected at most {MAX_REQUESTS:,} requests in all, found {requests:,.0f}")
        )
    return (None, problems) if problems else (scenario, [])


def _task_problems(name: str, task: Task) -> list[Problem]:
    problems = []
    if not NAME.fullmatch(name):
        rule = "letters, digits, dots, dashes and underscores (at most 128, the first a letter or digit)"
        problems.append(Problem(("tasks", name), f"expected a name of {rule}, found {found(name)}"))
    path, arrivals = ("tasks", name, "arrivals"), task.arrivals
    forms = [form for form in FORMS if getattr(arrivals, form) is not None]
    if len(forms) != 1:
        text = f"expected one of {', '.join(FORMS)}, found {' and '.join(forms) or 'none'}"
        problems.append(Problem(path, text))
    elif forms == ["every_ms"] and arrivals.count is None:
        problems.append(Problem((*path, "count"), "expected with every_ms (how many requests), found nothing"))
    elif forms != ["every_ms"] and arrivals.count is not None:
        problems.append(Problem((*path, "count"), f"expected only with every_ms, found it with {forms[0]}"))
    elif arrivals.times_ms == []:
        problems.append(Problem((*path, "times_ms"), "expected at least one number, found an empty list"))
    return problems


def _problem(error: Mapping[str, Any]) -> Problem:
    """One of pydantic's findings in our words."""
    path: list[str] = []
    kind: type[BaseModel] = Scenario
    rule = ""
    steps = list(error["loc"])
    while steps:
        name = str(steps.pop(0))
        path.append(name)
        field = kind.model_fields.get(name)
        if field is None:
            return Problem(tuple(path), _unknown(name, kind.model_fields))
        rule = next(item for item in _metadata(field) if isinstance(item, Expect))
        if name == "tasks" and steps:
            path.append(str(steps.pop(0)))
            kind, rule = Task, "a mapping with service_ms and arrivals"
        elif name in _INNER:
            kind = _INNER[name]
        else:
            break
    shown = "nothing" if error["type"] == "missing" else found(error["input"])
    return Problem(tuple(path), f"expected {rule}, found {shown}")


_INNER: dict[str, type[BaseModel]] = {"arrivals": Arrivals, "poisson": Poisson, "bursts": Bursts}


def _metadata(field: Any) -> list[Any]:
    """A field's rule; that of `X | None` stands with X."""
    inner = [item for part in getattr(field.annotation, "__args__", ()) for item in getattr(part, "__metadata__", ())]
    return [*field.metadata, *inner]


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5)
    return f"unknown key, did you mean {close[0]}?" if close else f"unknown key, expected one of {', '.join(known)}"
