"""A gRPC server whose methods fail as they are asked to: `python -m tests.integration.refusing_server` prints its port.

Each message is JSON {"code", "text", "how"}. The method Held tells how many refused calls still hold something; the
garbage collector is off.
"""

import asyncio
import gc
import json
import weakref
from typing import Any

import grpc

from bridges.grpc import calls
from inferoxy import logs
from inferoxy.errors import STATUS, V2_STATUS, Code, InferoxyError


class _Large:
    """Stands for what a call holds."""


class _Answer:
    """What a server can send."""

    def __init__(self, text: str) -> None:
        self._text = text

    def SerializeToString(self) -> bytes:
        return self._text.encode()


_held: list[weakref.ref[_Large]] = []


async def _fail(data: bytes, context: Any, name: str) -> Any:
    large = _Large()
    _held.append(weakref.ref(large))
    asked = json.loads(data)
    error: Exception = InferoxyError(asked["text"], Code(asked["code"]))
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if asked.get("how") == "bug":
        raise ZeroDivisionError("a bug")
    if asked.get("how") == "caused":
        try:
            raise KeyError("first")
        except KeyError as exc:
            error.__cause__ = exc
    done.set_exception(error)
    await done


async def _converse(context: Any, name: str) -> None:
    await _fail(await context.read(), context, name)


async def _tell_held(data: bytes, context: Any, name: str) -> Any:
    return _Answer(json.dumps([ref() is not None for ref in _held]))


async def _main() -> None:
    logs.setup("refusing_server", "error", "json")  # to stderr: whoever reads the port reads nothing else
    server = grpc.aio.server()
    methods = {
        "Ours": calls.unary(_fail, STATUS),
        "V2": calls.unary(_fail, V2_STATUS),
        "Stream": calls.bidirectional(_converse, STATUS),
        "Held": calls.unary(_tell_held, STATUS),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("refusing", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.collect()
    gc.disable()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_main())
