"""HTTP connections to the REST bridge, for threads and for the tasks of a loop. The only importer of httpx.

httpx looks through all connections of a pool for every request; many small pools keep that short (measured with 64
requests under way: 395 requests/s from one pool, more than twice that from pools of 8).
Invariant: a request is tried again only where its connection was refused, so nothing of it had been sent.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import httpx

from inferoxy.client.address import Address
from inferoxy.client.calls import CONNECT_S, ConnectionFailed, broken, unreachable
from inferoxy.client.http_protocol import HttpExchange, HttpReply
from inferoxy.errors import DeadlineExceeded, InferoxyError

RETRY_S = 0.05  # before the first retry; doubled before each further one
KEEPALIVE_S = 60.0  # shorter than the server's, so that a connection is not reused at the moment it is closed
POOL_CONNECTIONS = 8
MAX_POOLS = 32

_LIMITS = httpx.Limits(
    max_connections=POOL_CONNECTIONS, max_keepalive_connections=POOL_CONNECTIONS, keepalive_expiry=KEEPALIVE_S
)
_Http = TypeVar("_Http", httpx.Client, httpx.AsyncClient)


class Pools(Generic[_Http]):
    """Pools of connections, the busier ones first in use; safe for threads."""

    def __init__(self, make: Callable[[], _Http]) -> None:
        self._make: Callable[[], _Http] = make
        self._lock = threading.Lock()
        self._under_way: dict[_Http, int] = {}
        self._is_closed = False

    def take(self) -> _Http:
        """A pool with room, or else the least busy one; give it back.

        Raises:
            RuntimeError: They are closed.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError
            pool = next((p for p, count in self._under_way.items() if count < POOL_CONNECTIONS), None)
            if pool is None:
                if len(self._under_way) < MAX_POOLS:
                    pool = self._make()
                    self._under_way[pool] = 0
                else:
                    pool = min(self._under_way, key=self._under_way.__getitem__)
            self._under_way[pool] += 1
            return pool

    def give_back(self, pool: _Http) -> None:
        """The request is over."""
        with self._lock:
            self._under_way[pool] -= 1

    def close(self) -> list[_Http]:
        """Give out no more; what there is to close."""
        with self._lock:
            self._is_closed = True
            return list(self._under_way)


class BlockingHttp:
    """For Client."""

    def __init__(self, address: Address) -> None:
        self._url = address.url
        options = _options(address)
        self._pools: Pools[httpx.Client] = Pools(lambda: httpx.Client(**options))

    def exchange(self, asked: HttpExchange) -> HttpReply:
        """Post and wait for the answer.

        Raises:
            ConnectionFailed: The server cannot be reached, or the connection broke.
            DeadlineExceeded: No answer came in time.
        """
        give_up_at, pause_s = time.monotonic() + min(CONNECT_S, asked.wait_s), RETRY_S
        while True:
            pool = self._take()
            try:
                return _received(pool, asked)
            except httpx.ConnectError as exc:
                if time.monotonic() + pause_s > give_up_at:
                    raise unreachable(self._url, _reason(exc)) from exc
            except (httpx.HTTPError, RuntimeError) as exc:
                raise _error(self._url, exc, asked, pool.is_closed) from exc
            finally:
                self._pools.give_back(pool)
            time.sleep(pause_s)
            pause_s *= 2

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.close():
            pool.close()

    def _take(self) -> httpx.Client:
        try:
            return self._pools.take()
        except RuntimeError:
            raise _closed(self._url) from None


class AwaitedHttp:
    """For AsyncClient."""

    def __init__(self, address: Address) -> None:
        self._url = address.url
        options = _options(address)
        self._pools: Pools[httpx.AsyncClient] = Pools(lambda: httpx.AsyncClient(**options))
        self._requests: set[asyncio.Future[httpx.Response]] = set()

    async def exchange(self, asked: HttpExchange) -> HttpReply:
        """Post and wait for the answer; the connection is closed, and the server told so, when the task is cancelled.

        Raises:
            ConnectionFailed: The server cannot be reached, or the connection broke.
            DeadlineExceeded: No answer came in time.
        """
        give_up_at, pause_s = time.monotonic() + min(CONNECT_S, asked.wait_s), RETRY_S
        while True:
            pool = self._take()
            try:
                return await self._ask(pool, asked)
            except TimeoutError as exc:
                raise _late(self._url, asked) from exc
            except httpx.ConnectError as exc:
                if time.monotonic() + pause_s > give_up_at:
                    raise unreachable(self._url, _reason(exc)) from exc
            except (httpx.HTTPError, RuntimeError) as exc:
                raise _error(self._url, exc, asked, pool.is_closed) from exc
            finally:
                self._pools.give_back(pool)
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        pools = self._pools.close()
        requests = list(self._requests)
        for request in requests:
            request.cancel()  # a connection that is being made would be left over in a closed pool
        await asyncio.gather(*requests, return_exceptions=True)
        for pool in pools:
            await pool.aclose()

    async def _ask(self, pool: httpx.AsyncClient, asked: HttpExchange) -> HttpReply:
        request = asyncio.ensure_future(pool.request(**_arguments(asked)))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        try:
            async with asyncio.timeout(asked.wait_s):
                return _reply(await request)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not (task and task.cancelling()):  # by `close`
                raise _closed(self._url) from None
            raise

    def _take(self) -> httpx.AsyncClient:
        try:
            return self._pools.take()
        except RuntimeError:
            raise _closed(self._url) from None


def _received(pool: httpx.Client, asked: HttpExchange) -> HttpReply:
    """The answer, of which every part must come in time, however many there are."""
    give_up_at = time.monotonic() + asked.wait_s
    with pool.stream(**_arguments(asked)) as response:
        parts = []
        for part in response.iter_bytes():
            parts.append(part)
            if time.monotonic() > give_up_at:
                raise httpx.ReadTimeout("the answer came too slowly")
    return HttpReply(response.status_code, response.headers, parts[0] if len(parts) == 1 else b"".join(parts))


def _options(address: Address) -> dict[str, Any]:
    verify: ssl.SSLContext | bool = httpx.create_ssl_context() if address.target.startswith("https:") else False
    return {
        "base_url": address.target,
        "headers": {"accept-encoding": "identity"},  # compressing tensors takes longer than sending them
        "limits": _LIMITS,
        "trust_env": not address.loopback,
        "verify": verify,
    }


def _arguments(asked: HttpExchange) -> dict[str, Any]:
    return {
        "method": asked.method,
        "url": asked.path,
        "headers": asked.headers,
        "content": asked.body or None,
        "timeout": httpx.Timeout(asked.wait_s, connect=min(CONNECT_S, asked.wait_s)),
    }


def _reply(response: httpx.Response) -> HttpReply:
    return HttpReply(response.status_code, response.headers, response.content)


def _error(url: str, exc: Exception, asked: HttpExchange, is_closed: bool) -> InferoxyError:
    if isinstance(exc, httpx.ConnectTimeout):
        return unreachable(url, _reason(exc))
    if isinstance(exc, httpx.TimeoutException):
        return _late(url, asked)
    if is_closed:
        return _closed(url)
    if isinstance(exc, RuntimeError):
        raise exc
    return broken(url, _reason(exc))


def _late(url: str, asked: HttpExchange) -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer from {url} within {asked.wait_s:g} s")


def _closed(url: str) -> ConnectionFailed:
    return ConnectionFailed(f"the client of {url} is closed")


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
