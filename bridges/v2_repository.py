"""The Open Inference Protocol's repository: which models there are, and loading and unloading them.

Loading starts an instance now; unloading stops all, and the next request starts one again.

Source: Triton's extension "model repository".
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from bridges.link import Link
from bridges.models import ModelIndex, is_ready
from inferoxy.errors import InvalidRequest, ModelUnavailable
from inferoxy.messages import Command, ModelView

LOOK_S = 0.02
MARGIN_S = 5.0  # beyond load_timeout_s, for what comes before loading
UNLOAD_S = 30.0
_IGNORED = {"unload_dependents"}  # there are none


def index(models: ModelIndex, ready_only: bool) -> list[dict[str, str]]:
    """A line for each model version, by name. One that starts when asked for is READY."""
    return [
        {
            "name": view.spec.name,
            "version": view.spec.version,
            "state": "READY" if is_ready(view) else "LOADING" if view.state == "starting" else "UNAVAILABLE",
            "reason": view.error,
        }
        for view in models.all()
        if is_ready(view) or not ready_only
    ]


async def load(link: Link, name: str, parameters: Mapping[str, Any]) -> None:
    """Start an instance, unless there is one, and wait until it is ready.

    Raises:
        ModelNotFound: No such model.
        InvalidRequest: There are parameters.
        ModelUnavailable: It cannot be started, or not in time.
    """
    view = link.models.require(name)
    _check(parameters)
    if not view.instances:
        await _start(link, name, view.spec.version, lambda found: found.instances > 0)


async def unload(link: Link, name: str, parameters: Mapping[str, Any]) -> None:
    """Drain all instances of all versions, and wait until they are gone.

    Raises:
        ModelNotFound: No such model.
        InvalidRequest: There are parameters.
        ModelUnavailable: They are still there after UNLOAD_S.
    """
    link.models.require(name)
    _check(parameters)
    await link.ask(Command(action="unload", model=name))
    for version in link.models.versions(name):
        if await _seen(link, name, version, lambda found: found.instances == 0, UNLOAD_S) is None:
            raise ModelUnavailable(f"model {name!r}: still busy after {UNLOAD_S:g} s, it ends when it is free")


async def declared(link: Link, name: str, version: str = "") -> ModelView:
    """A model whose inputs are known: an instance is started when none has declared them yet.

    Raises:
        ModelNotFound: No such model.
        ModelUnavailable: It cannot be started, or not in time.
    """
    view = link.models.require(name, version)
    if view.inputs:
        return view
    return await _start(link, name, view.spec.version, lambda found: bool(found.inputs))


async def _start(link: Link, name: str, version: str, is_reached: Callable[[ModelView], bool]) -> ModelView:
    await link.ask(Command(action="load", model=name, model_version=version))
    timeout_s = link.models.require(name, version).spec.load_timeout_s + MARGIN_S
    updates = link.models.updates

    def is_over(found: ModelView) -> bool:
        # What was failing before the command stays so until the task manager has taken it up.
        return is_reached(found) or (found.state == "failing" and link.models.updates > updates)

    found = await _seen(link, name, version, is_over, timeout_s)
    if found is None:
        raise ModelUnavailable(f"model {name!r}: not ready within {timeout_s:g} s")
    if not is_reached(found):
        raise ModelUnavailable(f"model {name!r} cannot be loaded: {found.error}")
    return found


async def _seen(
    link: Link, name: str, version: str, is_over: Callable[[ModelView], bool], timeout_s: float
) -> ModelView | None:
    """The model as soon as it is so; None when the time is over."""
    end_at = asyncio.get_running_loop().time() + timeout_s
    while True:
        found = link.models.require(name, version)
        if is_over(found):
            return found
        if asyncio.get_running_loop().time() >= end_at:
            return None
        await asyncio.sleep(LOOK_S)


def _check(parameters: Mapping[str, Any]) -> None:
    unknown = sorted(parameters.keys() - _IGNORED)
    if unknown:
        raise InvalidRequest(
            f"parameter {unknown[0][:80]!r}: expected none, models are configured where they are registered"
        )
