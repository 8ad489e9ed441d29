"""What the client gives back: typed answers with numpy fields.

Pure. Protocols hand over plain values (a prediction dict, named arrays) and `answer_from` picks the type: Detections
for a prediction that holds boxes, Prediction for any other. Boxes are xyxy in pixels of the original picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from inferoxy import messages as m
from inferoxy.errors import InternalError
from inferoxy.tensors import Array

_BOX_KEYS = ("boxes", "confidence", "class_id", "class_name")
_SHOWN = 5  # detections spelled out by repr

_Column = TypeVar("_Column", bound=Sequence[Any] | NDArray[Any])


class Size(NamedTuple):
    """A picture's size in pixels, as it is seen (EXIF orientation applied)."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Served:
    """How a request was served. `closed` says why its batch was sent: full, idle, delay, deadline or alone."""

    queue_ms: float = 0.0
    compute_ms: float = 0.0
    decode_ms: float = 0.0
    batch_size: int = 0
    closed: str = ""
    instance: str = ""

    @classmethod
    def of(cls, served: m.Served | None) -> "Served":
        """The same, from what travels in a response."""
        if served is None:
            return cls()
        return cls(
            served.queue_us / 1e3,
            served.compute_us / 1e3,
            served.decode_us / 1e3,
            served.batch_size,
            served.closed,
            served.instance,
        )


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A registered model version. `state`: starting, ready, idle (starts on the first request) or failing.

    `ready` says whether a request would be run. Inputs and outputs are known once an instance has run. What is None
    the protocol did not tell: over gRPC these are `default`, `stateless` and `batch_size`.
    """

    name: str
    version: str
    state: str
    ready: bool = False
    error: str = ""
    default: bool | None = None
    stateless: bool | None = None
    batch_size: int | None = None
    platform: str = ""
    inputs: tuple[m.TensorSpec, ...] = ()
    outputs: tuple[m.TensorSpec, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What every answer says about itself."""

    model: str = ""
    version: str = ""
    request_id: str = ""
    served: Served = field(default_factory=Served)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prediction(Answer):
    """A model's answer about one picture: `value` is its prediction, `picture` the drawn picture's bytes if asked for.

    `parts` holds all answers, this last one included, of a model that answers one request several times.
    """

    value: dict[str, Any]
    image_size: Size | None = None
    picture: bytes | None = None
    parts: tuple["Detections | Prediction", ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The prediction with what is known about it, JSON-able."""
        return _to_dict(self, self.value)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the drawn picture, as it came (see `draw`)."""
        return _save(self, path)

    def __repr__(self) -> str:
        return f"Prediction({_short(self.value)}{_origin(self)})"


@dataclass(frozen=True, slots=True)
class Detection:
    """One object in a picture. `box` is (x1, y1, x2, y2) in pixels."""

    box: tuple[float, float, float, float]
    confidence: float
    class_id: int
    class_name: str


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Detections(Answer):
    """The objects found in one picture, best first as the model gave them.

    Attributes:
        boxes: xyxy, FP32 [N, 4], pixels of the original picture.
        confidence: FP32 [N], 0..1.
        class_id: INT32 [N].
        class_name: N names.
        image_size: The picture's size, None where it is not known.
        picture: The drawn picture's bytes if asked for.
        extra: What else the prediction held, such as track ids.
    """

    boxes: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int32]
    class_name: list[str]
    image_size: Size | None = None
    picture: bytes | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    parts: tuple["Detections | Prediction", ...] = ()

    @property
    def value(self) -> dict[str, Any]:
        """The prediction as lists, as the model gave it."""
        return {
            "boxes": [_shortest(box) for box in self.boxes],
            "confidence": _shortest(self.confidence),
            "class_id": self.class_id.tolist(),
            "class_name": list(self.class_name),
            **self.extra,
        }

    def to_dict(self) -> dict[str, Any]:
        """The detections with what is known about them, JSON-able."""
        return _to_dict(self, self.value)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the drawn picture, as it came (see `draw`)."""
        return _save(self, path)

    def above(self, confidence: float) -> "Detections":
        """Those of at least this confidence."""
        return self.select(np.flatnonzero(self.confidence >= confidence))

    def select(self, indices: Sequence[int] | NDArray[Any]) -> "Detections":
        """Those at these positions; `extra` values with one element for each detection are picked alike."""
        chosen = np.asarray(indices, np.intp)
        extra = {
            key: [value[i] for i in chosen] if isinstance(value, list) and len(value) == len(self) else value
            for key, value in self.extra.items()
        }
        return Detections(
            boxes=self.boxes[chosen],
            confidence=self.confidence[chosen],
            class_id=self.class_id[chosen],
            class_name=[self.class_name[i] for i in chosen],
            image_size=self.image_size,
            picture=self.picture,
            extra=extra,
            model=self.model,
            version=self.version,
            request_id=self.request_id,
            served=self.served,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> "Detections": ...
    def __getitem__(self, index: int | slice) -> "Detection | Detections":
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        x1, y1, x2, y2 = self.boxes[index].tolist()
        return Detection(
            (x1, y1, x2, y2), float(self.confidence[index]), int(self.class_id[index]), self.class_name[index]
        )

    def __iter__(self) -> Iterator[Detection]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name} {confidence:.2f}"
            for name, confidence in zip(self.class_name[:_SHOWN], self.confidence[:_SHOWN], strict=True)
        )
        more = ", …" if len(self) > _SHOWN else ""
        return f"Detections({len(self)}{': ' if shown else ''}{shown}{more}{_origin(self)})"


class InferResult(Mapping[str, Array]):
    """A model's output tensors by name, with how they were served."""

    def __init__(
        self,
        tensors: dict[str, Array],
        *,
        model: str = "",
        version: str = "",
        request_id: str = "",
        served: Served | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        self._tensors = tensors
        self.model = model
        self.version = version
        self.request_id = request_id
        self.served = served or Served()
        self.parameters = parameters or {}
        self.parts: tuple[InferResult, ...] = ()

    def __getitem__(self, name: str) -> Array:
        try:
            return self._tensors[name]
        except KeyError:
            raise KeyError(f"{name}: expected one of {', '.join(self._tensors) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {array.dtype} {list(array.shape)}" for name, array in self._tensors.items())
        return f"InferResult({shown}, model={self.model!r}, version={self.version!r})"


def answer_from(
    prediction: Any,
    *,
    picture: bytes | None = None,
    image_size: Size | None = None,
    model: str = "",
    version: str = "",
    request_id: str = "",
    served: Served | None = None,
) -> Detections | Prediction:
    """The typed answer for a prediction.

    Raises:
        InternalError: The fields of a detections dict are not of one length.
    """
    value = prediction if isinstance(prediction, dict) else {"value": prediction}
    about: dict[str, Any] = {
        "picture": picture,
        "image_size": image_size,
        "model": model,
        "version": version,
        "request_id": request_id,
        "served": served or Served(),
    }
    if not all(isinstance(value.get(key), list) for key in ("boxes", "confidence", "class_id")):
        return Prediction(value=value, **about)
    count = len(value["boxes"])
    class_id = np.asarray(value["class_id"], np.int32).reshape(-1)
    names = value.get("class_name")
    try:
        return Detections(
            boxes=_of_length(count, np.asarray(value["boxes"], np.float32).reshape(count, 4)),
            confidence=_of_length(count, np.asarray(value["confidence"], np.float32).reshape(-1)),
            class_id=_of_length(count, class_id),
            class_name=_of_length(count, names) if isinstance(names, list) else [str(i) for i in class_id],
            extra={key: item for key, item in value.items() if key not in _BOX_KEYS},
            **about,
        )
    except ValueError as exc:
        raise InternalError(f"model {model}: a prediction of {count} boxes does not hold together: {exc}") from exc


def last_prediction(answers: Sequence[Detections | Prediction]) -> Detections | Prediction:
    """The one answer, or the last of several with all of them as its parts; an empty Prediction for none."""
    if len(answers) == 1:
        return answers[0]
    return replace(answers[-1], parts=tuple(answers)) if answers else Prediction(value={})


def last_result(answers: Sequence[InferResult]) -> InferResult:
    """The same for tensors."""
    last = answers[-1] if answers else InferResult({})
    if len(answers) > 1:
        last.parts = tuple(answers)
    return last


def _of_length(count: int, found: _Column) -> _Column:
    if len(found) != count:
        raise ValueError(f"expected {count} values, found {len(found)}")
    return found


def _shortest(row: NDArray[np.float32]) -> list[float]:
    """The numbers with no more digits than tell them apart as FP32: 484.198, not 484.197998046875."""
    return [float(str(number)) for number in row]


def _to_dict(answer: Detections | Prediction, prediction: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {"model": answer.model, "version": answer.version, "request_id": answer.request_id}
    if answer.image_size is not None:
        about["image"] = answer.image_size._asdict()
    served = answer.served
    about["served"] = {name: getattr(served, name) for name in Served.__dataclass_fields__}
    return {**about, "prediction": prediction}


def _save(answer: Detections | Prediction, path: str | PathLike[str]) -> Path:
    if answer.picture is None:
        raise ValueError('there is no drawn picture: call predict(…, draw="jpeg")')
    target = Path(path)
    target.write_bytes(answer.picture)
    return target


def _origin(answer: Detections | Prediction) -> str:
    size = f" in {answer.image_size.width}x{answer.image_size.height}" if answer.image_size else ""
    model = f", model={answer.model!r}, version={answer.version!r}" if answer.model else ""
    return size + model


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:119] + "…"
