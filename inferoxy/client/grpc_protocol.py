"""Client operations as gRPC calls. Pure: see calls.py.

Pictures go to inferoxy.v1, tensors and the ends of sequences to inference.GRPCInferenceService, where tensors travel
raw: in one call of ModelInfer or, once a model has turned out to answer any number of times, of ModelStreamInfer.
Invariant: a server's error keeps its code, which stands in the trailing metadata; without it the gRPC status is mapped.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from inferoxy import tensors
from inferoxy.client import grpc_pictures, v2
from inferoxy.client.arguments import INIT
from inferoxy.client.calls import METADATA_S, Call, ClientProtocol, Steps, broken, unreachable
from inferoxy.client.pictures import LoadedPicture
from inferoxy.client.results import Detections, InferResult, ModelInfo, Prediction
from inferoxy.errors import STATUS, Code, InferoxyError, InternalError, InvalidRequest, error_from
from inferoxy.messages import TensorSpec
from inferoxy.tensors import Array
from protos import inference_pb2 as pb
from protos import inferoxy_v1_pb2 as pictures_pb

SERVICE = "inference.GRPCInferenceService"
PICTURES = "inferoxy.v1.Inferoxy"
CODE = "x-inferoxy-code"  # the trailing metadata, and the parameter of an error in a stream, that hold our code
# How gRPC begins to say that it could not make a connection.
_NEVER_SENT = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed")

# For a server, or a proxy before it, that does not say our code: what each gRPC status most likely means.
_LIKELY = {
    STATUS[code].grpc: code
    for code in (
        Code.INVALID_REQUEST, Code.UNAUTHENTICATED, Code.MODEL_NOT_FOUND, Code.QUEUE_FULL, Code.CANCELLED,
        Code.DEADLINE_EXCEEDED,
    )
}  # fmt: skip


class GrpcExchange(NamedTuple):
    """One request. `timeout_s` 0: the server is told no deadline, because the model's own holds.

    Where it `is_streamed` the reply's message is a list: what came until the server ended the call.
    """

    method: str
    request: Any
    response: Any
    wait_s: float
    timeout_s: float = 0.0
    request_id: str = ""
    service: str = SERVICE
    is_streamed: bool = False


class GrpcReply(NamedTuple):
    """Its answer, with the trailing metadata."""

    message: Any
    metadata: Mapping[str, str]


class GrpcProtocol(ClientProtocol):
    """One per client; it learns which models answer several times.

    Args:
        url: The server's, for messages to people.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._decoupled: set[tuple[str, str]] = set()

    def predict_all(self, call: Call, picture: LoadedPicture, draw: str) -> Steps[list[Detections | Prediction]]:
        """One picture's answers."""
        request = grpc_pictures.predict_request(call, picture, draw)
        reply: GrpcReply = yield _exchange(call, "Predict", request, pictures_pb.Answer)._replace(service=PICTURES)
        return grpc_pictures.answers_from(call, reply.message, grpc_pictures.size_of(picture))

    def infer_all(self, call: Call, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Steps[list[InferResult]]:
        """Output tensors for input tensors, as often as the model gives any."""
        request = _infer_request(call, v2.tensor_inputs(inputs), outputs)
        model = (call.model, call.version)
        if model not in self._decoupled:
            try:
                reply: GrpcReply = yield _exchange(call, "ModelInfer", request, pb.ModelInferResponse)
            except InferoxyError as exc:
                if exc.code is not Code.UNSUPPORTED:
                    raise
                self._decoupled.add(model)  # refused before anything was run
            else:
                return [v2.result_from(call, self._answered(reply.message, reply.metadata))]
        exchange = _exchange(call, "ModelStreamInfer", request, pb.ModelStreamInferResponse)
        reply = yield exchange._replace(is_streamed=True)
        return [v2.result_from(call, self._streamed(one, reply.metadata)) for one in reply.message]

    def end(self, call: Call) -> Steps[None]:
        """End the call's sequence, whatever its model takes."""
        yield from self.infer_all(call, {}, ())

    def models(self) -> Steps[list[ModelInfo]]:
        """What is registered."""
        ask = GrpcExchange(
            "ListModels", pictures_pb.ListModelsRequest(), pictures_pb.ListModelsResponse, METADATA_S, service=PICTURES
        )
        reply: GrpcReply = yield ask
        return [_info(model) for model in reply.message.models]

    def is_ready(self, model: str, version: str) -> Steps[bool]:
        """Whether the server, or a model of it, takes requests."""
        if model:
            request = pb.ModelReadyRequest(name=model, version=version)
            ask = GrpcExchange("ModelReady", request, pb.ModelReadyResponse, METADATA_S)
        else:
            ask = GrpcExchange("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse, METADATA_S)
        reply: GrpcReply = yield ask
        return bool(reply.message.ready)

    def _streamed(self, message: Any, metadata: Mapping[str, str]) -> v2.Answered:
        response = message.infer_response
        if message.error_message:
            code = response.parameters[CODE].string_param if CODE in response.parameters else Code.INTERNAL
            raise error_from(code, message.error_message, response.id)
        return self._answered(response, metadata)

    def _answered(self, message: Any, metadata: Mapping[str, str]) -> v2.Answered:
        found: dict[str, Array] = {}
        try:
            for item, data in zip(message.outputs, message.raw_output_contents, strict=True):
                found[item.name] = tensors.from_bytes(item.name, item.datatype, tuple(item.shape), data).copy()
        except (InvalidRequest, ValueError, KeyError) as exc:
            raise InternalError(f"{self._url} answered tensors that do not hold together: {exc}") from exc
        parameters = {name: getattr(p, p.WhichOneof("parameter_choice")) for name, p in message.parameters.items()}
        return v2.Answered(found, message.model_version, message.id, v2.served_from(metadata), parameters)


def error_of(url: str, status: int, details: str, metadata: Mapping[str, str]) -> InferoxyError:
    """The error that a failed call stands for.

    Args:
        url: The server's.
        status: gRPC's status code.
        details: gRPC's text.
        metadata: The trailing metadata.
    """
    request_id = metadata.get("x-request-id", "")
    code = metadata.get(CODE)
    if code is not None:
        return error_from(code, details, request_id)
    if status == STATUS[Code.MODEL_UNAVAILABLE].grpc:  # gRPC's own word for a connection that is not there
        return unreachable(url, _cause(details)) if was_never_sent(details) else broken(url, _cause(details))
    if status == STATUS[Code.PAYLOAD_TOO_LARGE].grpc and "larger than max" in details:
        return error_from(Code.PAYLOAD_TOO_LARGE, f"{url}: {details}", request_id)
    if status == STATUS[Code.UNSUPPORTED].grpc:
        return error_from(Code.UNSUPPORTED, f"{url} does not offer this over gRPC ({details or 'unimplemented'})")
    return error_from(_LIKELY.get(status, Code.INTERNAL), f"{url}: {details or f'gRPC status {status}'}", request_id)


def was_never_sent(details: str) -> bool:
    """Whether a call failed because no connection could be made, so that nothing of it was sent."""
    return details.startswith(_NEVER_SENT)


def _exchange(call: Call, method: str, request: Any, response: Any) -> GrpcExchange:
    deadline_s = call.wait_s if call.timeout_s else 0.0
    return GrpcExchange(method, request, response, call.wait_s, deadline_s, call.request_id)


def _infer_request(call: Call, inputs: list[v2.Input], outputs: Sequence[str]) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(
        model_name=call.model,
        model_version=call.version,
        id=call.request_id,
        inputs=[
            pb.ModelInferRequest.InferInputTensor(name=t.name, datatype=t.datatype, shape=t.shape) for t, _ in inputs
        ],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs],
        raw_input_contents=[bytes(data) for _, data in inputs],
    )
    for name, value in v2.request_parameters(call).items():
        request.parameters[name].CopyFrom(_parameter(name, value))
    return request


def _cause(details: str) -> str:
    """The part of gRPC's text that says why."""
    return details.rpartition(": ")[2].strip(" )]")


def _parameter(name: str, value: Any) -> pb.InferParameter:
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return pb.InferParameter(int64_param=value) if value < 2**63 else pb.InferParameter(uint64_param=value)
    if isinstance(value, float):
        return pb.InferParameter(double_param=value)
    if isinstance(value, str):
        return pb.InferParameter(string_param=value)
    if name == INIT and isinstance(value, dict):  # gRPC has no form for objects, but this one's JSON is taken as well
        try:
            return pb.InferParameter(string_param=msgspec.json.encode(value).decode())
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise InvalidRequest(f"parameter {name!r}: expected what JSON can hold ({exc})") from exc
    raise InvalidRequest(
        f"parameter {name!r}: over gRPC expected text, a number of 64 bits or true/false, found {type(value).__name__}"
    )


def _info(model: Any) -> ModelInfo:
    return ModelInfo(
        model.name,
        model.version,
        model.state,
        ready=model.ready,
        error=model.error,
        default=model.default,
        stateless=model.stateless,
        batch_size=model.batch_size,
        platform=model.platform,
        inputs=tuple(TensorSpec(spec.name, spec.datatype, tuple(spec.shape)) for spec in model.inputs),
        outputs=tuple(TensorSpec(spec.name, spec.datatype, tuple(spec.shape)) for spec in model.outputs),
    )
