"""What our models answer, as the first Inferoxy's clients read it.

Pure. An output has the picture the model gave, if it gave one, beside its prediction; the first Inferoxy lost the
prediction where there was none. An error stands in the output that it is of, as a text that begins with a code.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import simplejpeg

from bridges.pending import Answer
from bridges.results import PICTURE, Output, read
from bridges.v2_pictures import PREDICTION
from inferoxy.errors import Code, InferoxyError, InternalError, ModelError
from inferoxy.tensors import BYTES, Array, decode_strings, from_bytes

# The codes of the first Inferoxy: a model that cannot be run, and one that does not answer. Others have their own name.
_E001 = frozenset({Code.MODEL_NOT_FOUND, Code.MODEL_UNAVAILABLE, Code.INSTANCE_LOST})
_E011 = frozenset({Code.DEADLINE_EXCEEDED})


class Given(NamedTuple):
    """One output: a result, or an error. `parameters` are the request's with what the model adds."""

    picture: Array | None  # UINT8 [height, width, 3]
    prediction: Any
    parameters: dict[str, Any]
    error: str | None


def given(answer: Answer, parameters: dict[str, Any]) -> Given:
    """The output for one answer to an input with these parameters.

    Raises:
        InternalError: The answer is malformed.
        ModelError: The prediction is no JSON.
    """
    result = read(answer)
    picture: Array | None = None
    values: dict[str, Output] = {}
    for output in result.outputs:
        if output.tensor.name == PICTURE and output.tensor.datatype == "UINT8" and len(output.tensor.shape) == 3:
            picture = _picture(output)
        else:
            values[output.tensor.name] = output
    prediction = result.prediction
    if prediction is None:
        alone = values.get(PREDICTION) if len(values) == 1 else None
        if alone is not None and alone.tensor.datatype == BYTES:
            prediction = _json(alone)
        else:
            prediction = {name: _listed(output) for name, output in values.items()}
    return Given(picture, prediction, {**parameters, **result.parameters}, None)


def failed(exc: InferoxyError, parameters: dict[str, Any]) -> Given:
    """The output for an input that was not answered."""
    code = "E001" if exc.code in _E001 else "E011" if exc.code in _E011 else exc.code.value
    return Given(None, None, parameters, f"[{code}]: {exc.message}")


def _picture(output: Output) -> Array:
    tensor = output.tensor
    if tensor.encoding == "jpeg":
        try:
            decoded: Array = simplejpeg.decode_jpeg(output.data, "RGB")
        except ValueError as exc:
            raise InternalError(f"the model's picture cannot be decoded: {exc}") from exc
        return decoded
    return from_bytes(tensor.name, tensor.datatype, tensor.shape, output.data)


def _json(output: Output) -> Any:
    try:
        (text,) = decode_strings(output.tensor.name, output.tensor.shape, output.data)
        return msgspec.json.decode(text)
    except (ValueError, msgspec.DecodeError) as exc:
        raise ModelError(f"the model's prediction is no JSON: {exc}") from exc


def _listed(output: Output) -> Any:
    tensor = output.tensor
    array = from_bytes(tensor.name, tensor.datatype, tensor.shape, output.data)
    if tensor.datatype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    listed: Any = array.tolist()
    return _texts(listed) if tensor.datatype == BYTES else listed


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value.decode(errors="replace")
