"""`AsyncClient`: `Client` with methods to await, for the tasks of one event loop."""

import asyncio
from collections.abc import AsyncIterable, Iterable, Mapping
from collections.abc import Sequence as Items
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

from numpy.typing import ArrayLike

from inferoxy.client import address as addresses
from inferoxy.client import many, protocols
from inferoxy.client.arguments import (
    AT_ONCE,
    Draw,
    S,
    Several,
    arrays_of,
    check_draw,
    check_window,
    defaults_of,
    make_call,
    sequence_id_of,
)
from inferoxy.client.async_many import AsyncItems, infer_one, predict_one
from inferoxy.client.async_sequence import AsyncSequence, load_async
from inferoxy.client.calls import ConnectionFailed, drive_async
from inferoxy.client.many import InferItem, Item
from inferoxy.client.pictures import Source
from inferoxy.client.progress import Progress
from inferoxy.client.results import Detections, InferResult, ModelInfo, Prediction, last_prediction, last_result
from inferoxy.errors import ModelUnavailable


class AsyncClient:
    """`Client` with methods to await, for the tasks of one event loop. Use it in an `async with` block."""

    def __init__(
        self,
        url: str = addresses.DEFAULT_URL,
        *,
        timeout_s: float | None = None,
        priority: int = 0,
        server_key: str | Path | None = None,
        client_key: str | Path | None = None,
    ) -> None:
        self._address = protocols.address_of(url, server_key, client_key)
        self._defaults = defaults_of(timeout_s, priority)
        self._protocol = protocols.protocol_for(self._address)
        self._transport = protocols.awaited_transport(self._address)

    @overload
    async def predict(
        self,
        model: str,
        picture: Source,
        /,
        *,
        draw: Draw = "",
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
        **parameters: Any,
    ) -> Detections | Prediction: ...
    @overload
    async def predict(
        self,
        model: str,
        picture: Several[S],
        /,
        *,
        draw: Draw = "",
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
        **parameters: Any,
    ) -> list[Detections | Prediction]: ...
    async def predict(
        self,
        model: str,
        picture: Source | Several[S],
        /,
        *,
        draw: Draw = "",
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
        **parameters: Any,
    ) -> Detections | Prediction | list[Detections | Prediction]:
        """See Client.predict. Cancelling the task takes the request back."""
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters)
        check_draw(draw)

        async def one(source: Source) -> Detections | Prediction:
            steps = self._protocol.predict_all(call, await load_async(source), draw)
            return last_prediction(await drive_async(steps, self._transport.exchange))

        if not isinstance(picture, list | tuple):
            return await one(picture)
        gate = asyncio.Semaphore(AT_ONCE)

        async def in_turn(source: Source) -> Detections | Prediction:
            async with gate:
                return await one(source)

        tasks = [asyncio.ensure_future(in_turn(source)) for source in picture]
        try:
            return [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def predict_all(
        self,
        model: str,
        picture: Source,
        /,
        *,
        draw: Draw = "",
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
        **parameters: Any,
    ) -> list[Detections | Prediction]:
        """See Client.predict_all."""
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters)
        check_draw(draw)
        steps = self._protocol.predict_all(call, await load_async(picture), draw)
        return await drive_async(steps, self._transport.exchange)

    def predict_many(
        self,
        model: str,
        sources: Iterable[Source] | AsyncIterable[Source] | many.Folder,
        /,
        *,
        window: int = many.WINDOW,
        draw: Draw = "",
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
        progress: Progress = False,
        **parameters: Any,
    ) -> AsyncItems[Source, Detections | Prediction, Item]:
        """See Client.predict_many; the pictures may also come from an asynchronous iterable. `aclose` closes it."""
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters)
        check_draw(draw)
        check_window(window)
        one = partial(predict_one, self._protocol, call, draw)
        return AsyncItems(self._transport, many.any_pictures_of(sources), one, Item, window, progress, model)

    def infer_many(
        self,
        model: str,
        batches: Iterable[Mapping[str, ArrayLike]] | AsyncIterable[Mapping[str, ArrayLike]],
        /,
        *,
        window: int = many.WINDOW,
        parameters: Mapping[str, Any] | None = None,
        outputs: Items[str] = (),
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
        progress: Progress = False,
    ) -> AsyncItems[Mapping[str, ArrayLike], InferResult, InferItem]:
        """See Client.infer_many; the inputs may also come from an asynchronous iterable."""
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters or {})
        check_window(window)
        one = partial(infer_one, self._protocol, call, list(outputs))
        return AsyncItems(self._transport, many.any_inputs_of(batches), one, InferItem, window, progress, model)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Items[str] = (),
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> InferResult:
        """See Client.infer."""
        return last_result(
            await self.infer_all(
                model, inputs, parameters=parameters, outputs=outputs, version=version, timeout_s=timeout_s,
                priority=priority,
            )
        )  # fmt: skip

    async def infer_all(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Items[str] = (),
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> list[InferResult]:
        """See Client.infer_all."""
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters or {})
        steps = self._protocol.infer_all(call, arrays_of(inputs), list(outputs))
        return await drive_async(steps, self._transport.exchange)

    def sequence(
        self,
        model: str,
        *,
        version: str = "",
        sequence_id: int | str | None = None,
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> AsyncSequence:
        """See Client.sequence; use it in an `async with` block."""
        template = make_call(self._defaults, model, version, timeout_s, priority, {})
        return AsyncSequence(self._protocol, self._transport, template, sequence_id_of(sequence_id))

    async def models(self) -> list[ModelInfo]:
        """See Client.models."""
        return await drive_async(self._protocol.models(), self._transport.exchange)

    async def is_ready(self, model: str | None = None, *, version: str = "") -> bool:
        """See Client.is_ready."""
        try:
            return await drive_async(self._protocol.is_ready(model or "", version), self._transport.exchange)
        except (ConnectionFailed, ModelUnavailable):
            return False

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._address.url!r})"
