"""The client's side of the ZeroMQ protocol, with a clock and a wire made of lists."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from inferoxy import messages as m
from inferoxy import wire
from inferoxy.client.calls import CONNECT_S, ConnectionFailed
from inferoxy.client.zmq_session import FRESH_S, LOST_S, PING_S, Ask, AskModels, Session
from inferoxy.errors import DeadlineExceeded, InternalError, InvalidRequest, ModelError, ModelUnavailable

PAYLOAD = wire.encode_payload(m.ResultPayload([]))


class Server:
    """What the session has sent, and what a server could answer."""

    def __init__(self) -> None:
        self.is_connected = True
        self.sent: list[Any] = []
        self.session = Session("tcp://server:1", self._send)

    def _send(self, frames: Sequence[Any]) -> bool:
        if self.is_connected:
            self.sent += [header for header, _ in wire.decode(frames)]
        return self.is_connected

    def take(self, kind: type) -> list[Any]:
        found = [header for header in self.sent if type(header) is kind]
        self.sent = [header for header in self.sent if type(header) is not kind]
        return found

    def says(self, now: float, *headers: m.Header) -> None:
        self.session.handle([frame for header in headers for frame in wire.encode(header)], now)

    def pong(self, now: float, epoch: int = 1) -> None:
        self.says(now, m.Pong(epoch=epoch))

    def ask(self, now: float, wait_s: float = 60.0, timeout_us: int = 0) -> Future[Any]:
        waiter: Future[Any] = Future()
        self.session.submit(Ask(m.Request(model="m", timeout_us=timeout_us), [], wait_s), waiter, now)
        return waiter


@pytest.fixture
def server() -> Server:
    return Server()


def fails(waiter: "Future[Any]", kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        waiter.result(0)


def test_the_first_request_waits_for_a_word_from_the_server(server: Server) -> None:
    waiter = server.ask(0.0)
    assert not server.take(m.Request)
    assert len(server.take(m.Ping)) == 1
    server.pong(0.01)
    (request,) = server.take(m.Request)
    server.says(0.02, m.Response(id=request.id, payload=PAYLOAD))
    assert [part.response.id for part in waiter.result(0)] == [request.id]


def test_a_server_heard_a_moment_ago_is_sent_requests_at_once(server: Server) -> None:
    server.ask(0.0)
    server.pong(0.0)
    server.ask(FRESH_S / 2)
    assert len(server.take(m.Request)) == 2
    server.ask(FRESH_S * 1.5)
    assert not server.take(m.Request)


def test_while_nothing_waits_nothing_is_sent(server: Server) -> None:
    server.ask(0.0)
    server.pong(0.0)
    (request,) = server.take(m.Request)
    server.says(0.1, m.Response(id=request.id, payload=PAYLOAD))
    server.sent.clear()
    assert server.session.tick(100.0) is None
    assert not server.sent


def test_pings_go_on_while_a_request_waits(server: Server) -> None:
    server.ask(0.0)
    server.pong(0.0)
    server.sent.clear()
    due = server.session.tick(0.0)
    assert due is not None
    assert due <= PING_S
    server.session.tick(due)
    assert len(server.take(m.Ping)) == 1


def test_the_time_spent_waiting_for_the_server_is_taken_off_the_timeout(server: Server) -> None:
    server.ask(0.0, timeout_us=2_000_000)
    server.pong(0.5)
    assert server.take(m.Request)[0].timeout_us == 1_500_000


def test_a_server_that_is_not_there_is_reported_in_time_with_its_address(server: Server) -> None:
    server.is_connected = False
    waiter = server.ask(0.0)
    now = 0.0
    while (due := server.session.tick(now)) is not None:
        now = due
    assert now == pytest.approx(CONNECT_S, abs=PING_S)
    fails(waiter, ConnectionFailed, r"cannot connect to tcp://server:1: is the server running there \(`inferoxy up`\)")


def test_a_server_that_comes_in_time_gets_the_request(server: Server) -> None:
    server.is_connected = False
    server.ask(0.0)
    server.session.tick(1.0)
    server.is_connected = True
    server.session.tick(1.1)
    server.pong(1.2)
    assert len(server.take(m.Request)) == 1


def test_a_silent_server_counts_as_lost_only_after_a_while(server: Server) -> None:
    server.ask(0.0)
    server.pong(0.0)
    busy = server.ask(0.1)
    server.session.tick(LOST_S - 0.1)
    assert not busy.done()
    server.session.tick(LOST_S + 0.6)
    fails(busy, ConnectionFailed, "broke before the answer came")


def test_a_request_that_a_restarted_server_has_forgotten_fails(server: Server) -> None:
    waiter = server.ask(0.0)
    server.pong(0.0)
    server.pong(0.5)
    server.take(m.Request)
    server.pong(1.0, epoch=2)
    fails(waiter, ConnectionFailed, "the server was restarted")
    assert not server.take(m.Request)


def test_a_request_sent_since_the_last_word_is_sent_again_to_a_restarted_server(server: Server) -> None:
    server.ask(0.0).cancel()
    server.pong(0.0)
    server.sent.clear()
    waiter = server.ask(0.4)
    (first,) = server.take(m.Request)
    server.pong(0.6, epoch=2)
    (again,) = server.take(m.Request)
    assert again.id == first.id
    server.says(0.7, m.Response(id=first.id, payload=PAYLOAD), m.Response(id=first.id, payload=PAYLOAD))
    assert len(waiter.result(0)) == 1


def test_answers_are_collected_until_the_final_one(server: Server) -> None:
    waiter = server.ask(0.0)
    server.pong(0.0)
    (request,) = server.take(m.Request)
    server.says(0.1, m.Response(id=request.id, payload=PAYLOAD, final=False))
    assert not waiter.done()
    server.says(0.2, m.Response(id=request.id, payload=PAYLOAD, final=False), m.Response(id=request.id))
    assert len(waiter.result(0)) == 2


def test_an_error_answer_is_raised_as_its_class(server: Server) -> None:
    waiter = server.ask(0.0)
    server.pong(0.0)
    (request,) = server.take(m.Request)
    server.says(0.1, m.Response(id=request.id, code="MODEL_ERROR", error="division by zero"))
    fails(waiter, ModelError, "division by zero")


def test_a_late_request_is_given_up_and_taken_back(server: Server) -> None:
    waiter = server.ask(0.0, wait_s=1.0)
    server.pong(0.0)
    (request,) = server.take(m.Request)
    server.pong(0.9)
    server.session.tick(1.0)
    fails(waiter, DeadlineExceeded, "no answer from tcp://server:1 within 1 s")
    assert server.take(m.Cancel)[0].ids == [request.id]


def test_an_abandoned_request_is_taken_back_once(server: Server) -> None:
    server.ask(0.0)
    server.pong(0.0)
    (request,) = server.take(m.Request)
    server.session.abandon(request.id)
    server.session.abandon(request.id)
    assert len(server.take(m.Cancel)) == 1
    server.says(0.1, m.Response(id=request.id, payload=PAYLOAD))


def test_a_question_about_models_is_answered_by_the_next_models_message(server: Server) -> None:
    models = Future[Any]()
    server.session.submit(AskModels(), models, 0.0)
    assert server.take(m.Ping)[0].revision == 0
    server.pong(0.1)
    assert not models.done()
    server.says(0.1, m.Models(revision=3, complete=True))
    assert models.result(0).revision == 3


def test_only_questions_about_models_ask_for_them_anew(server: Server) -> None:
    server.says(0.0, m.Models(revision=3, complete=True))
    server.ask(0.0)
    assert server.take(m.Ping)[0].revision == 3
    server.session.submit(AskModels(), Future[Any](), 0.1)
    assert server.take(m.Ping)[0].revision == 0


def test_a_question_to_nobody_fails(server: Server) -> None:
    server.is_connected = False
    models = Future[Any]()
    server.session.submit(AskModels(), models, 0.0)
    server.session.tick(CONNECT_S + 1)
    fails(models, ConnectionFailed, "cannot connect")


def test_a_server_that_does_not_know_its_models_says_so(server: Server) -> None:
    models = Future[Any]()
    server.session.submit(AskModels(), models, 0.0)
    server.pong(CONNECT_S)
    server.session.tick(CONNECT_S + 0.1)
    fails(models, ModelUnavailable, "does not know yet what is registered")


def test_an_error_without_a_request_fails_everything(server: Server) -> None:
    waiter = server.ask(0.0)
    server.says(0.1, m.Response(id=0, code="INVALID_REQUEST", error="header: expected protocol version 2, found 1"))
    fails(waiter, InvalidRequest, "tcp://server:1 did not understand the client: header: expected protocol version 2")


def test_what_is_not_the_protocol_fails_everything_that_waits(server: Server) -> None:
    waiter = server.ask(0.0)
    server.session.handle([b"HTTP/1.1 400 Bad Request"], 0.1)
    fails(waiter, InternalError, "what is not Inferoxy's ZeroMQ protocol")


def test_close_fails_everything_that_waits(server: Server) -> None:
    waiter, models = server.ask(0.0), Future[Any]()
    server.session.submit(AskModels(), models, 0.0)
    server.session.close(ConnectionFailed("closed"))
    fails(waiter, ConnectionFailed, "closed")
    fails(models, ConnectionFailed, "closed")
    assert server.session.tick(5.0) is None


def test_pongs_that_nobody_asked_for_are_taken_as_signs_of_life(server: Server) -> None:
    server.ask(0.0)
    server.pong(0.0)
    (request,) = server.take(m.Request)
    server.says(0.1, m.Response(id=request.id, payload=PAYLOAD))
    server.sent.clear()
    for second in range(1, 30):
        server.pong(float(second))
    assert not server.sent
    server.ask(29.5)
    assert len(server.take(m.Request)) == 1


def test_why_a_server_refuses_is_said_when_nothing_is_heard_of_it_in_time(server: Server) -> None:
    server.is_connected = False
    waiter, question = server.ask(0.0), Future[Any]()
    server.session.submit(AskModels(), question, 0.0)
    server.session.refused("it may want keys", False)
    server.session.refused("it wants keys", True)
    server.session.refused("it may want keys", False)
    server.session.tick(CONNECT_S * 0.9)
    assert not waiter.done()
    server.session.tick(CONNECT_S * 1.1)
    for one in (waiter, question):
        fails(one, ConnectionFailed, r"^cannot connect to tcp://server:1: it wants keys$")


def test_a_server_that_was_heard_refuses_no_longer(server: Server) -> None:
    server.session.refused("it wants keys", True)
    server.ask(0.0)
    server.pong(0.1)
    server.is_connected = False
    waiter = server.ask(10.0)
    server.session.tick(10.0 + CONNECT_S * 1.1)
    fails(waiter, ConnectionFailed, "is the server running there")
