"""The yolo backend: decoded pictures to detections.

Pictures are letterboxed in pool threads, straight into the next batch's input, while the model computes the one
before. Options of the spec, and of a request's parameters: `confidence`, `iou`, `max_detections` and `classes`, the ids
or names of those wanted; of the spec alone: `labels`, a file of class names, and `providers`.
Answers: boxes FP32 [N, 4] (x1, y1, x2, y2 in the original picture's pixels), scores FP32 [N], class_ids INT32 [N], in
descending score.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inferoxy.errors import InvalidRequest, ModelUnavailable
from inferoxy.messages import InstanceConfig, TensorSpec
from inferoxy.runtime.backend import Answer, Backend, EachBackend, Outcome, Signature, check_options
from inferoxy.runtime.buffers import Buffers
from inferoxy.runtime.onnx_backend import Session
from inferoxy.runtime.sdk import Array, Request
from inferoxy.runtime.yolo.draw import draw
from inferoxy.runtime.yolo.labels import read_labels
from inferoxy.runtime.yolo.layouts import candidates, find_layout, read_names
from inferoxy.runtime.yolo.letterbox import Fit, letterbox
from inferoxy.runtime.yolo.nms import suppress
from inferoxy.runtime.yolo.wishes import Wishes, read_wishes

IMAGE = "image"
PLATFORM = "onnxruntime_yolo"
DEFAULT_SIDE = 640
OPTIONS: dict[str, tuple[type, ...]] = {
    "confidence": (int, float),
    "iou": (int, float),
    "max_detections": (int,),
    "classes": (list,),
    "labels": (str,),
    "providers": (list,),
}
OUTPUTS = [
    TensorSpec("boxes", "FP32", (-1, 4)),
    TensorSpec("scores", "FP32", (-1,)),
    TensorSpec("class_ids", "INT32", (-1,)),
]


class Detections(Answer):
    """What was found in one picture."""

    __slots__ = ("_image", "_names")

    def __init__(self, boxes: Array, scores: Array, class_ids: Array, names: Sequence[str], image: Array) -> None:
        super().__init__({"boxes": boxes, "scores": scores, "class_ids": class_ids})
        self._names = names
        self._image = image

    def prediction(self) -> Any:
        class_ids = self.tensors["class_ids"].tolist()
        return {
            "boxes": np.round(self.tensors["boxes"].astype(np.float64), 3).tolist(),
            "confidence": np.round(self.tensors["scores"].astype(np.float64), 5).tolist(),
            "class_id": class_ids,
            "class_name": [self._names[index] for index in class_ids],
        }

    def picture(self) -> Array | None:
        tensors = self.tensors
        return draw(self._image, tensors["boxes"], tensors["scores"], tensors["class_ids"], self._names)


class _Prepared(NamedTuple):
    """One picture, letterboxed into a row of a batch's input."""

    batch: Array
    row: int
    fit: Fit
    wishes: Wishes


def load(config: InstanceConfig) -> Backend:
    """Load a detector.

    Raises:
        ModelUnavailable: It is no detector of a known layout, or an option is wrong.
    """
    check_options(config.options, OPTIONS)
    return Yolo(Session(config), config)


