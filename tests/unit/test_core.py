"""What the batch manager decides."""

import pytest

from inferoxy import messages as m
from inferoxy.errors import Code, InvalidRequest
from inferoxy.wire import instance_token
from tests.unit.batching import BRIDGE, Harness, spec


def test_an_idle_instance_gets_a_request_at_once_and_the_answer_comes_back() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    box.request(1)
    assert box.finish("i1") == [1]
    assert box.code(1) == ""
    served = box.answers[1][0].served
    assert served is not None
    assert (served.batch_size, served.closed, served.instance, served.version) == (1, "idle", "i1", "1")


def test_requests_that_arrive_while_the_instance_is_busy_share_the_next_batch() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    for number in range(4):
        box.request(number)
    assert box.finish("i1") == [0]
    assert box.finish("i1") == [1, 2, 3]


def test_requests_that_came_joined_share_a_batch_each_with_its_own_bytes() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    box.requests_at_once([1, 2, 3])
    assert box.finish("i1") == [1, 2, 3]
    assert [box.code(number) for number in (1, 2, 3)] == ["", "", ""]


def test_joined_requests_behind_one_that_lies_are_refused_and_those_before_served() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    items = [box.make(number, "m", 10.0) for number in (1, 2, 3)]
    items[1].frames = 5
    with pytest.raises(InvalidRequest, match="expected 5 tensor frames, found 2"):
        box.tell(BRIDGE, m.Requests(items=items), (b"1", b"2", b"3"))
    box.collect()
    assert box.finish("i1") == [1]
    assert box.core.report(box.now)["open_requests"] == 0


def test_answers_for_one_bridge_leave_in_one_message_and_those_for_another_in_its_own() -> None:
    box = Harness([spec(batch_size=8)])
    for number in range(4):
        peer = BRIDGE if number < 3 else b"grpc-1"
        box.core.handle(peer, box.make(number, "m", 10.0), (str(number).encode(),), box.now)
    box.join("i1", batch_size=8)
    (sent,) = box.batches[b"i1"]
    items = [m.ResultItem(ticket, 1) for ticket in range(4)]
    box.core.handle(b"i1", m.Result(batch=sent.batch.id, items=items), [str(i).encode() for i in sent.ids], box.now)
    answers = [send for send in box.core.take_sends() if isinstance(send.header, m.Responses)]
    assert [(a.peer, [r.id for r in a.header.items], list(a.frames)) for a in answers] == [  # type: ignore[attr-defined]
        (BRIDGE, [0, 1, 2], [b"0", b"1", b"2"]),
        (b"grpc-1", [3], [b"3"]),
    ]


def test_a_busy_instance_is_sent_its_next_batch_early_only_when_full() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    for number in range(9):
        box.request(number)
    assert [s.ids for s in box.batches[b"i1"]] == [[0], [1, 2, 3, 4]]


def test_first_request_of_a_model_without_instances_asks_the_task_manager_at_once() -> None:
    box = Harness([spec()])
    box.tell(b"task_manager", m.Attach())
    box.others.clear()
    box.request(1)
    loads = box.last(m.Loads)
    assert isinstance(loads, m.Loads)
    assert [(load.model, load.queued) for load in loads.loads] == [("m", 1)]
    box.join("i1", batch_size=4)
    assert box.finish("i1") == [1]


def test_queue_delay_holds_a_partial_batch_back() -> None:
    box = Harness([spec(max_queue_delay_ms=100)])
    box.join("i1", batch_size=4)
    box.request(1)
    box.advance(0.05)
    box.request(2)
    assert not box.batches.get(b"i1")
    box.advance(0.06)
    assert box.finish("i1") == [1, 2]
    assert box.answers[1][0].served.closed == "delay"  # type: ignore[union-attr]


def test_expired_request_is_answered_and_never_run() -> None:
    box = Harness([spec()])
    box.request(1, timeout_s=1.0)
    box.advance(1.1)
    assert box.code(1) == Code.DEADLINE_EXCEEDED
    box.join("i1", batch_size=4)
    assert not box.batches.get(b"i1")


