"""The running registry: applies changes to the store first and then to all who hold the catalog.

Leaves HTTP to admin.py, the process to server.py.
Invariants: what has not been saved is neither shown nor sent; changes happen one at a time, in order;
a models.yaml that cannot be used changes nothing.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inferoxy import logs
from inferoxy.errors import ConfigError, InvalidRequest, ModelUnavailable
from inferoxy.messages import Catalog, Command, Report, Subscribe
from inferoxy.sockets import Frame, LoopSocket
from inferoxy.wire import decode, encode
from model_manager import models_yaml
from model_manager.registry import Registry
from model_manager.stores.base import Store

SILENT_AFTER_S = 5.0  # a subscriber speaks every second
TASK_MANAGER = b"task_manager"

_log = logs.get()


@dataclass
class Reported:
    """What a component said last, and when (monotonic seconds)."""

    report: dict[str, Any]
    at: float


class Manager:
    """One per process; lives on its asyncio loop."""

    def __init__(self, store: Store, models_file: Path | None, now: Callable[[], float] = time.monotonic) -> None:
        self.registry = Registry()
        self.models_file = models_file
        self.file_error = ""
        self.reports: dict[str, Reported] = {}
        self._store = store
        self._now = now
        self._socket: LoopSocket | None = None
        self._subscribers: dict[bytes, float] = {}  # when each was heard last
        self._changing = asyncio.Lock()

    async def open(self) -> None:
        """Take up the stored registry and read models.yaml.

        Raises:
            ConfigError: models.yaml cannot be used and there is no earlier content of it to go on with.
            StoreUnavailable: The store cannot be read or written.
        """
        self.registry = await asyncio.to_thread(self._store.load)
        try:
            await self.change(self.reread)
        except ConfigError as exc:
            if not self.registry.file:
                raise
            _log.error("models file refused, its last valid content holds", reason=str(exc))

    def attach(self, socket: LoopSocket) -> None:
        """Answer subscribers on this socket from now on."""
        self._socket = socket

    def reread(self, registry: Registry) -> Registry:
        """The registry with models.yaml as it is now; for `change`.

        Raises:
            ConfigError: The file cannot be used; `file_error` keeps the reason until it can.
        """
        try:
            specs = models_yaml.load(self.models_file) if self.models_file else []
        except ConfigError as exc:
            self.file_error = str(exc)
            raise
        self.file_error = ""
        return registry.with_file(specs)

    async def change(self, step: Callable[[Registry], Registry]) -> Registry:
        """Take one step from the registry as it is then, save it, and tell everyone.

        Raises:
            InferoxyError: The step, or saving, failed; nothing has changed.
        """
        async with self._changing:
            before = self.registry
            after = await asyncio.to_thread(step, before)
            if (after.file, after.overrides) != (before.file, before.overrides):
                await asyncio.to_thread(self._store.save, after)
            self.registry = after
            if after.revision != before.revision:
                _log.info("catalog changed", revision=after.revision, models=len(after.models))
                for identity in list(self._subscribers):
                    self._send_catalog(identity)
            return after

    def on_message(self, frames: list[Frame]) -> None:
        """Take one message of the registry socket."""
        identity = bytes(frames[0])
        try:
            for message, _ in decode(frames[1:]):
                match message:
                    case Subscribe():
                        self._subscribers[identity] = self._now()
                        if message.revision != self.registry.revision:
                            self._send_catalog(identity)
                    case Report():
                        self.reports[message.component] = Reported(message.report, self._now())
                    case _:
                        _log.warning("unexpected message", peer=identity, kind=message.kind)
        except InvalidRequest as exc:
            _log.warning("message refused", peer=identity, reason=exc.message)

    def command(self, action: Literal["load", "unload"], slug: str) -> list[str]:
        """Have a model loaded (its default version unless the slug names one) or unloaded (all versions of a name).

        Returns:
            The versions concerned.

        Raises:
            ModelNotFound: It is not registered.
            ModelUnavailable: No task manager is there to do it.
        """
        specs = [self.registry.find(slug)] if action == "load" else self.registry.select(slug)
        if not self.is_connected(TASK_MANAGER) or self._socket is None:
            raise ModelUnavailable(f"cannot {action} {slug!r}: no task manager is connected")
        for spec in specs:
            message = Command(action=action, model=spec.name, model_version=spec.version)
            if not self._socket.send([TASK_MANAGER, *encode(message)]):
                raise ModelUnavailable(f"cannot {action} {slug!r}: the task manager has gone away")
        return [spec.version for spec in specs]

    def is_connected(self, identity: bytes) -> bool:
        """Whether this subscriber has been heard of lately."""
        return self._now() - self._subscribers.get(identity, -SILENT_AFTER_S) < SILENT_AFTER_S

    def status(self) -> dict[str, dict[str, Any]]:
        """The latest report of every component, with its age; `silent` when it should have spoken again."""
        now = self._now()
        return {
            name: {**said.report, "age_s": round(now - said.at, 3), "silent": now - said.at > SILENT_AFTER_S}
            for name, said in sorted(self.reports.items())
        }

    def _send_catalog(self, identity: bytes) -> None:
        if self._socket is None:
            return
        message = Catalog(revision=self.registry.revision, models=list(self.registry.models))
        if not self._socket.send([identity, *encode(message)]):
            self._subscribers.pop(identity, None)  # it subscribes again when it is back
