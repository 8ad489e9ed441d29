"""Sequences in the batch manager: their places, order and ends, and who is told of them."""

from hypothesis import given
from hypothesis import strategies as st

from batch_manager.sends import Link
from inferoxy import messages as m
from inferoxy.errors import Code
from tests.unit.batching import BRIDGE, Harness, spec


def sequence(number: int, start: bool = False, end: bool = False, client: str = "") -> m.Sequence:
    return m.Sequence(number, start, end, client)


def test_a_sequence_keeps_its_instance_and_its_order() -> None:
    box = Harness([spec(stateless=False, batch_size=2)])
    box.join("i1", batch_size=2, stateless=False)
    box.join("i2", batch_size=2, stateless=False)
    box.request(1, sequence=sequence(5, start=True))
    box.request(2, sequence=sequence(6, start=True))
    holder = {s.ids[0]: name.decode() for name, sent in box.batches.items() for s in sent}
    assert len(set(holder.values())) == 2
    for number in (3, 4, 7):
        box.request(number, sequence=sequence(5, end=number == 7))
    assert box.finish(holder[1]) == [1]
    assert box.finish(holder[1]) == [3, 4]
    assert box.finish(holder[1]) == [7]


def test_a_start_waits_until_a_place_is_free() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", batch_size=4, stateless=False)
    box.request(1, sequence=sequence(5, start=True))
    box.request(2, sequence=sequence(6, start=True))
    box.finish("i1")
    assert not box.batches[b"i1"]
    box.request(3, sequence=sequence(5, end=True))
    assert box.finish("i1") == [3]
    assert box.finish("i1") == [2]


def test_a_draining_instance_goes_on_with_its_sequences_and_is_stopped_when_they_are_over() -> None:
    box = Harness([spec(stateless=False, max_sequences=2, sequence_idle_s=3)])
    box.request(1, sequence=sequence(5, start=True))
    box.request(2, sequence=sequence(6, start=True))
    box.join("i1", batch_size=4, stateless=False)
    box.tell(b"task_manager", m.Drain(instance="i1"))
    assert box.finish("i1") == [1]
    assert box.finish("i1") == [2]
    assert not any(isinstance(h, m.Stop) for _, _, h in box.others)
    box.advance(5.0)
    assert isinstance(box.last(m.Stop), m.Stop)


def endings(box: Harness) -> list[tuple[bytes, int | str, str, str]]:
    """What instances were told: who, sequence, client, reason."""
    return [(peer, h.sequence, h.client, h.reason) for _, peer, h in box.others if isinstance(h, m.EndSequence)]


def test_a_step_of_no_sequence_is_refused_and_one_of_an_unknown_sequence_told_what_may_have_happened() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", stateless=False)
    box.request(1)
    assert box.code(1) == Code.INVALID_REQUEST
    box.request(2, sequence=sequence(5))
    assert box.code(2) == Code.SEQUENCE_UNKNOWN
    assert "sequence_id 5: expected sequence_start first" in box.answers[2][0].error


def test_a_silent_bridge_is_asked_whether_it_is_there_so_that_its_sequences_end_soon() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", stateless=False)
    box.request(1, sequence=sequence(5, start=True, client=f"{BRIDGE.decode()}:aa"))
    box.finish("i1")
    box.tell(BRIDGE, m.Ping())
    box.others.clear()
    box.advance(2.1)
    assert any(peer == BRIDGE and isinstance(header, m.Pong) for _, peer, header in box.others)
    box.core.unreachable(Link.FRONTEND, BRIDGE, box.now)
    box.collect()
    assert [reason for *_, reason in endings(box)] == ["client_gone"]


def test_idle_sequence_is_ended_the_instance_told_why_and_the_client_with_its_next_step() -> None:
    box = Harness([spec(stateless=False, sequence_idle_s=3)])
    box.join("i1", stateless=False)
    box.request(1, sequence=sequence(5, start=True))
    box.finish("i1")
    box.advance(5.0)
    assert endings(box) == [(b"i1", 5, "", "idle")]
    box.request(2, sequence=sequence(5))
    assert box.code(2) == Code.SEQUENCE_LOST
    assert "idle for 3 s" in box.answers[2][0].error
    box.request(3, sequence=sequence(5, start=True))
    assert box.finish("i1") == [3]


