"""Requests of the Open Inference Protocol about models and memory, which other components answer or which change state.

Framework-free. Each takes the parts of a request and gives an HttpAnswer.
Invariant: a handler raises InferoxyError or nothing.
"""

from typing import Any

import msgspec

from bridges import v2, v2_config, v2_repository, v2_statistics
from bridges.link import Link
from bridges.rest.answers import HttpAnswer, empty_answer, json_answer
from bridges.v2_regions import Regions
from inferoxy.config import V2Settings
from inferoxy.errors import Code, InferoxyError, InvalidRequest
from inferoxy.messages import TensorSpec


class _Index(msgspec.Struct):
    ready: bool = False


class _Command(msgspec.Struct):
    parameters: dict[str, Any] | None = None


class _Register(msgspec.Struct):
    key: str
    byte_size: int
    offset: int = 0


_INDEX: msgspec.json.Decoder[_Index] = msgspec.json.Decoder(_Index)
_COMMAND: msgspec.json.Decoder[_Command] = msgspec.json.Decoder(_Command)
_REGISTER: msgspec.json.Decoder[_Register] = msgspec.json.Decoder(_Register)


class V2Control:
    """Metadata, configuration, statistics, repository and shared memory.

    Args:
        link: To the batch manager.
        regions: Shared memory that is registered.
        allowed: What clients may do.
    """

    def __init__(self, link: Link, regions: Regions, allowed: V2Settings) -> None:
        self._link = link
        self._regions = regions
        self._allowed = allowed

    async def metadata(self, name: str, version: str, request_id: str) -> HttpAnswer:
        """`GET /v2/models/{name}[/versions/{version}]`; starts the model when its inputs are not known yet."""
        view = await v2_repository.declared(self._link, name, version)
        content = {
            "name": name,
            "versions": self._link.models.versions(name),
            "platform": v2.platform(view),
            "inputs": [_tensor(s) for s in view.inputs],
            "outputs": [_tensor(s) for s in view.outputs],
        }
        return json_answer(200, content, request_id)

    async def config(self, name: str, version: str, request_id: str) -> HttpAnswer:
        """`GET /v2/models/{name}[/versions/{version}]/config`; starts the model when its inputs are not known yet."""
        view = await v2_repository.declared(self._link, name, version)
        return json_answer(200, v2_config.config_of(view), request_id)

    async def statistics(self, name: str, version: str, request_id: str) -> HttpAnswer:
        """`GET /v2/models[/{name}[/versions/{version}]]/stats`."""
        return json_answer(200, {"model_stats": await v2_statistics.read(self._link, name, version)}, request_id)

    async def index(self, body: memoryview, request_id: str) -> HttpAnswer:
        """`POST /v2/repository/index`."""
        asked = _read(_INDEX, body)
        return json_answer(200, v2_repository.index(self._link.models, asked.ready), request_id)

    async def load(self, name: str, body: memoryview, request_id: str) -> HttpAnswer:
        """`POST /v2/repository/models/{name}/load`."""
        self._check_control()
        await v2_repository.load(self._link, name, _read(_COMMAND, body).parameters or {})
        return empty_answer(request_id)

    async def unload(self, name: str, body: memoryview, request_id: str) -> HttpAnswer:
        """`POST /v2/repository/models/{name}/unload`."""
        self._check_control()
        await v2_repository.unload(self._link, name, _read(_COMMAND, body).parameters or {})
        return empty_answer(request_id)

    async def regions(self, name: str, request_id: str) -> HttpAnswer:
        """`GET /v2/systemsharedmemory[/region/{name}]/status`."""
        return json_answer(200, [region._asdict() for region in self._regions.status(name)], request_id)

    async def register(self, name: str, body: memoryview, request_id: str) -> HttpAnswer:
        """`POST /v2/systemsharedmemory/region/{name}/register`."""
        asked = _read(_REGISTER, body)
        self._regions.register(name, asked.key, asked.offset, asked.byte_size)
        return empty_answer(request_id)

    async def unregister(self, name: str, request_id: str) -> HttpAnswer:
        """`POST /v2/systemsharedmemory[/region/{name}]/unregister`; without a name all of them."""
        self._regions.unregister(name)
        return empty_answer(request_id)

    async def cuda_regions(self, request_id: str) -> HttpAnswer:
        """`GET /v2/cudasharedmemory[/region/{name}]/status`: there are none."""
        return json_answer(200, [], request_id)

    async def cuda_register(self, request_id: str) -> HttpAnswer:
        """`POST /v2/cudasharedmemory/region/{name}/register`: refused."""
        raise InvalidRequest("cuda shared memory: not supported by this server, expected system shared memory")

    async def cuda_unregister(self, request_id: str) -> HttpAnswer:
        """`POST /v2/cudasharedmemory[/region/{name}]/unregister`: clients ask this without having registered any."""
        return empty_answer(request_id)

    def _check_control(self) -> None:
        if not self._allowed.repository:
            raise InferoxyError("load and unload: switched off on this server (v2.repository)", Code.UNSUPPORTED)


def _read(decoder: msgspec.json.Decoder[Any], body: memoryview) -> Any:
    try:
        return decoder.decode(body if len(body) else b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"body: expected a JSON object ({exc})") from exc


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
