"""Videos: frames out of a file, and drawn frames into one, by OpenCV.

Frames are read one by one and never held. Seconds are those of the video. A movie is complete under its name, or not
there: it is written under another name beside it, which is hidden.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np

from inferoxy.cli.infer.inputs import shown
from inferoxy.errors import Code, InferoxyError, InvalidRequest
from inferoxy.tensors import Array

UNKNOWN_FPS = 25.0  # where a file does not say how fast it is
MOST_FPS = 1000.0  # above it a file says nothing sensible
CODEC = "mp4v"  # the one that every OpenCV can write and nearly every player plays
QUALITY = 95  # of JPEG frames for a server elsewhere
_ROUNDING = 1e-6  # of a frame: 4.4 s at 12.5 frames a second are 55 of them
_SKIP_BY_GRABBING_S = 2.0  # less than this is read and dropped, which is exact in every file


class Cut(NamedTuple):
    """Which frames of a video are wanted.

    Attributes:
        every: Each so many-th frame, counted from the first wanted one.
        max_frames: At most so many; None: all.
        start_s: Those from this second on.
        duration_s: For so many seconds; None: to the end.
    """

    every: int = 1
    max_frames: int | None = None
    start_s: float = 0.0
    duration_s: float | None = None


class Frame(NamedTuple):
    """One frame: its number in the file, from 0, its time, and its picture, BGR UINT8 [height, width, 3]."""

    number: int
    time_s: float
    image: Array

    def without_image(self) -> "Frame":
        """The same, holding nothing."""
        return self._replace(image=np.empty((0, 0, 3), np.uint8))


class About(NamedTuple):
    """What is known of a video before it is read; see VideoReader."""

    expected: int | None
    fps: float


def opencv() -> ModuleType:
    """OpenCV, told to keep quiet about files that it cannot play.

    Raises:
        InvalidRequest: It is not installed.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as exc:
        raise InvalidRequest(f"videos need OpenCV: pip install 'inferoxy[vision]' ({exc})") from exc
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


class VideoReader:
    """The wanted frames of a video file, in order.

    Args:
        path: The file.
        cut: Which frames are wanted.

    Attributes:
        fps: Wanted frames a second.
        expected: About how many frames there will be; None where the file does not say.

    Raises:
        InferoxyError: OpenCV finds no video in the file.
        InvalidRequest: OpenCV is not installed.
    """

    def __init__(self, path: Path, cut: Cut) -> None:
        self._cv2 = opencv()
        self._path = path
        self._cut = cut
        # An absolute path, as FFmpeg takes the part of a name before a colon for a protocol.
        self._capture = self._cv2.VideoCapture(os.path.abspath(path), self._cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise InferoxyError(f"{shown(path)}: OpenCV finds no video in it", Code.UNSUPPORTED_MEDIA_TYPE)
        found = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        self._fps = found if 0 < found <= MOST_FPS else UNKNOWN_FPS
        self.fps = self._fps / cut.every
        self.expected = self._count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        cut, capture = self._cut, self._capture
        number = self._skip()
        end_s = math.inf if cut.duration_s is None else cut.start_s + cut.duration_s
        first, taken = -1, 0
        while (cut.max_frames is None or taken < cut.max_frames) and capture.grab():
            time_s = self._time_s(number)
            if time_s >= end_s:
                return
            if time_s >= cut.start_s:
                first = number if first < 0 else first
                if (number - first) % cut.every == 0:
                    is_some, image = capture.retrieve()
                    if is_some:
                        yield Frame(number, time_s, image)
                        taken += 1
            number += 1

    @property
    def described(self) -> str:
        """Which part is wanted, and how long the video is."""
        cut = self._cut
        length = float(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)) / self._fps
        has = f"it is {length:.1f} s long" if 0 < length < math.inf else "its length is not known"
        until = "to its end" if cut.duration_s is None else f"for {cut.duration_s:g} s"
        return f"asked for it from second {cut.start_s:g} {until}, and {has}"

    def _skip(self) -> int:
        """Go to shortly before the first wanted frame; the number of the frame that is read next."""
        if self._cut.start_s <= _SKIP_BY_GRABBING_S:
            return 0
        # Before it, as a file whose frames do not come evenly is only roughly met.
        wish = int((self._cut.start_s - _SKIP_BY_GRABBING_S / 2) * self._fps)
        self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, wish)
        number = round(float(self._capture.get(self._cv2.CAP_PROP_POS_FRAMES)))
        if 0 <= number <= wish:
            return number
        self._capture.open(os.path.abspath(self._path), self._cv2.CAP_FFMPEG)
        return 0

    def _time_s(self, number: int) -> float:
        """Of the frame that was grabbed."""
        told_s = float(self._capture.get(self._cv2.CAP_PROP_POS_MSEC)) / 1e3
        return round(told_s if told_s > 0 else number / self._fps, 6)

    def _count(self) -> int | None:
        cut = self._cut
        whole = float(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT))
        if not 0 < whole < 1e12:
            return cut.max_frames
        first = math.ceil(cut.start_s * self._fps - _ROUNDING)
        end = whole
        if cut.duration_s is not None:
            end = min(whole, math.ceil((cut.start_s + cut.duration_s) * self._fps - _ROUNDING))
        wanted = math.ceil(max(0, end - first) / cut.every)
        return wanted if cut.max_frames is None else min(wanted, cut.max_frames)


def look_at(path: Path, cut: Cut) -> About:
    """What is known of a video; of a file that is none, that one outcome will say so."""
    try:
        with VideoReader(path, cut) as reader:
            return About(reader.expected, reader.fps)
    except InvalidRequest:
        raise
    except InferoxyError:
        return About(1, UNKNOWN_FPS)


class MovieWriter:
    """Frames into an MP4.

    Args:
        target: The file; its folder is made.
        fps: Frames a second.

    Raises:
        OSError: The folder cannot be made.
    """

    def __init__(self, target: Path, fps: float) -> None:
        self._cv2 = opencv()
        self._target = target
        self._fps = fps
        self._part = target.with_name(f".{target.stem}.part{target.suffix}")
        self._writer: Any = None
        self._size = (0, 0)
        target.parent.mkdir(parents=True, exist_ok=True)

    def write(self, image: Array) -> None:
        """Add a frame, BGR UINT8 [height, width, 3]; one of another size than the first is scaled to that.

        Raises:
            OSError: The file cannot be written.
        """
        height, width = image.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            code = self._cv2.VideoWriter.fourcc(*CODEC)
            self._writer = self._cv2.VideoWriter(os.path.abspath(self._part), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise OSError(f"{shown(self._target)}: OpenCV cannot write it")
        if (width, height) != self._size:
            image = self._cv2.resize(image, self._size)
        self._writer.write(image)

    def close(self) -> Path | None:
        """Complete the file, which plays whatever was written; its path, or None where nothing was.

        Raises:
            OSError: It cannot be given its name.
        """
        if self._writer is None:
            return None
        self._writer.release()
        self._writer = None
        return self._part.replace(self._target)


def encode(image: Array) -> bytes:
    """A BGR frame as a JPEG file."""
    cv2 = opencv()
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])


def to_rgb(image: Array) -> Array:
    """A BGR frame as the RGB array that the client takes."""
    cv2 = opencv()
    turned: Array = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return turned


def decode(picture: bytes) -> Array:
    """An encoded picture as a BGR frame.

    Raises:
        InferoxyError: It cannot be decoded.
    """
    cv2 = opencv()
    image: Array | None = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InferoxyError("the drawn picture that came back cannot be decoded")
    return image
