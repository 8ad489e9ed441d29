"""A model's configuration in the form that clients of NVIDIA's server read (ModelConfig), from what is known of it.

Pure. Invariant: what does not apply is absent, because clients go by presence.

Source: Triton's model_config.proto, as far as its clients look at it.
"""

from typing import Any

from inferoxy.messages import ModelView, TensorSpec
from inferoxy.tensors import BYTES


def max_batch_size(view: ModelView) -> int:
    """The most rows of a request; 0 for a model whose requests have no batch axis."""
    return view.spec.batch_size if view.stacked else 0


def config_of(view: ModelView) -> dict[str, Any]:
    """ModelConfig as JSON.

    `dims` are without the batch axis exactly when max_batch_size is above 0. What the model says of itself stands in
    `parameters.metadata.string_value` as a Python literal, where Ultralytics looks for it.
    """
    spec = view.spec
    is_batched = max_batch_size(view) > 0
    platform = view.platform or spec.runtime or "container"
    config: dict[str, Any] = {
        "name": spec.name,
        "platform": platform,
        "backend": platform,
        "version_policy": {"specific": {"versions": [int(spec.version)]}} if spec.version.isdecimal() else {},
        "max_batch_size": max_batch_size(view),
        "input": [_tensor(s, is_batched) for s in view.inputs],
        "output": [_tensor(s, is_batched) for s in view.outputs],
        "instance_group": [
            {
                "name": spec.name,
                "kind": "KIND_GPU" if spec.run_on_gpu else "KIND_CPU",
                "count": max(view.instances, spec.instances.min, 1),
            }
        ],
        "model_transaction_policy": {"decoupled": view.decoupled},
        "parameters": {name: {"string_value": value} for name, value in _told(view).items()},
    }
    if not config["version_policy"]:
        del config["version_policy"]
    if not spec.stateless:
        config["sequence_batching"] = {
            "max_sequence_idle_microseconds": int(spec.sequence_idle_s * 1e6),
            "direct": {},
        }
    elif spec.batch_size > 1:
        config["dynamic_batching"] = {
            "preferred_batch_size": [spec.batch_size],
            "max_queue_delay_microseconds": int(spec.max_queue_delay_ms * 1e3),
        }
    return config


def _told(view: ModelView) -> dict[str, str]:
    return {"metadata": repr(view.metadata)} if view.metadata else {}


def _tensor(spec: TensorSpec, is_batched: bool) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == BYTES else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape[is_batched:])}
