"""The service inference.GRPCInferenceService over the link to the batch manager.

ModelStreamInfer is infer_stream.py's, the repository and shared memory are v2_repository.py's and v2_regions.py's.
Methods that are not in `handler()` are answered UNIMPLEMENTED by gRPC itself. Every error carries the code, a message
and, in the trailing metadata, `x-inferoxy-code` and `x-request-id`.
"""

import asyncio
from typing import Any

import grpc
from google.protobuf import json_format

from bridges import v2, v2_repository, v2_statistics
from bridges.grpc import calls, convert
from bridges.grpc.infer import Infer
from bridges.grpc.infer_stream import InferStream
from bridges.link import Link
from bridges.models import is_ready
from bridges.results import model_headers, served_headers
from bridges.v2_config import config_of
from bridges.v2_regions import regions_for
from inferoxy.config import Settings
from inferoxy.errors import V2_STATUS, Code, InferoxyError, ModelNotFound
from protos import inference_pb2 as pb

SERVICE = "inference.GRPCInferenceService"


class InferenceService:
    """The methods.

    Args:
        link: To the batch manager.
        settings: What clients may do.
        draining: Done when the server drains.
    """

    def __init__(self, link: Link, settings: Settings, draining: asyncio.Future[None]) -> None:
        self._link = link
        self._models = link.models
        self._limits = settings.limits
        self._may_load = settings.v2.repository
        self._regions = regions_for(settings, settings.grpc)
        self._infer = Infer(link.models, settings.limits, self._regions)
        self._draining = draining

    def handler(self) -> Any:
        """What a gRPC server is given."""
        methods = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "ModelInfer": self._model_infer,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
            "SystemSharedMemoryStatus": self._region_status,
            "SystemSharedMemoryRegister": self._register_region,
            "SystemSharedMemoryUnregister": self._unregister_region,
            "CudaSharedMemoryStatus": self._cuda_status,
            "CudaSharedMemoryRegister": self._register_cuda,
            "CudaSharedMemoryUnregister": self._unregister_cuda,
        }
        handlers = {name: calls.unary(method, V2_STATUS) for name, method in methods.items()}
        handlers["ModelStreamInfer"] = calls.bidirectional(self._model_stream_infer, V2_STATUS)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    # Inference

    async def _model_infer(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.ModelInferRequest, data, self._limits)
        asked = self._infer.ask(request, context, name)
        if asked.view is not None and asked.view.decoupled:
            raise _to_be_streamed(request.model_name)
        try:
            answers = await self._link.call(*asked.call, at_most=1)
            result = v2.nothing(answers) if asked.ends_only else v2.only_answer(answers, request.model_name)
        except InferoxyError as exc:
            if exc.code is Code.UNSUPPORTED:
                raise _to_be_streamed(request.model_name) from exc
            raise
        response = self._infer.answer(asked, result)
        about = (*model_headers(request.model_name, response.model_version), *served_headers(result.served))
        context.set_trailing_metadata((("x-request-id", name), *about))
        return response

    async def _model_stream_infer(self, context: Any, name: str) -> None:
        await InferStream(context, name, self._link, self._infer, self._limits, self._draining).run()

    # Server and models

    async def _server_live(self, data: bytes, context: Any, name: str) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, data: bytes, context: Any, name: str) -> Any:
        return pb.ServerReadyResponse(ready=self._link.is_ready)

    async def _model_ready(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.ModelReadyRequest, data, self._limits)
        try:
            view = self._models.require(request.name, request.version)
        except ModelNotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=is_ready(view))

    async def _server_metadata(self, data: bytes, context: Any, name: str) -> Any:
        return pb.ServerMetadataResponse(name=v2.SERVER_NAME, version=v2.SERVER_VERSION, extensions=v2.EXTENSIONS)

    async def _model_metadata(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.ModelMetadataRequest, data, self._limits)
        view = await v2_repository.declared(self._link, request.name, request.version)
        return convert.metadata_of(view, self._models.versions(request.name))

    async def _model_config(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.ModelConfigRequest, data, self._limits)
        view = await v2_repository.declared(self._link, request.name, request.version)
        return json_format.ParseDict({"config": config_of(view)}, pb.ModelConfigResponse())

    async def _model_statistics(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.ModelStatisticsRequest, data, self._limits)
        found = await v2_statistics.read(self._link, request.name, request.version)
        return json_format.ParseDict({"model_stats": found}, pb.ModelStatisticsResponse())

    # Repository

    async def _repository_index(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.RepositoryIndexRequest, data, self._limits)
        models = v2_repository.index(self._models, request.ready)
        return pb.RepositoryIndexResponse(models=[pb.RepositoryIndexResponse.ModelIndex(**line) for line in models])

    async def _load(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.RepositoryModelLoadRequest, data, self._limits)
        self._check_may_load()
        await v2_repository.load(self._link, request.model_name, convert.parameters_of(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.RepositoryModelUnloadRequest, data, self._limits)
        self._check_may_load()
        await v2_repository.unload(self._link, request.model_name, convert.parameters_of(request.parameters))
        return pb.RepositoryModelUnloadResponse()

    def _check_may_load(self) -> None:
        if not self._may_load:
            raise InferoxyError("loading and unloading: switched off on this server (v2.repository)", Code.UNSUPPORTED)

    # Shared memory

    async def _region_status(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.SystemSharedMemoryStatusRequest, data, self._limits)
        status = pb.SystemSharedMemoryStatusResponse.RegionStatus
        regions = {region.name: status(**region._asdict()) for region in self._regions.status(request.name)}
        return pb.SystemSharedMemoryStatusResponse(regions=regions)

    async def _register_region(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.SystemSharedMemoryRegisterRequest, data, self._limits)
        self._regions.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def _unregister_region(self, data: bytes, context: Any, name: str) -> Any:
        request = calls.parse(pb.SystemSharedMemoryUnregisterRequest, data, self._limits)
        self._regions.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def _cuda_status(self, data: bytes, context: Any, name: str) -> Any:
        return pb.CudaSharedMemoryStatusResponse()

    async def _register_cuda(self, data: bytes, context: Any, name: str) -> Any:
        raise InferoxyError("CUDA shared memory: this server has none, system shared memory it has", Code.UNSUPPORTED)

    async def _unregister_cuda(self, data: bytes, context: Any, name: str) -> Any:
        return pb.CudaSharedMemoryUnregisterResponse()


def _to_be_streamed(model: str) -> InferoxyError:
    why = f"model {model!r} does not answer exactly once: send it the request by ModelStreamInfer"
    return InferoxyError(why, Code.UNSUPPORTED)
