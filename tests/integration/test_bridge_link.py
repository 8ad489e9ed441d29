"""The bridges' link to the batch manager, over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridges.link import Link
from bridges.requests import Frames, Options, Prepared
from inferoxy import messages as m
from inferoxy import sockets, wire
from inferoxy.errors import Code, DeadlineExceeded, InferoxyError, ModelError, ModelUnavailable, PayloadTooLarge
from tests.integration.answering_router import AnsweringRouter

Test = Callable[[Link], Awaitable[None]]


@pytest.fixture
def router(tmp_path: Path) -> Iterator[AnsweringRouter]:
    with AnsweringRouter(tmp_path) as router:
        yield router


def request(model: str = "echo", size: int = 4, **options: Any) -> tuple[m.Request, Frames]:
    tensor = m.Tensor("INPUT0", "UINT8", (size,))
    prepared = Prepared([tensor], [size], parameters={}, outputs=[], form="tensors")
    return prepared.request(model, [bytes(size)], Options(**options), "r")


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - it is another thread's doing
        await asyncio.sleep(0.005)


@asynccontextmanager
async def linked(router: AnsweringRouter, *, waits: bool = True) -> AsyncIterator[Link]:
    context = sockets.context()
    link = Link(context, router.endpoint, "test")
    try:
        await until(lambda: link.is_ready or not waits)
        yield link
    finally:
        link.close()
        context.destroy(linger=0)


def run(router: AnsweringRouter, test: Test, **more: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), linked(router, **more) as link:
            await test(link)

    asyncio.run(main())


def test_call_gives_the_answer_with_its_frames(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        (answer,) = await link.call(*request(size=100_000))
        assert wire.decode_result(answer.response.payload).tensors == [m.Tensor("OUTPUT0", "UINT8", (100_000,))]
        assert bytes(sockets.buffer(answer.frames[0])) == bytes(100_000)

    run(router, test)


def test_requests_before_the_batch_manager_was_heard_are_held_not_lost(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        assert not link.is_ready
        assert len(await link.call(*request())) == 1

    run(router, test, waits=False)


def test_requests_of_one_turn_travel_in_one_message(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        before = router.messages
        await asyncio.gather(*(link.call(*request()) for _ in range(100)))
        assert len(router.requests) == 100
        assert router.messages - before <= 3  # and perhaps a ping

    run(router, test)


def test_error_is_raised_as_what_it_is(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        with pytest.raises(ModelError, match="the model says no"):
            await link.call(*request("broken"))

    run(router, test)


def test_several_answers_are_collected(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        expected = [{"frame": 0}, {"frame": 1}, {"frame": 2}]
        collected = await link.call(*request("frames"))
        assert [wire.decode_result(a.response.payload).prediction for a in collected] == expected
        assert link.open_requests == 0

    run(router, test)


@pytest.mark.parametrize(("at_most", "error"), [(1, Code.UNSUPPORTED), (2, Code.PAYLOAD_TOO_LARGE)])
def test_more_answers_than_are_wanted_are_an_error(router: AnsweringRouter, at_most: int, error: Code) -> None:
    async def test(link: Link) -> None:
        with pytest.raises(InferoxyError) as caught:
            await link.call(*request("frames"), at_most=at_most)
        assert caught.value.code is error
        assert link.open_requests == 0

    run(router, test)


def test_answers_of_too_many_bytes_are_an_error(router: AnsweringRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridges.collecting.COLLECT_AT_MOST_BYTES", -1)

    async def test(link: Link) -> None:
        with pytest.raises(PayloadTooLarge):
            await link.call(*request("frames"))

    run(router, test)


def test_waiter_that_gives_up_cancels_its_request(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await link.call(*request("silent"))
        assert link.open_requests == 0
        await until(lambda: router.cancelled == [router.requests[0].id])

    run(router, test)


def test_request_that_was_never_sent_is_cancelled_silently(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        cancelled = link.submit(*request(), lambda *_: None)
        link.cancel(cancelled)
        await link.call(*request())
        assert len(router.requests) == 1
        assert router.cancelled == []

    run(router, test)


def test_deadline_is_kept_when_nobody_answers(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        began = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded):
            await link.call(*request("silent", timeout_us=200_000))
        assert 0.2 <= asyncio.get_running_loop().time() - began < 3.0

    run(router, test)


def test_request_without_a_timeout_has_the_models_own(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        with pytest.raises(DeadlineExceeded):
            await link.call(*request("silent"))  # its timeout_ms is 400

    run(router, test)


def test_callback_that_fails_does_not_take_other_answers_with_it(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        seen: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: seen.append(about["message"]))

        def fails(*_: Any) -> None:
            raise RuntimeError("a bug")

        link.submit(*request(), fails)
        assert len(await link.call(*request())) == 1
        assert seen == ["an answer could not be passed on"]

    run(router, test)


def test_new_batch_manager_is_sent_everything_again_once(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        router.is_dropping = True
        waiting = [asyncio.ensure_future(link.call(*request())) for _ in range(20)]
        await until(lambda: len(router.requests) == 20)
        router.stop()
        late = asyncio.ensure_future(link.call(*request()))
        await asyncio.sleep(0.3)
        router.is_dropping = False
        router.forget()
        router.start()
        assert [len(answers) for answers in await asyncio.gather(*waiting, late)] == [1] * 21
        assert len(router.requests) == 41

    run(router, test)


def test_broken_connection_to_the_same_batch_manager_costs_nothing(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        router.is_dropping = True
        waiting = asyncio.ensure_future(link.call(*request()))
        await until(lambda: router.requests)
        router.stop()
        await asyncio.sleep(0.4)
        router.is_dropping = False
        router.start()  # the same epoch: what was in the pipe is sent again
        assert len(await waiting) == 1

    run(router, test)


def test_sequence_steps_fail_with_the_batch_manager_but_an_unsent_start_does_not(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        lost = asyncio.ensure_future(link.call(*request("counter", sequence=m.Sequence(1))))
        await until(lambda: router.requests)
        router.stop()
        await asyncio.sleep(0.4)
        begun = asyncio.ensure_future(link.call(*request(sequence=m.Sequence(2, start=True))))
        await asyncio.sleep(0)
        router.forget()
        router.start()
        with pytest.raises(InferoxyError, match="state was lost") as caught:
            await lost
        assert caught.value.code is Code.SEQUENCE_LOST
        assert len(await begun) == 1

    run(router, test)


def test_clients_that_have_left_are_told_before_what_comes_after_them(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        assert link.name.startswith("test-")
        link.gone("a")
        link.gone("b")
        link.gone("a")
        await link.call(*request(sequence=m.Sequence(1, True, client="a")))
        assert router.gone == ["a", "b"]

    run(router, test)


def test_clients_that_leave_while_the_batch_manager_is_away_are_told_when_it_is_back(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        router.stop()
        await asyncio.sleep(0.4)
        link.gone("a")
        link.flush()
        await asyncio.sleep(0.1)
        assert not router.gone
        router.start()
        await until(lambda: router.gone)
        await link.call(*request())
        assert router.gone == ["a"]

    run(router, test)


def test_drain_waits_for_the_last_answer_and_no_longer(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        await link.drain(5.0)
        router.is_holding = True
        waiting = [asyncio.ensure_future(link.call(*request())) for _ in range(3)]
        await asyncio.sleep(0.05)
        draining = asyncio.ensure_future(link.drain(5.0))
        await asyncio.sleep(0.05)
        assert not draining.done()
        router.is_holding = False
        await draining
        assert all(len(answers) == 1 for answers in await asyncio.gather(*waiting))

    run(router, test)


def test_close_answers_what_is_open_and_what_comes_afterwards(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        waiting = asyncio.ensure_future(link.call(*request("silent")))
        await asyncio.sleep(0.05)
        await link.drain(0.05)
        link.close()
        with pytest.raises(ModelUnavailable):
            await waiting
        with pytest.raises(ModelUnavailable):
            await link.call(*request())

    run(router, test)


def test_what_is_malformed_disturbs_nothing(router: AnsweringRouter) -> None:
    async def test(link: Link) -> None:
        router.is_sending_rubbish = True
        assert len(await link.call(*request())) == 1

    run(router, test)
