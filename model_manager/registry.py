"""What may run: models.yaml and the admin API's changes made into one catalog.

Pure. Who wins: the latest change of a model version, wherever it was made. An admin change holds until the file's own
entry for that version differs from the one that the change was made upon; then the file's entry holds again.
Invariants: a catalog has exactly one default version per name; `revision` is equal exactly when the content is.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from inferoxy.errors import ModelNotFound
from inferoxy.messages import ModelSpec
from model_manager.spec import VERSION_SEPARATOR

_ENCODER = msgspec.json.Encoder(order="deterministic")


class Override(msgspec.Struct, frozen=True):
    """An admin change of one model version: its new spec, or None for "deleted".

    `base` is the digest of the file's entry when the change was made; "" when the file had none.
    """

    name: str
    version: str
    base: str = ""
    spec: ModelSpec | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Name and version, which identify it."""
        return (self.name, self.version)


@dataclass(frozen=True)
class Registry:
    """The file's models in its order, and admin changes in the order they were made. Changing it makes a new one."""

    file: tuple[ModelSpec, ...] = ()
    overrides: tuple[Override, ...] = ()

    @cached_property
    def models(self) -> tuple[ModelSpec, ...]:
        """The catalog."""
        bases = self._bases
        merged = {spec.key: spec for spec in self.file}
        for override in self.overrides:
            if override.base != bases.get(override.key, ""):
                continue
            if override.spec is None:
                merged.pop(override.key, None)
            else:
                merged[override.key] = override.spec
        return _settle_defaults(merged.values(), [override.key for override in self.overrides])

    @cached_property
    def revision(self) -> str:
        """A digest of the catalog."""
        return digest(self.models)

    def with_file(self, specs: Iterable[ModelSpec]) -> "Registry":
        """The file was read again. Changes to entries that differ now are forgotten."""
        read = Registry(tuple(specs), self.overrides)
        held = tuple(o for o in self.overrides if o.base == read._bases.get(o.key, ""))
        return replace(read, overrides=held)

    def with_spec(self, spec: ModelSpec) -> "Registry":
        """Register a model version, or put another in its place."""
        return self._changed(spec.key, spec)

    def without(self, slug: str) -> "Registry":
        """Delete one version (`name@version`), or all of a name.

        Raises:
            ModelNotFound: It is not registered.
        """
        changed = self
        for spec in self.select(slug):
            changed = changed._changed(spec.key, None)
        return changed

    def with_all(self, specs: Iterable[ModelSpec]) -> "Registry":
        """Replace every admin change by these models. Entries of the file hold over models of the same version."""
        in_file = self._bases
        return Registry(self.file, tuple(Override(*s.key, "", s) for s in specs if s.key not in in_file))

    def find(self, slug: str) -> ModelSpec:
        """The model of `name@version`, or the default version of `name`.

        Raises:
            ModelNotFound: It is not registered.
        """
        found = self.select(slug)
        return next((spec for spec in found if spec.default), found[0])

    def select(self, slug: str) -> list[ModelSpec]:
        """The model of `name@version`, or every version of `name`.

        Raises:
            ModelNotFound: None is registered.
        """
        name, at, version = slug.partition(VERSION_SEPARATOR)
        found = [spec for spec in self.models if spec.name == name and (not at or spec.version == version)]
        if not found:
            raise ModelNotFound(f"model {slug!r} is not registered")
        return found

    @cached_property
    def _bases(self) -> dict[tuple[str, str], str]:
        return {spec.key: digest([spec]) for spec in self.file}

    def _changed(self, key: tuple[str, str], spec: ModelSpec | None) -> "Registry":
        base = self._bases.get(key, "")
        others = tuple(override for override in self.overrides if override.key != key)
        as_in_file = next((entry for entry in self.file if entry.key == key), None)
        if (spec is None and as_in_file is None) or (spec and as_in_file and _plain(spec) == _plain(as_in_file)):
            return replace(self, overrides=others)
        return replace(self, overrides=(*others, Override(*key, base, spec)))


def digest(specs: Iterable[ModelSpec]) -> str:
    """What tells two contents apart; the order of the models does not count."""
    parts = sorted(_ENCODER.encode(spec) for spec in specs)
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


def _plain(spec: ModelSpec) -> ModelSpec:
    return msgspec.structs.replace(spec, source="")


def _settle_defaults(specs: Iterable[ModelSpec], changes: Sequence[tuple[str, str]]) -> tuple[ModelSpec, ...]:
    """Make exactly one version of each name the default.

    That is, among the versions that say so, the one changed last by the admin API, else the first; and among versions
    that say nothing, the first.
    """
    kept = list(specs)
    when = {key: at for at, key in enumerate(changes)}
    chosen: dict[str, ModelSpec] = {}
    for spec in kept:
        rival = chosen.setdefault(spec.name, spec)
        if (spec.default, when.get(spec.key, -1)) > (rival.default, when.get(rival.key, -1)) and spec.default:
            chosen[spec.name] = spec
    return tuple(
        spec if spec.default is (chosen[spec.name] is spec) else msgspec.structs.replace(spec, default=not spec.default)
        for spec in kept
    )
