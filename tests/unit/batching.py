"""A batch manager in a test: what it was told, what it said, and the rules that must hold all the time."""

from dataclasses import dataclass, field

from batch_manager.core import BatchManager
from batch_manager.sends import Link
from batch_manager.telemetry import Telemetry
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.errors import Code

BRIDGE = b"rest-1"
PLACES = wire.encode_payload(m.Places([None], m.Slot("s", 0, 1)))  # passed on unread


@dataclass
class Sent:
    """A batch as an instance received it."""

    instance: bytes
    batch: m.Batch
    ids: list[int]
    is_finished: bool = False


@dataclass
class Harness:
    """Drives one BatchManager with a clock of its own.

    Request i carries the frame b"i" and the inline bytes b"i", which must come back.
    """

    specs: list[m.ModelSpec]
    now: float = 0.0
    cpu_slots: int = 0
    telemetry: Telemetry | None = None
    answers: dict[int, list[m.Response]] = field(default_factory=dict)
    batches: dict[bytes, list[Sent]] = field(default_factory=dict)
    others: list[tuple[Link, bytes, m.Header]] = field(default_factory=list)
    limits: dict[bytes, int] = field(default_factory=dict)
    requests: dict[int, m.Request] = field(default_factory=dict)
    deadlines: dict[int, float] = field(default_factory=dict)
    fates: dict[int, list[int]] = field(default_factory=dict)  # of slots, with the final answer and after
    suspects: set[int] = field(default_factory=set)  # requests that a lost instance may still look at

    def __post_init__(self) -> None:
        self.core = BatchManager(epoch=7, now=0.0, cpu_slots=self.cpu_slots, telemetry=self.telemetry)
        self.catalog(self.specs)

    def catalog(self, specs: list[m.ModelSpec]) -> None:
        self.tell(b"", m.Catalog(revision=str(id(specs)), models=specs))

    def tell(self, peer: bytes, header: m.Header, frames: tuple[bytes, ...] = ()) -> None:
        self.core.handle(peer, header, frames, self.now)
        self.collect()

    def advance(self, seconds: float) -> None:
        """Let time pass, waking whenever the core asked for it; instances and bridges show that they live."""
        end = self.now + seconds
        while (at := self.core.next_wakeup()) <= end:
            self.now = max(self.now, at)
            for peer in list(self.core.instances):
                self.core.handle(peer, m.Heartbeat(), (), self.now)
            self.core.wake(self.now)
            self.collect()
        self.now = end

    def request(self, number: int, model: str = "m", timeout_s: float = 1000.0, **fields: object) -> None:
        header = self.make(number, model, timeout_s, **fields)
        self.tell(BRIDGE, header, (str(number).encode(),))

    def requests_at_once(self, numbers: list[int], model: str = "m", timeout_s: float = 1000.0) -> None:
        """Several in one envelope, as bridges send them."""
        items = [self.make(number, model, timeout_s) for number in numbers]
        self.tell(BRIDGE, m.Requests(items=items), tuple(str(number).encode() for number in numbers))

    def make(self, number: int, model: str, timeout_s: float, **fields: object) -> m.Request:
        header = m.Request(
            id=number, model=model, timeout_us=int(timeout_s * 1e6), size=1, frames=1, data=str(number).encode(),
            request_id=f"r{number}", places=PLACES, **fields,  # type: ignore[arg-type]
        )  # fmt: skip
        self.requests[number] = header
        self.deadlines[number] = self.now + timeout_s
        return header

    def join(self, name: str, model: str = "m", **fields: object) -> None:
        hello = m.Hello(instance=name, model=model, model_version="1", **fields)  # type: ignore[arg-type]
        self.limits[name.encode()] = hello.batch_size
        self.tell(name.encode(), hello)

    def finish(self, name: str, *, code: str = "", final: bool = True, done: bool = True) -> list[int]:
        """The instance answers its oldest batch; returns the ids of its requests."""
        sent = self.batches[name.encode()][0]
        sent.is_finished = final
        if done:
            self.batches[name.encode()].pop(0)
        frames = tuple(str(i).encode() for i in sent.ids)
        items = [
            m.ResultItem(ticket, 1, code=code, final=final, data=frame, places=PLACES)
            for ticket, frame in enumerate(frames)
        ]
        result = m.Result(batch=sent.batch.id, items=items, done=done, compute_us=1000)
        self.tell(name.encode(), result, frames)
        return sent.ids

    def lose(self, name: str) -> None:
        for sent in self.batches.pop(name.encode(), []):
            self.suspects.update(sent.ids)
        self.core.unreachable(Link.BACKEND, name.encode(), self.now)
        self.collect()

    def collect(self) -> None:
        told: set[bytes] = set()
        for send in self.core.take_sends():
            is_first = send.peer not in told
            told.add(send.peer)
            if isinstance(send.header, m.Responses):
                assert is_first, "answers for one bridge leave together, before anything else for it"
                for response, own in wire.each(send.header, send.frames):
                    self.check_response(response, list(own))
            elif isinstance(send.header, m.Released):
                for number in send.header.ids:
                    self.check_fate(number, send.header.fate)
            elif isinstance(send.header, m.Batch):
                self.check_batch(send.peer, send.header, list(send.frames))
            else:
                assert not isinstance(send.header, m.Response), "bridges are answered with Responses"
                self.others.append((send.link, send.peer, send.header))

    def check_response(self, response: m.Response, frames: list[bytes]) -> None:
        answers = self.answers.setdefault(response.id, [])
        assert not (answers and answers[-1].final), f"request {response.id} was answered after its end"
        if frames or response.data or response.places != m.NO_PAYLOAD:
            mine = str(response.id).encode()
            assert (frames, response.data) == ([mine], mine), "an answer went to another request"
            assert response.places == PLACES
        answers.append(response)
        if response.final and self.requests[response.id].flags:
            self.check_fate(response.id, response.fate)

    def check_fate(self, number: int, fate: int) -> None:
        fates = self.fates.setdefault(number, [])
        assert fates in ([], [m.SlotFate.HELD]), f"the slots of request {number} had their fate already: {fates}"
        fates.append(fate)
        if fate == m.SlotFate.FREE:
            assert number not in self.suspects, f"slots of request {number} were freed that a lost instance may touch"
            holders = [s for sent in self.batches.values() for s in sent if number in s.ids and not s.is_finished]
            assert not holders, f"slots of request {number} were freed while an instance held them"

    def check_batch(self, peer: bytes, batch: m.Batch, frames: list[bytes]) -> None:
        ids = [int(f) for f in frames]
        state = self.core.instances[peer].state
        limit = min(self.limits[peer], state.spec.batch_size)
        assert len(batch.items) == len(ids) > 0
        told = [(item.frames, item.data, item.places, item.request_id) for item in batch.items]
        assert told == [(1, str(number).encode(), PLACES, f"r{number}") for number in ids], (
            "bytes went to another request"
        )
        for number in ids:
            assert self.now < self.deadlines[number] + 1e-9, f"request {number} was sent after its deadline"
            assert self.code(number) is None, f"request {number} was sent after its answer"
        rows = sum(self.requests[i].rows for i in ids) if state.queue.stacked else len(ids)
        assert rows <= limit
        if state.queue.stacked:
            assert len({self.requests[i].key for i in ids}) == 1
        waiting = self.batches.setdefault(peer, [])
        if waiting:
            assert rows == state.queue.limit or state.queue.stacked, "a busy instance was sent a partial batch"
        waiting.append(Sent(peer, batch, ids))
        assert len(waiting) <= 2

    def code(self, number: int) -> str | None:
        """The final answer's code ("" for success), or None while there is none."""
        answers = self.answers.get(number)
        return answers[-1].code if answers and answers[-1].final else None

    def last(self, kind: type[m.Header]) -> m.Header:
        return next(header for _, _, header in reversed(self.others) if isinstance(header, kind))


def spec(name: str = "m", **fields: object) -> m.ModelSpec:
    return m.ModelSpec(name=name, address="image", **({"batch_size": 4} | fields))  # type: ignore[arg-type]


__all__ = ["BRIDGE", "Code", "Harness", "Sent", "spec"]
