"""KServe's inference clients: `kserve_client.py rest|grpc URL`."""

import asyncio
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from serving import serve

FORM, URL = sys.argv[1:3]
LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)
DTYPES = {
    "FP32": np.float32,
    "FP16": np.float16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "BYTES": np.object_,
}


async def make() -> Any:
    return InferenceRESTClient(RESTConfig(protocol="v2", timeout=20)) if FORM == "rest" else InferenceGRPCClient(URL)


CLIENT = LOOP.run_until_complete(make())


def ask(method: str, *arguments: Any, **options: Any) -> Any:
    first = (URL,) if FORM == "rest" else ()
    return LOOP.run_until_complete(getattr(CLIENT, method)(*first, *arguments, **options))


def health() -> list[bool]:
    return [ask("is_server_live"), ask("is_server_ready")]


def is_model_ready(model: str) -> bool:
    ready: bool = ask("is_model_ready", model)
    return ready


def infer(
    model: str,
    inputs: list[dict[str, Any]],
    binary: bool = True,
    outputs: list[str] | None = None,
    binary_outputs: bool = True,
    parameters: dict[str, Any] | None = None,
    request_id: str | None = None,
) -> dict[str, Any]:
    """Inputs as of triton.py; `binary` as set_data_from_numpy has it."""
    tensors = []
    for told in inputs:
        tensor = InferInput(told["name"], told["shape"], told["datatype"])
        data = [each.encode() for each in told["data"]] if told["datatype"] == "BYTES" else told["data"]
        values = np.array(data, DTYPES[told["datatype"]]).reshape(told["shape"])
        tensor.set_data_from_numpy(values, binary_data=binary)
        tensors.append(tensor)
    wanted = [RequestedOutput(name, {"binary_data": binary_outputs}) for name in outputs] if outputs else None
    request = InferRequest(
        model,
        tensors,
        request_id=request_id,
        parameters=parameters,
        request_outputs=wanted,
    )
    found = ask("infer", request, model_name=model) if FORM == "rest" else ask("infer", request)
    return {
        "id": found.id,
        "model": found.model_name,
        "version": found.model_version,
        "outputs": {
            o.name: {"datatype": o.datatype, "shape": list(o.shape), "data": o.as_numpy()} for o in found.outputs
        },
    }


serve(globals())