def test_deadline_fires_while_the_batch_runs_and_the_late_result_is_dropped() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    box.request(1, timeout_s=1.0)
    box.advance(1.1)
    assert box.code(1) == Code.DEADLINE_EXCEEDED
    box.finish("i1")
    assert len(box.answers[1]) == 1


def test_a_full_queue_refuses_the_newcomer_and_names_the_limit() -> None:
    box = Harness([spec(queue_size=2)])
    for number in range(3):
        box.request(number)
    assert box.code(2) == Code.QUEUE_FULL
    assert "queue_size 2" in box.answers[2][0].error
    assert box.code(0) is None


def test_drop_oldest_makes_room_for_the_newcomer() -> None:
    box = Harness([spec(queue_size=2, drop_policy="drop_oldest")])
    for number in range(3):
        box.request(number)
    assert box.code(0) == Code.SHED
    box.join("i1", batch_size=4)
    assert box.finish("i1") == [1, 2]


def test_a_request_sent_again_by_its_bridge_runs_once() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    box.request(1)
    box.request(1)
    box.finish("i1")
    assert not box.batches[b"i1"]
    assert len(box.answers[1]) == 1


def test_cancelled_request_leaves_the_queue_unanswered() -> None:
    box = Harness([spec()])
    box.request(1)
    box.tell(BRIDGE, m.Cancel(ids=[1, 99]))
    box.join("i1", batch_size=4)
    assert not box.batches.get(b"i1")
    assert 1 not in box.answers
    assert box.core.report(box.now)["open_requests"] == 0


def test_unknown_model_is_named_and_known_versions_are_listed() -> None:
    box = Harness([spec(), spec(version="2", default=False)])
    box.request(1, model="none")
    box.request(2, model_version="9")
    assert box.code(1) == box.code(2) == Code.MODEL_NOT_FOUND
    assert "version 1 or 2" in box.answers[2][0].error


def test_requests_wait_for_the_first_catalog() -> None:
    box = Harness([])
    box.core.table.complete = False
    box.request(1)
    assert box.code(1) is None
    box.catalog([spec()])
    box.join("i1", batch_size=4)
    assert box.finish("i1") == [1]


def test_lost_instance_has_what_it_ran_tried_once_more_alone() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    for number in range(4):
        box.request(number)
    box.finish("i1")  # [0]; [1, 2, 3] runs now
    box.lose("i1")
    box.join("i2", batch_size=4)
    assert box.finish("i2") == [1]
    assert box.answers[1][0].served.closed == "alone"  # type: ignore[union-attr]
    box.lose("i2")  # it was running [2]
    assert box.code(2) == Code.INSTANCE_LOST
    box.join("i3", batch_size=4)
    assert box.finish("i3") == [3]


def test_a_batch_that_had_not_begun_waits_again_unharmed() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    for number in range(5):
        box.request(number)
    box.lose("i1")  # ran [0], had [1, 2, 3, 4] waiting
    box.join("i2", batch_size=4)
    assert box.finish("i2") == [0]
    assert box.finish("i2") == [1, 2, 3, 4]


def test_silent_instance_counts_as_lost() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    box.request(1)
    box.now = 6.0
    box.core.wake(box.now)
    box.collect()
    assert not box.core.instances
    box.batches.clear()
    box.join("i2", batch_size=4)
    assert box.finish("i2") == [1]


def test_unknown_instance_is_asked_who_it_is() -> None:
    box = Harness([spec()])
    box.tell(b"ghost", m.Heartbeat())
    assert isinstance(box.last(m.Who), m.Who)


def test_instance_with_a_token_for_another_model_is_refused() -> None:
    box = Harness([spec(), spec("other")])
    box.core._secret = "s"
    box.join("i1", token=instance_token("s", "i1", "other", "1"))
    refusal = box.last(m.Welcome)
    assert isinstance(refusal, m.Welcome)
    assert "token" in refusal.error
    box.join("i1", token=instance_token("s", "i1", "m", "1"))
    assert b"i1" in box.core.instances


