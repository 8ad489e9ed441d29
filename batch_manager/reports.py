"""What the batch manager says of models and instances to the task manager and to people.

Pure. A model's load for scaling is model_state.py's.
"""

from typing import Any

from batch_manager.dispatcher import Instance, InstanceMode
from batch_manager.model_state import ModelState
from inferoxy import messages as m


def of_model(state: ModelState, now: float) -> dict[str, Any]:
    """Queue, rates and drops of one model version, JSON-able, for `inferoxy status`."""
    load, view = state.load(now), state.view()
    entry = {name: getattr(load, name) for name in load.__struct_fields__}
    return entry | {"state": view.state, "error": view.error, "drops": dict(state.figures.drops)}


def statistics_of(state: ModelState, now: float) -> m.ModelStatistics:
    """What has become of one model version's requests."""
    return state.tally.statistics(state.spec.name, state.spec.version, now)


def of_instance(instance: Instance, now: float) -> m.ConnectedInstance:
    """One instance, for the task manager."""
    return m.ConnectedInstance(
        instance=instance.name,
        model=instance.hello.model,
        model_version=instance.hello.model_version,
        in_flight=sum(batch.open for batch in instance.in_flight.values()),
        draining=instance.mode is InstanceMode.DRAINING,
        idle_s=0.0 if instance.in_flight else now - instance.idle_since,
        batches=instance.batches,
        requests=instance.requests,
        sequences=instance.sequences,
    )
