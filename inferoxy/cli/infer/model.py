"""What is known of the model that is asked, and what to say when it is not there or takes something else."""

import difflib
from collections.abc import Iterable

from inferoxy.client import Client, ModelInfo
from inferoxy.errors import InvalidRequest
from inferoxy.messages import TensorSpec

_PICTURE_TYPES = ("UINT8", "BYTES")


def find_model(client: Client, name: str, version: str) -> ModelInfo:
    """A registered model.

    Args:
        client: Of the server.
        name: The model's.
        version: Its version; empty: the default one.

    Raises:
        InvalidRequest: It is not registered; the message says what is, and what was probably meant.
        InferoxyError: The server cannot be reached, or did not tell.
    """
    models = client.models()
    versions = [model for model in models if model.name == name]
    if not versions:
        raise InvalidRequest(_unknown(name, sorted({model.name for model in models})))
    if not version:
        return next((model for model in versions if model.default), versions[0])
    found = next((model for model in versions if model.version == version), None)
    if found is None:
        known = ", ".join(sorted(model.version for model in versions))
        raise InvalidRequest(f"model {name!r} has no version {version!r}; known versions: {known}")
    return found


def check_takes_pictures(model: ModelInfo) -> None:
    """Refuse a model that takes tensors, as far as its inputs are known.

    Raises:
        InvalidRequest: No input of it can be a picture.
    """
    if model.inputs and not any(spec.datatype in _PICTURE_TYPES for spec in model.inputs):
        raise InvalidRequest(
            f"model {model.name!r} takes tensors ({_listed(model.inputs)}), not pictures: "
            "give them with --inputs FILE.npz"
        )


def _unknown(name: str, known: list[str]) -> str:
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    guess = f"; did you mean {by_lower[close[0]]}?" if close else ""
    return f"model {name!r} is not registered{guess}; known models: {', '.join(known) or 'none'}"


def _listed(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs)
