"""tritonclient: `triton.py http|http.aio|grpc|grpc.aio HOST:PORT`.

One set of functions for its four forms, whose methods have the same names; `one` calls a coroutine's to its end.
"""

import asyncio
import base64
import inspect
import os
import queue
import sys
import time
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from serving import serve, told_of
from tritonclient.utils import InferenceServerException

FORM, ADDRESS = sys.argv[1:3]
LIBRARY = {
    "http": tritonclient.http,
    "http.aio": tritonclient.http.aio,
    "grpc": tritonclient.grpc,
    "grpc.aio": tritonclient.grpc.aio,
}[FORM]
IS_GRPC = FORM.startswith("grpc")
LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)
ANSWER_S = 20.0
PAUSE_S = 0.3
DTYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "INT8": np.int8,
    "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip


def one(value: Any) -> Any:
    """The value, of a coroutine what it gives."""
    return LOOP.run_until_complete(value) if inspect.iscoroutine(value) else value


async def make() -> Any:
    return LIBRARY.InferenceServerClient(ADDRESS)


CLIENT = LOOP.run_until_complete(make()) if FORM.endswith("aio") else LIBRARY.InferenceServerClient(ADDRESS)


def ask(method: str, **arguments: Any) -> Any:
    """Any method that takes and gives plain values; protobuf answers as JSON."""
    function = getattr(CLIENT, method)
    if IS_GRPC and "as_json" in inspect.signature(function).parameters:
        arguments["as_json"] = True
    return one(function(**arguments))


def array(datatype: str, shape: list[int], data: Any) -> np.ndarray:
    """An array; elements of BYTES come as text of which each character is a byte."""
    if datatype == "BYTES":
        return np.array([element.encode("latin-1") for element in data], np.object_).reshape(shape)
    return np.array(data, DTYPES[datatype]).reshape(shape)


def input_of(told: dict[str, Any]) -> Any:
    """{name, datatype, shape, data | place: [region, size, offset], json: true for data in JSON}."""
    tensor = LIBRARY.InferInput(told["name"], told["shape"], told["datatype"])
    if "place" in told:
        tensor.set_shared_memory(*told["place"])
    elif not IS_GRPC and told.get("json"):
        tensor.set_data_from_numpy(array(told["datatype"], told["shape"], told["data"]), binary_data=False)
    else:
        tensor.set_data_from_numpy(array(told["datatype"], told["shape"], told["data"]))
    return tensor


def output_of(told: dict[str, Any]) -> Any:
    """{name, classes, binary, place: [region, size, offset]}."""
    options: dict[str, Any] = {"class_count": told.get("classes", 0)}
    if not IS_GRPC:
        options["binary_data"] = told.get("binary", True)
    tensor = LIBRARY.InferRequestedOutput(told["name"], **options)
    if "place" in told:
        tensor.set_shared_memory(*told["place"])
    return tensor


def shown(result: Any, placed: frozenset[str] = frozenset()) -> dict[str, Any]:
    """All that a client can read in a result, of outputs that lie in shared memory no data."""
    head = result.get_response()
    if IS_GRPC:
        parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in head.parameters.items()
        }
        told = {"id": head.id, "model_name": head.model_name, "model_version": head.model_version}
        outputs = {o.name: {"datatype": o.datatype, "shape": list(o.shape)} for o in head.outputs}
    else:
        parameters = head.get("parameters", {})
        told = {key: head.get(key, "") for key in ("id", "model_name", "model_version")}
        outputs = {o["name"]: {"datatype": o["datatype"], "shape": o["shape"]} for o in head.get("outputs", [])}
    for name, output in outputs.items():
        if name not in placed:
            output["data"] = result.as_numpy(name)
    return told | {"parameters": parameters, "outputs": outputs}


def request_of(model: str, inputs: list[Any], outputs: list[Any] | None = None, **options: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"model_name": model, "inputs": [input_of(told) for told in inputs], **options}
    if outputs is not None:
        arguments["outputs"] = [output_of(told) for told in outputs]
    return arguments


def infer(**request: Any) -> dict[str, Any]:
    placed = frozenset(told["name"] for told in request.get("outputs") or () if "place" in told)
    return shown(one(CLIENT.infer(**request_of(**request))), placed)


