"""The models the batch manager knows, by name and version.

Pure. An empty version stands for the model's default version.
"""

from collections.abc import Sequence

from batch_manager.model_state import ModelState
from inferoxy.messages import ModelSpec, ModelView, Request

ModelKey = tuple[str, str]


class ModelTable:
    """Registered models and their states. `complete` once the model manager has been heard."""

    def __init__(self) -> None:
        self.states: dict[ModelKey, ModelState] = {}
        self.complete = False
        self._defaults: dict[str, ModelState] = {}

    def find(self, name: str, version: str) -> ModelState | None:
        """The state a request means, or None."""
        return self.states.get((name, version)) if version else self._defaults.get(name)

    def unknown(self, request: Request) -> str:
        """Why `find` found nothing, as the caller should read it."""
        versions = sorted(version for name, version in self.states if name == request.model)
        if versions:
            return (
                f"model {request.model!r}: expected version {' or '.join(versions)}, "
                f"found version {request.model_version!r}"
            )
        return f"model {request.model!r}: no such model is registered"

    def apply(self, specs: Sequence[ModelSpec], now: float) -> list[ModelState]:
        """Take over a new catalog; returns the states that are no longer registered."""
        self.complete = True
        wanted = {spec.key: spec for spec in specs}
        removed = [self.states.pop(key) for key in list(self.states) if key not in wanted]
        for key, spec in wanted.items():
            state = self.states.get(key)
            if state is None or state.spec.stateless != spec.stateless:
                if state is not None:
                    removed.append(state)
                self.states[key] = ModelState(spec, now)
            else:
                state.apply(spec)
        self._defaults = {}
        for (name, _), state in sorted(self.states.items(), key=lambda item: item[1].spec.default):
            self._defaults[name] = state
        return removed

    def views(self) -> list[ModelView]:
        """What bridges show."""
        return [state.view() for state in self.states.values()]