class Yolo(EachBackend):
    """A detector."""

    prepares = True

    def __init__(self, session: Session, config: InstanceConfig) -> None:
        self._session = session
        self._fixed_batch, self._height, self._width = _input_size(session)
        self._dtype = np.dtype(np.float16 if session.inputs[0].datatype == "FP16" else np.float32)
        self._buffers = Buffers()
        output = self._first_run()
        names = self._read_names(config)
        self._layout, class_count = find_layout(
            output.shape, len(names) if names else None, session.metadata, (self._width, self._height)
        )
        self._names = names or [f"class_{index}" for index in range(class_count)]
        try:
            self._defaults = read_wishes(config.options, Wishes(), self._names)
        except InvalidRequest as exc:
            raise ModelUnavailable(f"options: {exc.message}") from exc
        metadata = {
            **session.metadata,
            "names": repr(dict(enumerate(self._names))),
            "layout": self._layout.value,
            "providers": ",".join(session.providers),
        }
        super().__init__(
            Signature(
                inputs=[TensorSpec(IMAGE, "UINT8", (-1, -1, 3))],
                outputs=OUTPUTS,
                batch_size=config.batch_size,
                platform=PLATFORM,
                metadata=metadata,
                any_picture_name=True,
                draws=True,
                fresh_outputs=True,
            )
        )

    def begin(self, count: int) -> Array:
        """The input for a batch of `count` pictures, float [count, 3, height, width]."""
        shape = (count, 3, self._height, self._width)
        size = count * 3 * self._height * self._width * self._dtype.itemsize
        return self._buffers.take(size).view(self._dtype).reshape(shape)

    def prepare(self, request: Request, shared: Array, row: int) -> None:
        image = request[IMAGE]
        if not image.size:
            raise InvalidRequest(f"input 'image': expected at least one pixel, found shape {list(image.shape)}")
        wishes = read_wishes(request.parameters, self._defaults, self._names)
        request.prepared = _Prepared(shared, row, letterbox(image, shared[row]), wishes)

    def infer_each(self, requests: list[Request]) -> Sequence[Outcome]:
        prepared: list[_Prepared] = [request.prepared for request in requests]
        outputs = self._run(prepared)
        return [
            self._detections(request[IMAGE], one, output)
            for request, one, output in zip(requests, prepared, outputs, strict=True)
        ]

    def _run(self, prepared: Sequence[_Prepared]) -> list[Array]:
        """Each picture's output."""
        batch, rows = prepared[0].batch, [one.row for one in prepared]
        has_gaps = rows[-1] - rows[0] + 1 > len(rows)  # some pictures of the batch were bad
        whole = batch[rows] if has_gaps else batch[rows[0] : rows[-1] + 1]
        step = self._fixed_batch or len(whole)
        outputs: list[Array] = []
        for at in range(0, len(whole), step):
            part = whole[at : at + step]
            missing = step - len(part)
            if missing:
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
            outputs += list(self._session.run({self._session.inputs[0].name: part})[0])[: step - missing]
        return outputs

    def _detections(self, image: Array, one: _Prepared, output: Array) -> Detections:
        wishes = one.wishes
        found = candidates(output, self._layout, wishes.confidence)
        if wishes.classes is not None:
            wanted = np.isin(found.class_ids, wishes.classes)
            found = type(found)(*(part[wanted] for part in found))
        known = (found.class_ids >= 0) & (found.class_ids < len(self._names))
        if not known.all():
            found = type(found)(*(part[known] for part in found))
        kept = suppress(found.boxes, found.scores, found.class_ids, wishes.iou, wishes.max_detections)
        boxes = one.fit.to_picture(found.boxes[kept])
        return Detections(boxes, found.scores[kept], found.class_ids[kept], self._names, image)

    def _first_run(self) -> Array:
        """Run before there are requests: the shape of the output is seen, and what a warm run takes."""
        shape = (self._fixed_batch or 1, 3, self._height, self._width)
        inputs = {self._session.inputs[0].name: np.zeros(shape, self._dtype)}
        outputs = self._session.run(inputs)
        self.warm_s = self._session.time_run(inputs)
        if outputs[0].ndim != 3:
            raise ModelUnavailable(
                f"output {self._session.outputs[0].name}: expected 3 dimensions, found {list(outputs[0].shape)}"
            )
        return outputs[0][:1]

    def _read_names(self, config: InstanceConfig) -> list[str] | None:
        labels = config.options.get("labels")
        if labels:
            return read_labels(Path(config.artifact).parent / labels)
        return read_names(self._session.metadata)


def _input_size(session: Session) -> tuple[int, int, int]:
    """Batch (0: free), height and width of the input in pixels.

    Raises:
        ModelUnavailable: There is not exactly one input FP32 or FP16 [N, 3, height, width].
    """
    found = ", ".join(f"{s.name} {s.datatype} {list(s.shape)}" for s in session.inputs)
    spec = session.inputs[0]
    if (
        len(session.inputs) != 1
        or spec.datatype not in ("FP32", "FP16")
        or len(spec.shape) != 4
        or spec.shape[1] not in (-1, 3)
    ):
        raise ModelUnavailable(f"inputs: expected one FP32 or FP16 [N, 3, height, width], found {found}")
    batch, _, height, width = spec.shape
    declared = session.metadata.get("imgsz", "")
    sides = [int(word) for word in declared.strip("[]()").replace(",", " ").split() if word.isdecimal()]
    if sides:
        default_height, default_width = sides[0], sides[-1]
    else:
        default_height = default_width = DEFAULT_SIDE
    return max(batch, 0), height if height > 0 else default_height, width if width > 0 else default_width