def infer_many(requests: list[dict[str, Any]]) -> list[Any]:
    """All of them at once, in the way this form does it; what each gave or raised, in order."""
    if FORM == "http":
        client = LIBRARY.InferenceServerClient(ADDRESS, concurrency=8)
        waiting = [client.async_infer(**request_of(**request)) for request in requests]
        return [caught(lambda each=each: shown(each.get_result(timeout=ANSWER_S))) for each in waiting]
    if FORM == "grpc":
        answers: list[Any] = [queue.Queue() for _ in requests]
        for request, answer in zip(requests, answers, strict=True):
            CLIENT.async_infer(
                callback=lambda result, error, answer=answer: answer.put(told_of(error) if error else shown(result)),
                **request_of(**request),
            )
        return [answer.get(timeout=ANSWER_S) for answer in answers]

    async def all_of_them() -> list[Any]:
        asked = [CLIENT.infer(**request_of(**request)) for request in requests]
        return await asyncio.gather(*asked, return_exceptions=True)

    found = LOOP.run_until_complete(all_of_them())
    return [told_of(each) if isinstance(each, Exception) else shown(each) for each in found]


def cancelled(requests: list[dict[str, Any]]) -> list[str]:
    """Send all, take all back a little later, and tell what became of each."""
    if FORM == "grpc":
        answers: list[Any] = [queue.Queue() for _ in requests]
        calls = [
            CLIENT.async_infer(callback=lambda result, error, answer=answer: answer.put(error), **request_of(**request))
            for request, answer in zip(requests, answers, strict=True)
        ]
        time.sleep(PAUSE_S)
        for call in calls:
            call.cancel()
        return [str(answer.get(timeout=ANSWER_S).status()) for answer in answers]

    async def take_back() -> list[str]:
        # The coroutine's own task is cancelled: the library hands the call's object out no more.
        tasks = [asyncio.ensure_future(CLIENT.infer(**request_of(**request))) for request in requests]
        await asyncio.sleep(PAUSE_S)
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return ["StatusCode.CANCELLED" if isinstance(e, asyncio.CancelledError) else repr(e) for e in found]

    return LOOP.run_until_complete(take_back())


def with_pings(pause_s: float, request: dict[str, Any]) -> list[bool]:
    """Two inferences on a connection that is pinged ten times a second."""
    options = tritonclient.grpc.KeepAliveOptions(
        keepalive_time_ms=100,
        keepalive_timeout_ms=1_000,
        keepalive_permit_without_calls=True,
        http2_max_pings_without_data=0,
    )

    async def make_pinging() -> Any:
        return LIBRARY.InferenceServerClient(ADDRESS, keepalive_options=options)

    client = LOOP.run_until_complete(make_pinging()) if FORM.endswith("aio") else one(make_pinging())
    found = []
    for _ in range(2):
        found.append("outputs" in shown(one(client.infer(**request_of(**request)))))
        time.sleep(pause_s)
    one(client.close())
    return found


def caught(function: Any) -> Any:
    try:
        return function()
    except InferenceServerException as exc:
        return told_of(exc)


def stream(requests: list[dict[str, Any]], answers: int, cancel: bool = False, **options: Any) -> list[Any]:
    """Send all on one stream and read so many answers, or those that come until the stream is closed where negative."""
    if FORM == "grpc":
        return stream_with_callback(requests, answers, cancel, options)

    async def both_ways() -> list[Any]:
        async def sent() -> Any:
            for request in requests:
                yield request_of(**request)

        found = []
        iterator = CLIENT.stream_infer(sent(), **options)
        async for result, error in iterator:
            found.append(told_of(error) if error else shown(result))
            if len(found) == answers:
                if cancel:
                    iterator.cancel()
                break
        return found

    return LOOP.run_until_complete(asyncio.wait_for(both_ways(), ANSWER_S))


def stream_with_callback(requests: list[Any], answers: int, cancel: bool, options: dict[str, Any]) -> list[Any]:
    found: queue.Queue[Any] = queue.Queue()
    client = LIBRARY.InferenceServerClient(ADDRESS)
    client.start_stream(
        lambda result, error: found.put(told_of(error) if error else shown(result)),
        **options,
    )
    for request in requests:
        client.async_stream_infer(**request_of(**request))
    read = [found.get(timeout=ANSWER_S) for _ in range(max(answers, 0))]
    client.stop_stream(cancel_requests=cancel)
    client.close()
    return read + [found.get_nowait() for _ in range(found.qsize())] if answers < 0 else read


