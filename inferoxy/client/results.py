"""What the client gives back: typed answers with numpy fields.

Pure. Protocols hand over plain values (a prediction dict, named arrays) and `answer_from` picks the type: Detections
for a prediction that holds boxes, Prediction for any other. Boxes are xyxy in pixels of the original picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from inferoxy.client import drawing, exports
from inferoxy.client.about import Answer, ModelInfo, Served, Size
from inferoxy.errors import InternalError
from inferoxy.tensors import Array

__all__ = [
    "Answer",
    "Detection",
    "Detections",
    "InferResult",
    "ModelInfo",
    "Prediction",
    "Served",
    "Size",
    "answer_from",
    "last_prediction",
    "last_result",
]

_BOX_KEYS = ("boxes", "confidence", "class_id", "class_name")
_SHOWN = 5  # detections spelled out by repr

if TYPE_CHECKING:
    from inferoxy.client.pictures import Source

_Column = TypeVar("_Column", bound=Sequence[Any] | NDArray[Any])


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
        """Write the drawn picture, as the server sent it (see Client.predict)."""
        return _save(self, path)

    def draw(self) -> NDArray[np.uint8]:
        """The drawn picture that the server sent, RGB UINT8 [height, width, 3].

        What a model found that are no boxes only the model knows how to draw.

        Raises:
            InvalidRequest: None came; see `draw` of Client.predict.
            InferoxyError: OpenCV, of the extra `vision`, is not installed.
        """
        return drawing.decoded(self.picture)

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
            "boxes": [shortest(box) for box in self.boxes],
            "confidence": shortest(self.confidence),
            "class_id": self.class_id.tolist(),
            "class_name": list(self.class_name),
            **self.extra,
        }

    def to_dict(self) -> dict[str, Any]:
        """The detections with what is known about them, JSON-able."""
        return _to_dict(self, self.value)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the drawn picture, as the server sent it (see Client.predict)."""
        return _save(self, path)

    def draw(self, picture: "Source | None" = None) -> NDArray[np.uint8]:
        """The picture with boxes, names and confidences drawn, as the server draws them.

        Args:
            picture: What was sent, as in Client.predict; None: the drawn picture that the server sent.

        Returns:
            RGB UINT8 [height, width, 3], the EXIF orientation applied; a new array.

        Raises:
            InvalidRequest: It is no picture, or one of another size than `image_size`; or none was given and none came.
            OSError: The file cannot be read.
            InferoxyError: OpenCV, of the extra `vision`, is not installed.
        """
        return drawing.decoded(self.picture) if picture is None else drawing.drawn(self, picture)

    def to_supervision(self) -> Any:
        """The same as a supervision.Detections, with the class names as its data["class_name"].

        `track_id` of `extra` becomes its tracker_id, `mask` (one [height, width] of 0 and 1 for each box) its mask;
        other lists with one element for each detection become data.

        Raises:
            InferoxyError: supervision is not installed.
            InvalidRequest: The masks are not of the picture's size.
        """
        return exports.to_supervision(self)

    def to_coco(
        self, image_id: int | str, categories: Mapping[str, int] | Mapping[int, int] | None = None
    ) -> list[dict[str, Any]]:
        """The detections as COCO results: image_id, category_id, bbox [x, y, width, height] and score.

        Args:
            image_id: Which picture of the dataset it is.
            categories: The dataset's category ids by class name or by class id; None: they are the class ids.

        Raises:
            InvalidRequest: A class is in none of `categories`.
        """
        return exports.to_coco(self, image_id, categories)

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


def shortest(row: NDArray[np.float32]) -> list[float]:
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
