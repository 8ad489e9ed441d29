"""The FastAPI app that comes after the hot path."""

import asyncio
import threading
from typing import Any

import pytest

from bridges.rest import late_app
from bridges.rest.late_app import LateApp

Called = list[tuple[Any, Any, Any]]


def test_requests_wait_for_the_app_and_then_pass_straight_through() -> None:
    async def play() -> None:
        called: Called = []
        gate = threading.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            called.append((scope, receive, send))

        def make() -> Any:
            gate.wait(5.0)
            return app

        late = LateApp(make)
        first = asyncio.ensure_future(late("a", 1, 2))
        await asyncio.sleep(0.01)
        assert not called
        gate.set()
        await first
        await late("b", 3, 4)
        assert called == [("a", 1, 2), ("b", 3, 4)]

    asyncio.run(play())


def test_a_request_that_is_given_up_does_not_stop_the_app_from_being_made() -> None:
    async def play() -> None:
        gate = threading.Event()
        called: Called = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            called.append((scope, receive, send))

        def make() -> Any:
            gate.wait(5.0)
            return app

        late = LateApp(make)
        first = asyncio.ensure_future(late("a", 1, 2))
        await asyncio.sleep(0.01)
        first.cancel()
        gate.set()
        await late("b", 3, 4)
        assert called == [("b", 3, 4)]

    asyncio.run(play())


def test_an_app_that_cannot_be_made_fails_its_requests_and_says_why() -> None:
    async def play() -> None:
        def make() -> Any:
            raise ImportError("no module named fastapi")

        late = LateApp(make)
        with pytest.raises(ImportError, match="fastapi"):
            await late("a", 1, 2)

    asyncio.run(play())


def test_the_app_is_made_without_being_asked_for_once_the_bridge_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_app, "AFTER_S", 0.05)

    async def play() -> None:
        made = threading.Event()

        def make() -> Any:
            made.set()
            return None

        LateApp(make)
        await asyncio.sleep(0)
        assert not made.is_set()
        assert await asyncio.to_thread(made.wait, 5.0)

    asyncio.run(play())
