"""Statistics in the Open Inference Protocol's form, from the batch manager's counters.

Durations are nanoseconds, in all; ours are cut into queue, compute_input (reading and decoding what was sent),
compute_infer and compute_output (0: instances do not time it apart).

Source: Triton's extension "statistics".
"""

import time
from typing import Any

from bridges.link import Link
from inferoxy.messages import AskStatistics, ModelStatistics, Spent


async def read(link: Link, name: str = "", version: str = "") -> list[dict[str, Any]]:
    """What has become of requests, one element per model version, by name.

    Args:
        link: To the batch manager.
        name: One model; empty: all.
        version: One version of it; empty: all.

    Raises:
        ModelNotFound: There is no such model or version.
        ModelUnavailable: The batch manager is away.
    """
    if name:
        link.models.require(name, version)
    found = await link.ask(AskStatistics(model=name, model_version=version))
    now_ms = time.time() * 1e3
    return [_shown(of_model, now_ms) for of_model in sorted(found.models, key=lambda s: (s.model, s.model_version))]


def _shown(found: ModelStatistics, now_ms: float) -> dict[str, Any]:
    nothing, untimed = Spent(), Spent(found.success.count)
    return {
        "name": found.model,
        "version": found.model_version,
        "last_inference": 0 if found.idle_us < 0 else int(now_ms - found.idle_us / 1e3),
        "inference_count": found.inferences,
        "execution_count": found.executions,
        "inference_stats": {
            "success": _spent(found.success),
            "fail": _spent(found.fail),
            "queue": _spent(found.queue),
            "compute_input": _spent(found.decode),
            "compute_infer": _spent(found.compute),
            "compute_output": _spent(untimed),
            "cache_hit": _spent(nothing),
            "cache_miss": _spent(nothing),
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": batch.batch_size,
                "compute_input": _spent(batch.decode),
                "compute_infer": _spent(batch.compute),
                "compute_output": _spent(Spent(batch.compute.count)),
            }
            for batch in found.batches
        ],
        "memory_usage": [],
    }


def _spent(found: Spent) -> dict[str, int]:
    return {"count": found.count, "ns": found.us * 1_000}
