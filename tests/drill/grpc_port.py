"""Requests over gRPC. Nothing is sent twice."""

from typing import Any

import grpc

from protos import inference_pb2 as pb
from tests.drill.flows import CONNECTION
from tests.drill.questions import DATATYPE, INPUT, Question, Reply

METHOD = "/inference.GRPCInferenceService/ModelInfer"
LARGEST = 1 << 26
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST),
    ("grpc.max_send_message_length", LARGEST),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.enable_retries", 0),
)


class GrpcPort:
    """One server's gRPC bridge."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.faults: list[str] = []

    async def open(self) -> None:
        """Make the channel; it connects with the first request."""
        self._channel = grpc.aio.insecure_channel(self._address, OPTIONS)
        self._infer: Any = self._channel.unary_unary(
            METHOD, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )

    async def ask(self, question: Question) -> Reply:
        """Send a request and wait for its answer."""
        request = pb.ModelInferRequest(
            model_name=question.model,
            inputs=[pb.ModelInferRequest.InferInputTensor(name=INPUT, datatype=DATATYPE, shape=question.shape)],
            raw_input_contents=[question.data],
        )
        request.parameters["timeout"].int64_param = int(question.timeout_s * 1e6)
        if question.priority:
            request.parameters["priority"].uint64_param = question.priority
        if question.sequence is not None:
            request.parameters["sequence_id"].int64_param = question.sequence.id
            request.parameters["sequence_start"].bool_param = question.sequence.start
            request.parameters["sequence_end"].bool_param = question.sequence.end
        try:
            response = await self._infer(request)
        except grpc.aio.AioRpcError as exc:
            said = dict(exc.trailing_metadata() or ())
            code = str(said.get("x-inferoxy-code", CONNECTION))
            return Reply(code, f"{exc.code().name}: {exc.details()}", retry_after="retry-after" in said)
        (output,) = response.outputs
        data = b"".join(response.raw_output_contents)
        return Reply("", "", output.name, output.datatype, tuple(output.shape), data)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
