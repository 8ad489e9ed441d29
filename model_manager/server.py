"""The model manager's process: the registry socket and the admin API on one loop.

What changes the registry is manager.py; the HTTP answers are admin.py.
"""

import asyncio
import contextlib
import errno
import gc
import os
import socket
from collections.abc import Iterator

import uvicorn

from inferoxy import logs
from inferoxy.config import Settings, split_address
from inferoxy.errors import InferoxyError
from inferoxy.lifecycle import Lifecycle
from inferoxy.sockets import LoopSocket, context, router
from model_manager.admin import make_app
from model_manager.manager import Manager
from model_manager.stores.sqlite_store import SqliteStore

EXIT_BAD_INPUT = 2
EXIT_ADDRESS_TAKEN = 3
DATABASE = "registry.sqlite3"
ADMIN_STOP_S = 2.0  # admin calls are short; uvicorn gets this long to end

_log = logs.get()


def run(settings: Settings) -> int:
    """Serve until told to end.

    Returns:
        The exit code: 0 told to end, 2 models.yaml or the store is unusable, 3 an address is taken.
    """
    logs.setup("model_manager", settings.log_level, settings.log_format)
    return asyncio.run(_serve(settings, Lifecycle()))


async def _serve(settings: Settings, lifecycle: Lifecycle) -> int:
    async with contextlib.AsyncExitStack() as stack:
        try:
            store = SqliteStore(settings.data_dir / DATABASE)
            stack.callback(store.close)
            manager = Manager(store, settings.models)
            await manager.open()
        except InferoxyError as exc:
            _log.error("registry not usable", reason=exc.message)
            return EXIT_BAD_INPUT
        try:
            admin_socket = listen(settings.admin) if settings.admin else None
            ctx = context()
            stack.callback(ctx.destroy, 0)
            registry_socket = LoopSocket(router(ctx, settings.registry), manager.on_message)
        except OSError as exc:
            _log.error("address not usable", reason=exc.strerror)
            return EXIT_ADDRESS_TAKEN
        stack.callback(remove_socket_file, settings.registry)
        stack.callback(registry_socket.close)
        manager.attach(registry_socket)
        if admin_socket:
            stack.push_async_callback(_stop, *_start_admin(manager, settings, admin_socket))
        # What is loaded by now stays: collecting it again and again would only cost time.
        gc.freeze()
        _log.info("ready", models=len(manager.registry.models), revision=manager.registry.revision)
        lifecycle.ready()
        await lifecycle.wait()
        _log.info("ending")
    return 0


class _Server(uvicorn.Server):
    """uvicorn on our loop; signals are lifecycle.py's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _start_admin(manager: Manager, settings: Settings, sock: socket.socket) -> tuple[_Server, "asyncio.Task[None]"]:
    app = make_app(manager, split_address(settings.admin)[0])
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=int(ADMIN_STOP_S)
    )
    server = _Server(config)
    return server, asyncio.create_task(server.serve(sockets=[sock]))


async def _stop(server: _Server, task: "asyncio.Task[None]") -> None:
    server.should_exit = True
    await asyncio.wait([task], timeout=2 * ADMIN_STOP_S)


def listen(address: str) -> socket.socket:
    """A listening TCP socket at HOST:PORT.

    Raises:
        OSError: It is taken or may not be bound; the message names it.
    """
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen(128)
        except OSError:
            sock.close()
            raise
    except OSError as exc:
        raise OSError(exc.errno or errno.EADDRINUSE, f"cannot listen on {address}: {exc.strerror}") from exc
    return sock


def remove_socket_file(endpoint: str) -> None:
    """Remove the file of an ipc endpoint."""
    if endpoint.startswith("ipc://"):
        with contextlib.suppress(OSError):
            os.unlink(endpoint[6:])
