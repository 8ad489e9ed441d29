"""Find objects in pictures with a detector in ONNX form, to the same last bit however the pictures were batched.

One run of ONNX Runtime over several pictures with several threads does not promise that: where a thread's share of an
operation ends decides which of its numbers are computed by the vector code and which by the code for remainders, so
the batch's size shows in the last bits. Here every picture is a run of its own in one thread, and a batch's pictures
run beside each other; on cores that is as fast. Boxes are brought out with the yolo runtime's own functions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inferoxy.runtime.cores import cores
from inferoxy.runtime.yolo.layouts import candidates, find_layout, read_names
from inferoxy.runtime.yolo.letterbox import letterbox
from inferoxy.runtime.yolo.nms import suppress

MAX_OVERLAP = 0.7  # IoU above which the weaker of two boxes of one class is dropped
MAX_FOUND = 300  # objects in a picture


class Found(NamedTuple):
    """Boxes [N, 4] float32 x1, y1, x2, y2 in the picture's pixels, confidences [N] float32, class ids [N], strongest
    first."""

    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    class_ids: NDArray[np.int64]


class Finder:
    """A detector and the threads it runs in.

    Args:
        path: An ONNX file in a layout that the yolo runtime knows, with one free or fixed batch axis of 1.
        confidence: The least that an object is found with.
        threads: Pictures that are worked on at the same time; 0: as many as this process was given cores.

    Attributes:
        names: Class names by id.

    Raises:
        OSError: There is no such file.
        inferoxy.errors.ModelUnavailable: It is no detector of a known layout.
    """

    def __init__(self, path: Path, confidence: float, threads: int = 0) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such detector")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._confidence = confidence
        declared = self._session.get_inputs()[0]
        self._input = declared.name
        self._shape = (1, 3, *declared.shape[2:])
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.names = read_names(metadata) or []
        output = self._run(np.zeros(self._shape, np.float32))
        self._layout, count = find_layout(
            (1, *output.shape), len(self.names) or None, metadata, (self._shape[3], self._shape[2])
        )
        self.names = self.names or [f"class_{index}" for index in range(count)]
        given = int(os.environ.get("OMP_NUM_THREADS") or 0)  # what the launcher tells numeric libraries
        self._pool = ThreadPoolExecutor(threads or given or cores(), "find")

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[Found]:
        """What is in each of these pictures, RGB UINT8 [height, width, 3], of any sizes."""
        return list(self._pool.map(self._find_one, images))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _find_one(self, image: NDArray[np.uint8]) -> Found:
        tensor = np.empty(self._shape, np.float32)
        fit = letterbox(image, tensor[0])
        found = candidates(self._run(tensor), self._layout, self._confidence)
        kept = suppress(found.boxes, found.scores, found.class_ids, MAX_OVERLAP, MAX_FOUND)
        return Found(fit.to_picture(found.boxes[kept]), found.scores[kept], found.class_ids[kept].astype(np.int64))

    def _run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs: list[NDArray[np.float32]] = self._session.run(None, {self._input: tensor})
        return outputs[0][0]
