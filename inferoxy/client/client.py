"""`Client` and `AsyncClient`: the same methods over every protocol.

The address says which protocol is spoken. What its operations are is the protocol modules', its connection the
transports'.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from inferoxy.client import address as addresses
from inferoxy.client import protocols
from inferoxy.client.calls import Call, ConnectionFailed, drive, drive_async
from inferoxy.client.pictures import Source, load
from inferoxy.client.results import Detections, InferResult, ModelInfo, Prediction
from inferoxy.errors import InvalidRequest, ModelUnavailable
from inferoxy.tensors import Array

AT_ONCE = 16  # pictures of one call under way at the same time: enough for full batches, far below queue limits
PRIORITY_LIMIT = 999

Draw = Literal["", "jpeg", "png"]
S = TypeVar("S", bound=Source)
Several = list[S] | tuple[S, ...]


class Client:
    """A connection to an Inferoxy server, for any number of threads.

    Every method raises InferoxyError or one of its subclasses: ModelNotFound, InvalidRequest, ModelError,
    DeadlineExceeded, …, and ConnectionFailed (also a ConnectionError) when the server cannot be reached. A request is
    sent again only where the first try was refused before anything of it was sent. Nothing is connected before the
    first call. Close the client, or use it in a `with` block.

    Args:
        url: http://HOST:PORT, https://HOST:PORT, grpc://HOST:PORT, tcp://HOST:PORT or ipc://PATH.
        timeout_s: How long each request may take, waiting in the queue included; None: what the model's own
            configuration says.
        priority: 1..999, higher goes first; 0: the model's own.

    Raises:
        InvalidRequest: The address is none of these forms.
    """

    def __init__(self, url: str = addresses.DEFAULT_URL, *, timeout_s: float | None = None, priority: int = 0) -> None:
        self._address = addresses.parse(url)
        self._defaults = _defaults(timeout_s, priority)
        self._protocol = protocols.protocol_for(self._address)
        self._transport = protocols.blocking_transport(self._address)

    @overload
    def predict(
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
    def predict(
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
    def predict(
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
        """What a model finds in a picture.

        Args:
            model: Its name.
            picture: A JPEG, PNG or WebP file's path or bytes, an RGB array uint8 [height, width, 3], or a list or tuple
                of such. Several pictures are requests of their own, many of them under way at once.
            draw: Also bring the picture with the findings drawn, in this encoding.
            version: The model's version; empty: the default one.
            timeout_s: Instead of the client's.
            priority: Instead of the client's.
            **parameters: For the model, such as confidence=0.5; JSON-able.

        Returns:
            Detections where the model finds boxes, else Prediction; for several, a list in the same order.

        Raises:
            InferoxyError: What happened instead; for several, to the first picture that failed.
            OSError: A file cannot be read.
        """
        call = _call(self._defaults, model, version, timeout_s, priority, parameters)
        _check_draw(draw)

        def one(source: Source) -> Detections | Prediction:
            return drive(self._protocol.predict(call, load(source), draw), self._transport.exchange)

        if not isinstance(picture, list | tuple):
            return one(picture)
        if not picture:
            return []
        with ThreadPoolExecutor(min(AT_ONCE, len(picture)), "inferoxy-predict") as pool:
            futures = [pool.submit(one, source) for source in picture]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> InferResult:
        """A model's output tensors for input tensors.

        Args:
            model: Its name.
            inputs: Arrays by input name, of the dtypes the model declares; strings and bytes travel as BYTES.
            parameters: For the model; JSON-able.
            outputs: The wanted outputs; empty: all.
            version: The model's version; empty: the default one.
            timeout_s: Instead of the client's.
            priority: Instead of the client's.

        Raises:
            InferoxyError: What happened instead.
        """
        call = _call(self._defaults, model, version, timeout_s, priority, parameters or {})
        return drive(self._protocol.infer(call, _arrays(inputs), list(outputs)), self._transport.exchange)

    def models(self) -> list[ModelInfo]:
        """The registered models, every version of each."""
        return drive(self._protocol.models(), self._transport.exchange)

    def is_ready(self, model: str | None = None, *, version: str = "") -> bool:
        """Whether the server takes requests or, given a model, whether a request to that would be run.

        A model that is not running but starts with its first request is ready. False for a model that is not
        registered, and when the server is not there.
        """
        try:
            return drive(self._protocol.is_ready(model or "", version), self._transport.exchange)
        except (ConnectionFailed, ModelUnavailable):
            return False

    def close(self) -> None:
        """Close the connection; calls under way in other threads fail."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._address.url!r})"


class AsyncClient:
    """`Client` with methods to await, for the tasks of one event loop. Use it in an `async with` block."""

    def __init__(self, url: str = addresses.DEFAULT_URL, *, timeout_s: float | None = None, priority: int = 0) -> None:
        self._address = addresses.parse(url)
        self._defaults = _defaults(timeout_s, priority)
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
        call = _call(self._defaults, model, version, timeout_s, priority, parameters)
        _check_draw(draw)

        async def one(source: Source) -> Detections | Prediction:
            loaded = await asyncio.to_thread(load, source) if isinstance(source, str | PathLike) else load(source)
            return await drive_async(self._protocol.predict(call, loaded, draw), self._transport.exchange)

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

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> InferResult:
        """See Client.infer."""
        call = _call(self._defaults, model, version, timeout_s, priority, parameters or {})
        steps = self._protocol.infer(call, _arrays(inputs), list(outputs))
        return await drive_async(steps, self._transport.exchange)

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


def _defaults(timeout_s: float | None, priority: int) -> Call:
    return _checked(Call("", timeout_s=0.0 if timeout_s is None else timeout_s, priority=priority), timeout_s)


def _call(
    defaults: Call,
    model: str,
    version: str,
    timeout_s: float | None,
    priority: int | None,
    parameters: Mapping[str, Any],
) -> Call:
    if not model or not isinstance(model, str):
        raise InvalidRequest(f"model: expected a name, found {model!r}")
    call = Call(
        model,
        str(version),
        defaults.timeout_s if timeout_s is None else timeout_s,
        defaults.priority if priority is None else priority,
        {name: _plain(value) for name, value in parameters.items()},
        secrets.token_hex(8),
    )
    return _checked(call, timeout_s)


def _checked(call: Call, timeout_s: float | None) -> Call:
    if timeout_s is not None and not 0 < timeout_s <= 86_400:
        raise InvalidRequest(f"timeout_s: expected more than 0 and at most 86400 seconds, found {timeout_s!r}")
    if not 0 <= call.priority <= PRIORITY_LIMIT:
        raise InvalidRequest(f"priority: expected 0..{PRIORITY_LIMIT}, found {call.priority!r}")
    return call


def _check_draw(draw: str) -> None:
    if draw not in ("", "jpeg", "png"):
        raise InvalidRequest(f"draw: expected jpeg, png or empty, found {draw!r}")


def _plain(value: Any) -> Any:
    """numpy's scalars and arrays as Python's numbers and lists, at any depth."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _arrays(inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    return {name: np.asarray(value) for name, value in inputs.items()}