def test_draining_instance_gets_nothing_more_and_is_stopped_when_free() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    box.request(1)
    box.tell(b"task_manager", m.Drain(instance="i1"))
    box.request(2)
    assert not any(isinstance(h, m.Stop) for _, _, h in box.others)
    assert box.finish("i1") == [1]
    assert isinstance(box.last(m.Stop), m.Stop)
    assert not box.batches[b"i1"]
    assert box.code(2) is None


def test_failing_model_answers_those_who_wait_with_its_reason() -> None:
    box = Harness([spec()])
    box.request(1)
    box.tell(b"task_manager", m.Condition(model="m", model_version="1", state="failing", error="no such file: x.onnx"))
    box.request(2)
    assert box.code(1) == box.code(2) == Code.MODEL_UNAVAILABLE
    assert "x.onnx" in box.answers[1][0].error
    box.tell(b"task_manager", m.Condition(model="m", model_version="1", state="idle"))
    box.request(3)
    assert box.code(3) is None


def test_several_answers_to_one_request_end_with_the_final_one() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4, decoupled=True)
    box.request(1)
    box.finish("i1", final=False, done=False)
    box.finish("i1")
    assert [a.final for a in box.answers[1]] == [False, True]


def test_an_instance_that_closes_a_batch_without_an_answer_is_found_out() -> None:
    box = Harness([spec()])
    box.join("i1", batch_size=4)
    box.request(1)
    sent = box.batches[b"i1"].pop()
    box.tell(b"i1", m.Result(batch=sent.batch.id, items=[]))
    assert box.code(1) == Code.INTERNAL


def test_rows_beyond_the_batch_size_are_refused_with_both_numbers() -> None:
    box = Harness([spec()])
    box.request(1, rows=9)
    box.join("i1", batch_size=4, stacked=True)
    assert box.code(1) == Code.INVALID_REQUEST
    assert "expected 1 to 4 rows" in box.answers[1][0].error
    assert "found 9" in box.answers[1][0].error


def test_removed_model_answers_those_who_wait() -> None:
    box = Harness([spec()])
    box.request(1)
    box.catalog([])
    assert box.code(1) == Code.MODEL_NOT_FOUND


def test_bridges_are_shown_every_change() -> None:
    box = Harness([spec()])
    box.tell(BRIDGE, m.Ping(revision=-1))
    first = box.last(m.Models)
    box.join("i1", batch_size=4)
    box.advance(1.0)
    second = box.last(m.Models)
    assert isinstance(first, m.Models)
    assert isinstance(second, m.Models)
    assert (first.models[0].state, second.models[0].state) == ("idle", "ready")
    assert second.revision > first.revision


@pytest.mark.parametrize("leaving", ["bridge", "silence"])
def test_requests_of_a_bridge_that_is_gone_are_forgotten(leaving: str) -> None:
    box = Harness([spec()])
    box.request(1)
    if leaving == "bridge":
        from batch_manager.sends import Link

        box.core.unreachable(Link.FRONTEND, BRIDGE, box.now)
    else:
        box.advance(40.0)
    assert box.core.report(box.now)["open_requests"] == 0


@pytest.mark.parametrize("batch_size", [1, 4])
def test_nothing_is_sent_ahead_behind_a_request_that_outlived_an_instance_nor_that_behind_another(
    batch_size: int,
) -> None:
    box = Harness([spec(batch_size=batch_size)])
    box.join("i1", batch_size=batch_size)
    box.request(1)
    box.requests_at_once(list(range(2, 2 + batch_size)))
    assert len(box.batches[b"i1"]) == 2
    box.lose("i1")
    box.join("i2", batch_size=batch_size)
    box.requests_at_once(list(range(10, 10 + batch_size)))
    while box.batches[b"i2"][0].batch.items and box.batches[b"i2"][0].ids != list(range(10, 10 + batch_size)):
        (sent,) = box.batches[b"i2"]
        if sent.ids == [1]:
            box.lose("i2")
            break
        box.finish("i2")
    assert box.code(1) == Code.INSTANCE_LOST
    assert all(box.code(number) in (None, "") for number in range(2, 10 + batch_size) if number in box.requests)
