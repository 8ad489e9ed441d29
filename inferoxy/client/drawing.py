"""Pictures with findings, on the client's side: drawn as a yolo instance draws them, or decoded as they came.

What draws and decodes is the runtime's, so that both sides look the same; it needs the extra `vision`.
Invariant: OpenCV is imported when something is drawn, and its settings stay the caller's.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from inferoxy.errors import Code, InferoxyError, InvalidRequest

if TYPE_CHECKING:
    from inferoxy.client.pictures import Source
    from inferoxy.client.results import Detections

FAR = 4_096  # pixels outside the picture: what is farther away is not seen, and too far for OpenCV's integers

Image = NDArray[np.uint8]


class Vision(NamedTuple):
    """What the extra `vision` gives."""

    decode: Callable[..., Image]
    draw: Callable[..., Image]


def drawn(found: "Detections", picture: "Source") -> Image:
    """Detections drawn into a copy of their picture.

    Raises:
        InvalidRequest: It is no picture, or of another size than the answer says.
        OSError: The file cannot be read.
        InferoxyError: OpenCV is not installed.
    """
    vision = _vision()
    canvas = _pixels(vision, picture)
    height, width, _ = canvas.shape
    if found.image_size not in (None, (width, height)):
        raise InvalidRequest(
            f"picture: expected {found.image_size.width}x{found.image_size.height} as the answer says, "
            f"found {width}x{height}"
        )
    seen = found.select(np.flatnonzero(np.isfinite(found.boxes).all(1)))
    boxes = np.clip(seen.boxes, -FAR, np.array([width, height, width, height]) + FAR)
    # Looked up by class id alone; ids need not be few, nor begin with 0.
    names = cast("Sequence[str]", dict(zip(seen.class_id.tolist(), seen.class_name, strict=True)))
    order = np.argsort(-seen.confidence, kind="stable")
    return vision.draw(canvas, boxes[order], seen.confidence[order], seen.class_id[order], names)


def decoded(picture: bytes | None) -> Image:
    """The drawn picture that the server sent, RGB UINT8 [height, width, 3].

    Raises:
        InvalidRequest: There is none.
        InferoxyError: OpenCV is not installed.
    """
    if picture is None:
        raise InvalidRequest('picture: expected one to draw into, or that of predict(…, draw="jpeg"), found neither')
    return _pixels(_vision(), picture)


def _pixels(vision: Vision, picture: "Source") -> Image:
    from inferoxy.client.pictures import EncodedPicture, load

    loaded = load(picture)
    if isinstance(loaded, EncodedPicture):
        return vision.decode(loaded.data, loaded.encoding)
    return loaded.copy()


def _vision() -> Vision:
    try:
        import cv2
        import simplejpeg  # noqa: F401  the decoder imports it; here its absence can be told
    except ImportError as exc:
        raise InferoxyError(
            f"drawing needs the extra `vision`: pip install 'inferoxy[vision]' ({exc})", Code.UNSUPPORTED
        ) from exc
    threads, level = cv2.getNumThreads(), cv2.utils.logging.getLogLevel()
    from inferoxy.runtime.decode import decode_picture  # sets both for instances, which decode many at once
    from inferoxy.runtime.yolo.draw import draw

    cv2.setNumThreads(threads)
    cv2.utils.logging.setLogLevel(level)
    return Vision(decode_picture, cast("Callable[..., Any]", draw))