def test_lost_instance_loses_its_sequences_but_a_new_start_works() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", stateless=False)
    box.request(1, sequence=sequence(5, start=True))
    box.request(2, sequence=sequence(5))
    box.lose("i1")
    assert box.code(1) == box.code(2) == Code.SEQUENCE_LOST
    assert "i1 was lost" in box.answers[2][0].error
    box.request(3, sequence=sequence(5))
    assert box.code(3) == Code.SEQUENCE_LOST
    box.join("i2", stateless=False)
    box.request(4, sequence=sequence(5, start=True))
    assert box.finish("i2") == [4]


def test_equal_ids_of_different_clients_are_different_sequences() -> None:
    box = Harness([spec(stateless=False, max_sequences=2, batch_size=4)])
    box.join("i1", stateless=False, batch_size=4)
    box.request(1, sequence=sequence(5, start=True, client="a"))
    box.request(2, sequence=sequence(5, start=True, client="b"))
    box.request(3, sequence=sequence(5, client="a"))
    assert [box.finish("i1") for _ in range(3)] == [[1], [2], [3]]


def test_a_client_that_is_gone_loses_its_sequences_and_frees_its_places() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", stateless=False)
    box.request(1, sequence=sequence(5, start=True, client="zmq-1:aa"))
    box.finish("i1")
    box.request(2, sequence=sequence(6, start=True, client="zmq-1:bb"))
    box.tell(BRIDGE, m.Gone(clients=["zmq-1:aa"]))
    assert endings(box) == [(b"i1", 5, "zmq-1:aa", "client_gone")]
    assert box.finish("i1") == [2]


def test_a_bridge_that_is_gone_takes_the_sequences_of_its_clients_with_it_but_not_those_without_client() -> None:
    box = Harness([spec(stateless=False, max_sequences=4)])
    box.join("i1", stateless=False)
    for number, client in enumerate([f"{BRIDGE.decode()}:aa", "other-1:aa", ""], 1):
        box.request(number, sequence=sequence(number, start=True, client=client))
        box.finish("i1")
    box.core.unreachable(Link.FRONTEND, BRIDGE, box.now)
    box.collect()
    assert [(sequence_id, reason) for _, sequence_id, _, reason in endings(box)] == [(1, "client_gone")]


def test_a_new_start_of_a_living_sequence_ends_the_old_one_wherever_it_was() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", stateless=False)
    box.request(1, sequence=sequence(5, start=True))
    box.request(2, sequence=sequence(5))
    box.request(3, sequence=sequence(5, start=True))
    assert box.code(2) == Code.SEQUENCE_LOST
    assert "started anew" in box.answers[2][0].error
    assert endings(box) == [(b"i1", 5, "", "ended")]
    assert [box.finish("i1"), box.finish("i1")] == [[1], [3]]
    assert box.code(1) == box.code(3) == ""


def test_a_start_that_the_model_refuses_ends_the_sequence_and_what_waits_behind_it() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", stateless=False)
    box.request(1, sequence=sequence(5, start=True))
    box.request(2, sequence=sequence(5))
    box.finish("i1", code=Code.MODEL_ERROR)
    assert (box.code(1), box.code(2)) == (Code.MODEL_ERROR, Code.SEQUENCE_LOST)
    assert "its start has failed" in box.answers[2][0].error
    assert endings(box) == [(b"i1", 5, "", "failed")]


def test_a_step_that_fails_leaves_the_sequence_alive() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", stateless=False)
    for number in (1, 2, 3):
        box.request(number, sequence=sequence(5, start=number == 1))
        box.finish("i1", code=Code.MODEL_ERROR if number == 2 else "")
    assert [box.code(number) for number in (1, 2, 3)] == ["", Code.MODEL_ERROR, ""]
    assert not endings(box)


def test_a_last_step_that_expires_ends_the_sequence_all_the_same() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", stateless=False)
    box.request(1, sequence=sequence(5, start=True))
    box.request(2, timeout_s=1.0, sequence=sequence(5, end=True))
    box.advance(2.0)
    assert box.code(2) == Code.DEADLINE_EXCEEDED
    box.finish("i1")
    assert endings(box) == [(b"i1", 5, "", "ended")]


