"""The service inference.GRPCInferenceService over the link to the batch manager.

Methods that are not in `methods()` are answered UNIMPLEMENTED by gRPC itself. Every error carries the code, a message
and, in the trailing metadata, `x-inferoxy-code` and `x-request-id`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from bridges import v2
from bridges.grpc import convert
from bridges.link import Link
from bridges.models import is_ready
from bridges.requests import is_bare_end, request_id
from bridges.results import model_headers, served_headers
from inferoxy import logs
from inferoxy.config import LimitSettings
from inferoxy.errors import RETRY_AFTER_S, STATUS, InferoxyError, InternalError, ModelNotFound
from protos import inference_pb2 as pb

SERVICE = "inference.GRPCInferenceService"
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Method = Callable[[Any, Any, str], Awaitable[Any]]


class InferenceService:
    """The methods.

    Args:
        link: To the batch manager.
        limits: What is accepted from clients.
    """

    def __init__(self, link: Link, limits: LimitSettings) -> None:
        self._link = link
        self._models = link.models
        self._limits = limits

    def handler(self) -> Any:
        """What a gRPC server is given."""
        methods: dict[str, tuple[Method, Any]] = {
            "ServerLive": (self._server_live, pb.ServerLiveRequest),
            "ServerReady": (self._server_ready, pb.ServerReadyRequest),
            "ModelReady": (self._model_ready, pb.ModelReadyRequest),
            "ServerMetadata": (self._server_metadata, pb.ServerMetadataRequest),
            "ModelMetadata": (self._model_metadata, pb.ModelMetadataRequest),
            "ModelInfer": (self._model_infer, pb.ModelInferRequest),
            "RepositoryIndex": (self._repository_index, pb.RepositoryIndexRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(method),
                request_deserializer=kind.FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
            for name, (method, kind) in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def _server_live(self, request: Any, context: Any, name: str) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, request: Any, context: Any, name: str) -> Any:
        return pb.ServerReadyResponse(ready=self._link.is_ready)

    async def _model_ready(self, request: Any, context: Any, name: str) -> Any:
        try:
            view = self._models.require(request.name, request.version)
        except ModelNotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=is_ready(view))

    async def _server_metadata(self, request: Any, context: Any, name: str) -> Any:
        return pb.ServerMetadataResponse(name=v2.SERVER_NAME, version=v2.SERVER_VERSION, extensions=v2.EXTENSIONS)

    async def _model_metadata(self, request: Any, context: Any, name: str) -> Any:
        view = self._models.require(request.name, request.version)
        return convert.metadata_of(view, self._models.versions(request.name))

    async def _repository_index(self, request: Any, context: Any, name: str) -> Any:
        models = [convert.index_of(view) for view in self._models.all() if is_ready(view) or not request.ready]
        return pb.RepositoryIndexResponse(models=models)

    async def _model_infer(self, request: Any, context: Any, name: str) -> Any:
        model = request.model_name
        view = self._models.find(model, request.model_version)
        options, parameters = v2.read_parameters(convert.parameters_of(request.parameters), request.model_version)
        left_s = context.time_remaining()
        if left_s is not None:
            left_us = max(1, int(left_s * 1e6))
            options = options._replace(timeout_us=min(left_us, options.timeout_us or left_us))
        inputs, frames = convert.inputs_of(request)
        outputs = convert.outputs_of(request)
        ends_only = is_bare_end(len(inputs), options, view)
        prepared, tensors = v2.prepare(
            view, inputs, list(frames), parameters=parameters, outputs=outputs, limits=self._limits
        )
        call = prepared.request(model, tensors, options, name)
        answers = await self._link.call(*call, at_most=1)
        result = v2.nothing(answers) if ends_only else v2.only_answer(answers, model)
        version = result.served.version or (view.spec.version if view else request.model_version)
        about = (*model_headers(model, version), *served_headers(result.served))
        context.set_trailing_metadata((("x-request-id", name), *about))
        shown = v2.select_outputs(result, [] if ends_only else outputs)
        return convert.response_of(request, version, shown, result.parameters)


def _guarded(method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
    """The method with its errors told as gRPC tells them."""

    async def guarded(request: Any, context: Any) -> Any:
        name = _request_id(context)
        try:
            return await method(request, context, name)
        except InferoxyError as exc:
            reason = exc
        except Exception as exc:
            logs.get().error("unexpected error", request=name, exc_info=exc)
            reason = InternalError("the request could not be handled")
        metadata = [("x-inferoxy-code", reason.code.value), ("x-request-id", name)]
        if reason.code in RETRY_AFTER_S:
            metadata.append(("retry-after", str(RETRY_AFTER_S[reason.code])))
        code = _CODES[STATUS[reason.code].grpc]
        return await context.abort(code, reason.message or reason.code.value, tuple(metadata))

    return guarded


def _request_id(context: Any) -> str:
    for key, value in context.invocation_metadata():
        if key == "x-request-id" and isinstance(value, str):
            return request_id(value)
    return request_id()
