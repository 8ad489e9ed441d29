"""What bridges know of the registered models: the last Models message of the batch manager.

Pure. Which version a request without one gets is the batch manager's choice; here an empty version means the default.
Invariant: until the first complete message nothing is refused as unknown.
"""

from collections.abc import Iterable

from msgspec import structs

from inferoxy.errors import ModelNotFound
from inferoxy.messages import Models, ModelSpec, ModelView, TensorSpec

DEFAULT_TIMEOUT_S = 30.0  # of a request to a model that is not known yet


class ModelIndex:
    """The models by name and version."""

    def __init__(self) -> None:
        self.revision = 0
        self.complete = False
        self.updates = 0  # snapshots taken over in the life of this process
        self._views: dict[str, dict[str, ModelView]] = {}
        self._defaults: dict[str, ModelView] = {}

    def update(self, message: Models) -> None:
        """Take over a new snapshot."""
        self.revision, self.complete = message.revision, message.complete
        self.updates += 1
        views: dict[str, dict[str, ModelView]] = {}
        for view in message.models:
            views.setdefault(view.spec.name, {})[view.spec.version] = view
        self._views = views
        self._defaults = {
            name: next((v for v in versions.values() if v.spec.default), next(iter(versions.values())))
            for name, versions in views.items()
        }

    def forget_revision(self) -> None:
        """Ask for a new snapshot, and go by the old one until it comes."""
        self.revision = 0

    def find(self, name: str, version: str = "") -> ModelView | None:
        """The view a name and version stand for, or None while that is unknown.

        Raises:
            ModelNotFound: It is certain that there is no such model or version.
        """
        view = self.look(name, version)
        if view is None and self.complete:
            raise _unknown(name, version, self._views.get(name, ()))
        return view

    def look(self, name: str, version: str = "") -> ModelView | None:
        """The view a name and version stand for, or None."""
        return self._views.get(name, {}).get(version) if version else self._defaults.get(name)

    def require(self, name: str, version: str = "") -> ModelView:
        """The view a name and version stand for.

        Raises:
            ModelNotFound: There is none, as far as is known.
        """
        view = self.find(name, version)
        if view is None:
            raise _unknown(name, version, self._views.get(name, ()))
        return view

    def versions(self, name: str) -> list[str]:
        """The registered versions of a model."""
        return list(self._views.get(name, ()))

    def all(self) -> list[ModelView]:
        """Every version of every model, by name."""
        return [view for name in sorted(self._views) for view in self._views[name].values()]

    def sees_arena(self, name: str, version: str = "") -> bool:
        """Whether a model's instances see shared memory."""
        view = self.look(name, version)
        return view is not None and view.arena

    def timeout_s(self, name: str, version: str = "") -> float:
        """How long a request that states no timeout may take."""
        view = self.look(name, version)
        return view.spec.timeout_ms / 1e3 if view else DEFAULT_TIMEOUT_S


def is_ready(view: ModelView) -> bool:
    """Whether a request would be run: an instance is up, or one starts when asked for and nothing speaks against it."""
    return view.instances > 0 or (view.spec.instances.min == 0 and view.state in ("idle", "ready"))


def is_picture(spec: TensorSpec) -> bool:
    """Whether an input is one decoded picture, UINT8 [height, width, 3]."""
    return spec.datatype == "UINT8" and len(spec.shape) == 3 and spec.shape[2] in (3, -1)


def takes_picture(view: ModelView | None) -> bool | None:
    """Whether a model's only input is a picture; None while no instance has said so."""
    if view is None:
        return None
    if view.inputs:
        return len(view.inputs) == 1 and is_picture(view.inputs[0])
    return True if view.spec.runtime == "yolo" else None


def public_view(view: ModelView) -> ModelView:
    """What a client may see of a model: nothing of its environment, options or where it comes from."""
    spec = view.spec
    shown = ModelSpec(
        name=spec.name,
        version=spec.version,
        default=spec.default,
        weight=spec.weight,
        stateless=spec.stateless,
        batch_size=spec.batch_size,
        priority=spec.priority,
        timeout_ms=spec.timeout_ms,
        latency_budget_ms=spec.latency_budget_ms,
        instances=spec.instances,
        max_sequences=spec.max_sequences,
        sequence_idle_s=spec.sequence_idle_s,
        source="",
    )
    return structs.replace(view, spec=shown)


def describe_inputs(view: ModelView) -> str:
    """The declared inputs for an error message, such as INPUT0 FP32 [-1, 16]."""
    return ", ".join(f"{s.name} {s.datatype} {list(s.shape)}" for s in view.inputs)


def _unknown(name: str, version: str, versions: Iterable[str]) -> ModelNotFound:
    registered = sorted(versions)
    if registered:
        return ModelNotFound(
            f"Request for unknown model: {name!r} version {version!r} is not found, "
            f"expected version {' or '.join(registered)}"
        )
    return ModelNotFound(f"Request for unknown model: {name!r} is not found")
