"""`Client`: the same methods over every protocol, for threads.

The address says which protocol is spoken. What its operations are is the protocol modules', its connection the
transports'.
"""

from collections.abc import Generator, Iterable, Mapping
from collections.abc import Sequence as Items
from concurrent.futures import ThreadPoolExecutor
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
from inferoxy.client.async_many import infer_one, predict_one
from inferoxy.client.blocking_many import each
from inferoxy.client.calls import ConnectionFailed, drive
from inferoxy.client.loop_thread import LoopThread
from inferoxy.client.many import InferItem, Item
from inferoxy.client.pictures import Source, load
from inferoxy.client.progress import Progress
from inferoxy.client.results import Detections, InferResult, ModelInfo, Prediction, last_prediction, last_result
from inferoxy.client.sequence import Sequence
from inferoxy.errors import ModelUnavailable


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
        server_key: Of a ZeroMQ bridge that encrypts: its public key, or a file that holds it; None: as the environment
            variable INFEROXY_ZMQ_SERVER_KEY says.
        client_key: The client's secret file, as `inferoxy keys new` makes it, for a bridge that lets in only whom it
            knows; None: as INFEROXY_ZMQ_CLIENT_KEY says.

    Raises:
        InvalidRequest: The address is none of these forms, or a key or its file is wrong.
    """

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
        self._transport = protocols.blocking_transport(self._address)
        self._many = LoopThread(lambda: protocols.awaited_transport(self._address), self._address.url)

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
            picture: A JPEG, PNG or WebP file as a path, bytes or an open file, an RGB array uint8 [height, width, 3] or
                a PIL.Image; or a list or tuple of such. Several pictures are requests of their own, many of them under
                way at once.
            draw: Also bring the picture with the findings drawn, in this encoding.
            version: The model's version; empty: the default one.
            timeout_s: Instead of the client's.
            priority: Instead of the client's.
            **parameters: For the model, such as confidence=0.5; JSON-able.

        Returns:
            Detections where the model finds boxes, else Prediction; for several, a list in the same order. Of a model
            that answers one request several times it is the last answer, with all of them in its `parts`.

        Raises:
            InferoxyError: What happened instead; for several, to the first picture that failed.
            OSError: A file cannot be read.
        """
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters)
        check_draw(draw)

        def one(source: Source) -> Detections | Prediction:
            return last_prediction(
                drive(self._protocol.predict_all(call, load(source), draw), self._transport.exchange)
            )

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

    def predict_all(
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
        """All answers of a model that may answer a request any number of times; see `predict`.

        With `draw` over HTTP there can be one only; a model that gives more fails with UNSUPPORTED.
        """
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters)
        check_draw(draw)
        return drive(self._protocol.predict_all(call, load(picture), draw), self._transport.exchange)

    def predict_many(
        self,
        model: str,
        sources: Iterable[Source] | many.Folder,
        /,
        *,
        window: int = many.WINDOW,
        draw: Draw = "",
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
        progress: Progress = False,
        **parameters: Any,
    ) -> Generator[Item, None, None]:
        """`predict` for any number of pictures, one failure leaving the others alone.

        Args:
            model: Its name.
            sources: Pictures as in `predict`, taken one by one in the caller's thread when there is room for them; or
                a folder, whose .jpg, .jpeg, .png and .webp files are sent, those of its folders too, sorted.
            window: The most requests under way.
            draw: As in `predict`.
            version: As in `predict`.
            timeout_s: As in `predict`, for each picture.
            priority: As in `predict`.
            progress: True for a bar on stderr, if that is a terminal; or a function, called before each item is given
                with the number that is done and the number there is (None: not known).
            **parameters: As in `predict`, with each picture.

        Returns:
            An iterator of Item(source, answer, error) in the order of the sources. Closing it, or dropping it, takes
            back what is under way.

        Raises:
            InvalidRequest: An argument is wrong.
            ConnectionFailed: The server cannot be reached or was lost, while iterating.
        """
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters)
        check_draw(draw)
        check_window(window)
        one = partial(predict_one, self._protocol, call, draw)
        return each(self._many, many.pictures_of(sources), one, Item, window, progress, model)

    def infer_many(
        self,
        model: str,
        batches: Iterable[Mapping[str, ArrayLike]],
        /,
        *,
        window: int = many.WINDOW,
        parameters: Mapping[str, Any] | None = None,
        outputs: Items[str] = (),
        version: str = "",
        timeout_s: float | None = None,
        priority: int | None = None,
        progress: Progress = False,
    ) -> Generator[InferItem, None, None]:
        """`infer` for any number of requests; see `predict_many`. `batches` gives the inputs of each."""
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters or {})
        check_window(window)
        one = partial(infer_one, self._protocol, call, list(outputs))
        return each(self._many, many.inputs_of(batches), one, InferItem, window, progress, model)

    def infer(
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
        """A model's output tensors for input tensors; of several answers the last, with all of them in its `parts`.

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
        return last_result(
            self.infer_all(
                model, inputs, parameters=parameters, outputs=outputs, version=version, timeout_s=timeout_s,
                priority=priority,
            )
        )  # fmt: skip

    def infer_all(
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
        """All answers of a model that may answer a request any number of times; see `infer`.

        Over HTTP there can be one only; a model that gives more fails with UNSUPPORTED.
        """
        call = make_call(self._defaults, model, version, timeout_s, priority, parameters or {})
        return drive(self._protocol.infer_all(call, arrays_of(inputs), list(outputs)), self._transport.exchange)

    def sequence(
        self,
        model: str,
        *,
        version: str = "",
        sequence_id: int | str | None = None,
        timeout_s: float | None = None,
        priority: int | None = None,
    ) -> Sequence:
        """Requests to a stateful model that share its state; use it in a `with` block. Nothing is sent yet.

        Args:
            model: Its name.
            version: The model's version; empty: the default one.
            sequence_id: 1..2^64-1 or text; None: a random one. Over HTTP and gRPC it must be unique among all clients
                of the model, over ZeroMQ on this connection.
            timeout_s: Instead of the client's, for each request.
            priority: Instead of the client's.

        Raises:
            InvalidRequest: Something is out of range.
        """
        template = make_call(self._defaults, model, version, timeout_s, priority, {})
        return Sequence(self._protocol, self._transport, template, sequence_id_of(sequence_id))

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
        self._many.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._address.url!r})"
