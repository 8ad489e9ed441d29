"""The gRPC bridge's process: a grpc.aio server with both inference services, health and reflection.

A message over the limit is refused by calls.py, which can say so; gRPC refuses only those far over it.
"""

import asyncio
from typing import Any

import grpc
import zmq
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bridges import serving
from bridges.grpc import calls, picture_service, service
from bridges.link import Link
from inferoxy import logs
from inferoxy.config import Settings

HEALTH_PERIOD_S = 0.25  # how soon the health service says that readiness has changed
MIN_PING_INTERVAL_MS = 1_000  # clients may send keepalive pings this often
SERVICES = (service.SERVICE, picture_service.SERVICE)


def run(settings: Settings) -> int:
    """Run the gRPC bridge until told to end; the exit code."""
    return serving.run("bridge_grpc", settings, listen)


async def listen(settings: Settings, link: Link, context: zmq.Context[Any]) -> "GrpcServer":
    """Begin to serve.

    Raises:
        OSError: The address is taken or may not be bound; the message names it.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", calls.largest_message(settings.limits)),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a taken port is an error, not a silent share
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
            ("grpc.http2.max_ping_strikes", 0),
        ]
    )
    draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tensors = service.InferenceService(link, settings, draining)
    pictures = picture_service.PictureService(link, settings.limits, draining)
    server.add_generic_rpc_handlers((tensors.handler(), pictures.handler()))
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        server.add_insecure_port(settings.grpc)
    except RuntimeError as exc:
        raise OSError(f"cannot listen on {settings.grpc}: the address is taken or may not be bound") from exc
    await server.start()
    logs.get().info("listening", grpc=settings.grpc)
    return GrpcServer(server, checks, link, draining)


class GrpcServer:
    """The running server, and the task that keeps its health service up to date."""

    def __init__(self, server: Any, checks: Any, link: Link, draining: asyncio.Future[None]) -> None:
        self._server = server
        self._checks = checks
        self._link = link
        self._draining = draining
        self._watch = asyncio.ensure_future(self._watch_readiness())

    async def drain(self, timeout_s: float) -> None:
        """Accept no further call; return when the open ones are answered, or the time is over.

        Open streams read nothing further and end when what they have read is answered.
        """
        self._watch.cancel()
        self._draining.set_result(None)
        await self._checks.enter_graceful_shutdown()
        await self._server.stop(timeout_s)

    async def close(self) -> None:
        """End whatever is left."""
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        await self._server.stop(0)

    async def _watch_readiness(self) -> None:
        states = health_pb2.HealthCheckResponse
        shown: Any = None
        while True:
            found = states.SERVING if self._link.is_ready else states.NOT_SERVING
            if found != shown:
                for name in ("", *SERVICES):
                    await self._checks.set(name, found)
                shown = found
            await asyncio.sleep(HEALTH_PERIOD_S)
