"""What the OpenAPI document says of the bodies and answers of the Open Inference Protocol.

Nothing is validated by these: v2_body.py and v2_control.py read bodies themselves.
"""

from typing import Any, Literal

from pydantic import ConfigDict, RootModel

from bridges.rest.schemas import BINARY, Shown, TensorMetadata, inline


class ServerMetadata(Shown):
    """The server and what it can do beyond the protocol's core."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(Shown):
    """A model as the Open Inference Protocol shows it."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfiguredTensor(Shown):
    """An input or output in a model's configuration."""

    name: str
    data_type: str
    """TYPE_FP32 and so on; TYPE_STRING for BYTES."""
    dims: list[int]
    """Without the batch axis where max_batch_size is above 0."""


class ModelConfig(Shown):
    """A model's configuration. What does not apply is absent."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True, protected_namespaces=())

    name: str
    platform: str
    backend: str
    max_batch_size: int
    """0: requests have no batch axis."""
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]
    parameters: dict[str, dict[str, str]]
    """What the model says of itself, in metadata.string_value."""
    model_transaction_policy: dict[str, bool]
    """decoupled: a request may have any number of answers."""
    sequence_batching: dict[str, Any] | None = None
    """Of a stateful model."""
    dynamic_batching: dict[str, Any] | None = None
    """Of a stateless model whose requests may share a batch."""


class Spent(Shown):
    """How often, and how long in all."""

    count: int
    ns: int


class InferStatistics(Shown):
    """Durations of requests; those behind `fail` are of the requests that succeeded."""

    success: Spent
    fail: Spent
    queue: Spent
    compute_input: Spent
    compute_infer: Spent
    compute_output: Spent
    cache_hit: Spent
    cache_miss: Spent


class BatchStatistics(Shown):
    """The batches of one size."""

    batch_size: int
    compute_input: Spent
    compute_infer: Spent
    compute_output: Spent


class ModelStatistics(Shown):
    """What has become of one model version's requests."""

    name: str
    version: str
    last_inference: int
    """Milliseconds since the epoch; 0: there was none."""
    inference_count: int
    """Rows."""
    execution_count: int
    """Batches."""
    inference_stats: InferStatistics
    response_stats: dict[str, Any]
    batch_stats: list[BatchStatistics]
    memory_usage: list[Any]


class Statistics(Shown):
    """All that were asked for."""

    model_config = ConfigDict(protected_namespaces=())

    model_stats: list[ModelStatistics]


class IndexedModel(Shown):
    """A model version in the index."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    """READY too when it starts with the first request."""
    reason: str


class RepositoryIndex(RootModel[list[IndexedModel]]):
    """All registered model versions."""


class Region(Shown):
    """A window of a POSIX shared-memory object, in bytes."""

    name: str
    key: str
    offset: int
    byte_size: int


class Regions(RootModel[list[Region]]):
    """Registered regions."""


class RegisterBody(Shown):
    """A window of a POSIX shared-memory object, in bytes."""

    key: str
    """The object's name, with or without the leading /."""
    byte_size: int
    offset: int = 0


class IndexBody(Shown):
    """Which models are asked for."""

    ready: bool = False
    """Only those that are ready."""


class CommandBody(Shown):
    """Parameters of load and unload; configuration cannot be changed by them."""

    parameters: dict[str, Any] | None = None


class InferTensor(Shown):
    """A tensor: its elements in `data`, `parameters.binary_data_size` bytes behind the JSON, or in shared memory."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class RequestedOutput(Shown):
    """An output that is wanted."""

    name: str
    parameters: dict[str, Any] = {}
    """binary_data, classification, or shared_memory_region with shared_memory_byte_size and shared_memory_offset."""


class InferBody(Shown):
    """An inference request of the Open Inference Protocol."""

    id: str = ""
    parameters: dict[str, Any] = {}
    """binary_data_output, sequence_id, _start, _end, priority, timeout in microseconds; others go to the model."""
    inputs: list[InferTensor] = []
    """May be left out with sequence_end: then nothing is run, the sequence ends, and the answer has no outputs."""
    outputs: list[RequestedOutput] = []


class InferAnswer(Shown):
    """An inference answer of the Open Inference Protocol."""

    id: str = ""
    model_name: str
    model_version: str
    parameters: dict[str, Any] = {}
    outputs: list[InferTensor]


INDEX_BODY = {"required": False, "content": {"application/json": inline(IndexBody)}}
COMMAND_BODY = {"required": False, "content": {"application/json": inline(CommandBody)}}
REGISTER_BODY = {"required": True, "content": {"application/json": inline(RegisterBody)}}
INFER_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": inline(InferBody), "application/octet-stream": BINARY},
}
BINARY_CONTENT: dict[str, Any] = {"application/octet-stream": BINARY}

INFER_HEADERS = [
    {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "Bytes of the JSON at the front of a body that ends in binary tensors. "
        "0: all of the body is the model's only input.",
        "schema": {"type": "integer", "minimum": 0},
    }
]
