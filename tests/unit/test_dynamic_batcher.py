"""When a batch is due."""

import pytest

from batch_manager.dynamic_batcher import DynamicBatcher
from batch_manager.queues import Pending, RequestQueue
from inferoxy.messages import CloseReason, Request


def arrive(queue: RequestQueue, at: float, deadline: float = 1e9) -> Pending:
    item = Pending(b"peer", Request(id=1), (), at, deadline)
    queue.push(item)
    return item


def test_nothing_is_due_while_nothing_waits() -> None:
    batcher = DynamicBatcher(RequestQueue(limit=4))
    assert batcher.due_at() is None
    assert batcher.take(1.0) is None


def test_without_delay_an_idle_instance_gets_whatever_waits() -> None:
    batcher = DynamicBatcher(RequestQueue(limit=4))
    arrive(batcher.queue, 1.0)
    batch, closed = batcher.take(1.0) or pytest.fail("not due")
    assert (len(batch), closed) == (1, CloseReason.IDLE)


def test_partial_batch_is_due_when_oldest_request_reaches_queue_delay() -> None:
    batcher = DynamicBatcher(RequestQueue(limit=4), delay_s=0.5)
    arrive(batcher.queue, 1.0)
    arrive(batcher.queue, 1.3)
    assert batcher.due_at() == 1.5
    assert batcher.take(1.49) is None
    batch, closed = batcher.take(1.5) or pytest.fail("not due")
    assert (len(batch), closed) == (2, CloseReason.DELAY)


def test_full_batch_is_due_at_once() -> None:
    batcher = DynamicBatcher(RequestQueue(limit=2), delay_s=10.0)
    arrive(batcher.queue, 1.0)
    arrive(batcher.queue, 1.1)
    batch, closed = batcher.take(1.1) or pytest.fail("not due")
    assert (len(batch), closed) == (2, CloseReason.FULL)


def test_a_batch_does_not_wait_past_the_last_moment_its_deadline_allows() -> None:
    batcher = DynamicBatcher(RequestQueue(limit=4), delay_s=10.0)
    batcher.compute_s = 0.2
    arrive(batcher.queue, 1.0, deadline=2.0)
    assert batcher.due_at() == pytest.approx(1.8)
    batch, closed = batcher.take(1.8) or pytest.fail("not due")
    assert (len(batch), closed) == (1, CloseReason.DEADLINE)


def test_a_busy_instance_is_given_full_batches_only() -> None:
    batcher = DynamicBatcher(RequestQueue(limit=2))
    arrive(batcher.queue, 1.0)
    assert batcher.take_full() == []
    arrive(batcher.queue, 1.0)
    assert len(batcher.take_full()) == 2