def through_memory(model: str, requests: list[dict[str, Any]]) -> list[Any]:
    """Tensors in system shared memory: {inputs, outputs: {name: [datatype, shape, bytes]}}, a region for each.

    Outputs named in `plain` come with the answer. Gives the result and what then lies in the output regions.
    """
    found = []
    for number, request in enumerate(requests):
        regions = []
        inputs, outputs = [], []
        try:
            for told in request["inputs"]:
                values = array(told["datatype"], told["shape"], told["data"])
                raw = tritonclient.utils.serialize_byte_tensor(values) if told["datatype"] == "BYTES" else values
                size = len(raw.item()) if told["datatype"] == "BYTES" else raw.nbytes
                name = f"{FORM}-in-{told['name']}-{number}"
                regions.append((name, create(name, size)))
                one(CLIENT.register_system_shared_memory(name, key(name), size))
                shm.set_shared_memory_region(regions[-1][1], [raw])
                inputs.append({key: told[key] for key in ("name", "datatype", "shape")} | {"place": [name, size, 0]})
            places = {}
            for output, (datatype, shape, size) in request["outputs"].items():
                name = f"{FORM}-out-{output}-{number}"
                regions.append((name, create(name, size)))
                one(CLIENT.register_system_shared_memory(name, key(name), size))
                places[output] = (regions[-1][1], datatype, shape)
                outputs.append({"name": output, "place": [name, size, 0]})
            outputs += [{"name": name} for name in request.get("plain", ())]
            head = infer(model=model, inputs=inputs, outputs=outputs)
            # A copy: the memory goes.
            head["placed"] = {
                output: np.array(shm.get_contents_as_numpy(handle, DTYPES[datatype], shape))
                for output, (handle, datatype, shape) in places.items()
            }
            found.append(head)
        finally:
            for name, handle in regions:
                one(CLIENT.unregister_system_shared_memory(name))
                shm.destroy_shared_memory_region(handle)
    return found


def key(name: str) -> str:
    return f"compat-{os.getpid()}-{name}"


def create(name: str, size: int) -> Any:
    return shm.create_shared_memory_region(name, key(name), size, create_only=True)


def one_region(model: str, inputs: list[dict[str, Any]], output: str, count: int) -> list[float]:
    """A row of FP32 and an output of so many in one region, neither at its beginning nor on a page of the object."""
    handle = create("shared", 256)
    try:
        [told] = inputs
        values = array(told["datatype"], told["shape"], told["data"])
        shm.set_shared_memory_region(handle, [values], offset=8 + 4)
        one(CLIENT.register_system_shared_memory("shared", key("shared"), 200, offset=8))
        place = {"place": ["shared", values.nbytes, 4]}
        infer(model=model, inputs=[{**told, **place}], outputs=[{"name": output, "place": ["shared", 4 * count, 101]}])
        found: list[float] = np.array(shm.get_contents_as_numpy(handle, np.float32, [count], offset=8 + 101)).tolist()
        return found
    finally:
        one(CLIENT.unregister_system_shared_memory("shared"))
        shm.destroy_shared_memory_region(handle)


def regions(name: str) -> list[Any]:
    """What registering, asking and forgetting a region gives, step by step."""
    handle = create(name, 64)
    json = {"as_json": True} if IS_GRPC else {}
    try:
        return [
            caught(lambda: one(CLIENT.register_system_shared_memory(name, key(name), 32, offset=16))),
            caught(lambda: one(CLIENT.get_system_shared_memory_status(name, **json))),
            caught(lambda: one(CLIENT.register_system_shared_memory(name, key(name), 32, offset=16))),
            caught(lambda: one(CLIENT.register_system_shared_memory(f"{name}-long", key(name), 32, offset=48))),
            caught(lambda: one(CLIENT.unregister_system_shared_memory(name))),
            caught(lambda: one(CLIENT.unregister_system_shared_memory(name))),
            caught(lambda: one(CLIENT.get_system_shared_memory_status(name, **json))),
        ]
    finally:
        shm.destroy_shared_memory_region(handle)


def register_cuda() -> None:
    one(CLIENT.register_cuda_shared_memory("cuda", base64.b64encode(b"handle"), 0, 64))


def read_picture(path: str) -> Any:
    """An input of a picture model: the pixels of a .npy file, the bytes of any other."""
    if path.endswith(".npy"):
        data = np.load(path)
        tensor = LIBRARY.InferInput("image", list(data.shape), "UINT8")
    else:
        with open(path, "rb") as file:
            data = np.array([file.read()], np.object_)
        tensor = LIBRARY.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(data)
    return tensor


def infer_file(model: str, path: str, outputs: list[str], **options: Any) -> dict[str, Any]:
    wanted = [LIBRARY.InferRequestedOutput(name) for name in outputs] or None
    return shown(one(CLIENT.infer(model, [read_picture(path)], outputs=wanted, **options)))


def infer_zeros(model: str, name: str, datatype: str, shape: list[int], **options: Any) -> dict[str, Any]:
    """infer on one large tensor of zeros; the outputs without their data."""
    tensor = LIBRARY.InferInput(name, shape, datatype)
    tensor.set_data_from_numpy(np.zeros(shape, DTYPES[datatype]))
    found = shown(one(CLIENT.infer(model, [tensor], **options)))
    return {name: output["shape"] for name, output in found["outputs"].items()}


serve(globals())