def test_starts_that_find_no_place_wait_until_their_deadline_in_a_bounded_queue() -> None:
    box = Harness([spec(stateless=False, queue_size=3)])
    box.join("i1", stateless=False)
    box.request(1, sequence=sequence(1, start=True))
    box.finish("i1")
    for number in (2, 3, 4):
        box.request(number, timeout_s=1.0, sequence=sequence(number, start=True))
    box.request(5, sequence=sequence(5, start=True))
    assert box.code(5) == Code.QUEUE_FULL
    assert "queue_size 3" in box.answers[5][0].error
    load = box.core.table.states["m", "1"].load(box.now)
    assert load.sequences_waiting == 3
    box.advance(1.5)
    assert [box.code(number) for number in (2, 3, 4)] == [Code.DEADLINE_EXCEEDED] * 3
    assert box.core.table.states["m", "1"].load(box.now).sequences_waiting == 0
    box.request(6, sequence=sequence(2))
    assert box.code(6) == Code.SEQUENCE_LOST


def test_steps_behind_a_start_that_expired_are_told_at_once() -> None:
    box = Harness([spec(stateless=False)])
    box.request(1, timeout_s=1.0, sequence=sequence(1, start=True))
    box.request(2, timeout_s=9.0, sequence=sequence(1))
    box.advance(2.0)
    assert (box.code(1), box.code(2)) == (Code.DEADLINE_EXCEEDED, Code.SEQUENCE_LOST)


def test_the_task_manager_is_told_at_once_when_a_start_finds_no_place() -> None:
    box = Harness([spec(stateless=False)])
    box.join("i1", stateless=False)
    box.tell(b"task_manager", m.Attach())
    box.request(1, sequence=sequence(1, start=True))
    box.others.clear()
    box.request(2, sequence=sequence(2, start=True))
    loads = box.last(m.Loads)
    assert isinstance(loads, m.Loads)
    assert loads.loads[0].sequences_waiting == 1


@given(st.data())
def test_whatever_happens_steps_stay_in_order_and_nothing_lives_on_for_ever(data: st.DataObject) -> None:
    box = Harness([spec(stateless=False, max_sequences=2, batch_size=3, sequence_idle_s=5)])
    for name in ("i1", "i2"):
        box.join(name, stateless=False, batch_size=3)
    number, begun, ended = 0, 0, 0
    lives: dict[tuple[str, int | str], int] = {}  # how often each was started
    life_of: dict[int, int] = {}
    ran: dict[tuple[str, int | str, int], list[int]] = {}

    def finish(name: str) -> None:
        nonlocal begun, ended
        steps = [box.requests[i].sequence for i in box.batches[name.encode()][0].ids]
        assert len({(s.client, s.id) for s in steps if s}) == 1, "a batch holds steps of one sequence"
        for step, request in zip(steps, box.finish(name), strict=True):
            assert step is not None
            begun, ended = begun + step.start, ended + step.end
            steps_of = ran.setdefault((step.client, step.id, life_of[request]), [])
            steps_of.append(request)
            assert steps_of == sorted(steps_of)

    for _ in range(data.draw(st.integers(1, 40))):
        act = data.draw(st.sampled_from(["start", "step", "end", "finish", "finish", "idle", "gone"]))
        client, sequence_id = data.draw(st.sampled_from(["a", "b"])), data.draw(st.integers(1, 3))
        if act in ("start", "step", "end"):
            number += 1
            lives[client, sequence_id] = lives.get((client, sequence_id), 0) + (act == "start")
            life_of[number] = lives[client, sequence_id]
            box.request(number, sequence=m.Sequence(sequence_id, act == "start", act == "end", client))
        elif act == "finish":
            name = data.draw(st.sampled_from(["i1", "i2"]))
            if box.batches.get(name.encode()):
                finish(name)
        elif act == "idle":
            box.advance(7.0)
        else:
            box.tell(BRIDGE, m.Gone(clients=[client]))
        assert all(i.sequences <= 2 for i in box.core.instances.values())
    for _ in range(8):  # idleness frees places for those that wait
        while busy := [name for name, sent in box.batches.items() if sent]:
            finish(busy[0].decode())
        box.advance(7.0)
    assert box.core.report(box.now)["open_requests"] == 0
    assert not any(i.sequences for i in box.core.instances.values())
    assert len(endings(box)) + ended >= begun, "every sequence that began was ended"
    box.core.unreachable(Link.BACKEND, b"i1", box.now)
