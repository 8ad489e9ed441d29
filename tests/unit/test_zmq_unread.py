"""How much ZeroMQ clients leave unread."""

from hypothesis import given
from hypothesis import strategies as st

from bridges.zmq.unread import MARK_BYTES, Unread

A, B = b"\0a", b"\0b"


class Wire:
    """What was sent to a client, in order, of which the first so many messages have left."""

    def __init__(self) -> None:
        self.unread = Unread()
        self.sizes: list[int] = []
        self.left = 0
        self.marks = 0

    def send(self, size: int, client: bytes = A) -> None:
        self.sizes.append(size)
        number = len(self.sizes)
        if self.unread.add(client, size):
            self.marks += 1
            self.unread.mark(client, lambda: self.left >= number)

    @property
    def waiting(self) -> int:
        return sum(self.sizes[self.left :])


def test_what_a_client_does_not_read_is_counted() -> None:
    wire = Wire()
    for _ in range(10):
        wire.send(MARK_BYTES)
    assert wire.unread.bytes_of(A) == 10 * MARK_BYTES
    assert wire.unread.bytes_of(B) == 0
    wire.left = 4
    assert wire.unread.bytes_of(A) == 6 * MARK_BYTES
    wire.left = 10
    assert wire.unread.bytes_of(A) == 0


def test_small_answers_cost_a_mark_for_many() -> None:
    wire = Wire()
    for _ in range(10_000):
        wire.send(100)
    assert wire.marks == 1 + 1_000_000 // (MARK_BYTES // 100 * 100 + 100)


def test_clients_are_counted_apart() -> None:
    wire = Wire()
    wire.send(500, A)
    wire.send(700, B)
    assert (wire.unread.bytes_of(A), wire.unread.bytes_of(B)) == (500, 700)


def test_a_client_that_has_read_all_is_forgotten_after_a_quiet_time() -> None:
    wire = Wire()
    for _ in range(100):
        wire.send(1_000)
    wire.left = 100
    wire.unread.forget_quiet()
    assert wire.unread._clients
    wire.send(1_000)
    wire.unread.forget_quiet()
    wire.unread.forget_quiet()
    assert not wire.unread._clients
    wire.send(1_000)
    assert wire.marks == 2  # a client that was forgotten is marked at once


def test_a_client_that_does_not_read_is_never_forgotten() -> None:
    wire = Wire()
    for _ in range(100):
        for _ in range(10):
            wire.send(1_000)
        for _ in range(3):
            wire.unread.forget_quiet()
    assert wire.unread.bytes_of(A) == 1_000_000


@given(st.lists(st.one_of(st.integers(1, 2 * MARK_BYTES), st.integers(1, 100).map(lambda n: -n)), max_size=80))
def test_never_less_is_counted_than_waits_and_hardly_more(steps: list[int]) -> None:
    wire = Wire()
    for step in steps:
        if step > 0:
            wire.send(step)
        else:
            wire.left = min(len(wire.sizes), wire.left - step)
        found = wire.unread.bytes_of(A)
        assert wire.waiting <= found
        largest = max(wire.sizes, default=0)
        assert found <= wire.waiting + MARK_BYTES + largest
