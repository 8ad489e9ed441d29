"""pytriton's clients: `pytriton_client.py http|grpc URL`; the URL has its scheme."""

import asyncio
import sys
from typing import Any

import numpy as np
from pytriton.client import (
    AsyncioDecoupledModelClient,
    AsyncioModelClient,
    DecoupledModelClient,
    FuturesModelClient,
    ModelClient,
)
from serving import serve

URL = sys.argv[2]
TIMES = {"init_timeout_s": 20.0, "inference_timeout_s": 20.0}


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def model_client() -> dict[str, Any]:
    """A sample without its batch axis, a batch with it, by position and by name, and a version."""
    with ModelClient(URL, "scale", lazy_init=False, **TIMES) as client:
        found = {
            "batching": client.is_batching_supported,
            "max_batch_size": client.model_config.max_batch_size,
            "inputs": [[spec.name, list(spec.shape)] for spec in client.model_config.inputs],
            "sample": client.infer_sample(row(1, 2, 3, 4)),
            "named": client.infer_sample(IN=row(1, 2, 3, 4)),
            "batch": client.infer_batch(np.stack([row(1, 2, 3, 4), row(5, 6, 7, 8)])),
        }
    with ModelClient(URL, "scale", "2", **TIMES) as client:
        found["second version"] = client.infer_sample(row(1, 2, 3, 4))
    return found


def unbatched(values: list[int], parameters: dict[str, Any]) -> dict[str, Any]:
    with ModelClient(URL, "told", **TIMES) as client:
        found = client.infer_sample(np.array(values, np.int32), parameters=parameters)
        return {"batching": client.is_batching_supported, "told": found["TOLD"]}


def strings(words: list[str]) -> dict[str, Any]:
    with ModelClient(URL, "words", **TIMES) as client:
        found: dict[str, Any] = client.infer_sample(np.array([word.encode() for word in words], np.object_))
        return found


def load_and_unload(model: str) -> None:
    with ModelClient(URL, model, **TIMES) as client:
        client.load_model()
        client.wait_for_model(20.0)
        client.unload_model()


def unknown() -> None:
    with ModelClient(URL, "nosuch", init_timeout_s=2.0) as client:
        client.infer_sample(row(1, 2, 3, 4))


def wrong() -> None:
    with ModelClient(URL, "scale", **TIMES) as client:
        client.infer_sample(np.zeros(3, np.float32))


def futures(count: int) -> list[Any]:
    with FuturesModelClient(URL, "scale", max_workers=8, **TIMES) as client:
        waiting = [client.infer_sample(row(n, n, n, n)) for n in range(count)]
        return [each.result(timeout=20.0)["SUM"] for each in waiting]


def asyncio_client(count: int) -> list[Any]:
    async def ask() -> list[Any]:
        async with AsyncioModelClient(URL, "scale", **TIMES) as client:
            found = await asyncio.gather(*[client.infer_sample(row(n, n, n, n)) for n in range(count)])
            batch = await client.infer_batch(np.stack([row(1, 2, 3, 4)] * 2))
            return [each["SUM"] for each in found] + [batch["SUM"]]

    return asyncio.run(ask())


def decoupled(values: list[int]) -> list[Any]:
    with DecoupledModelClient(URL, "repeat", **TIMES) as client:
        return [each["OUT"] for each in client.infer_sample(np.array(values, np.int32))]


def decoupled_asyncio(values: list[int]) -> list[Any]:
    async def ask() -> list[Any]:
        async with AsyncioDecoupledModelClient(URL, "repeat", **TIMES) as client:
            return [each["OUT"] async for each in client.infer_sample(np.array(values, np.int32))]

    return asyncio.run(ask())


serve(globals())
