"""Drawn pictures into files, and drawn frames into one movie for each video.

Invariant: a file under its name is complete; what is being written has another name, which is hidden.
"""

from pathlib import Path

from inferoxy.cli.infer.inputs import shown
from inferoxy.cli.infer.results import Outcome, reason_of
from inferoxy.cli.infer.video import MovieWriter, decode
from inferoxy.errors import InferoxyError


class Drawing:
    """The drawing of one input.

    Args:
        target: Its file.
        fps: Frames a second, of a video.

    Attributes:
        is_complete: Whether the model has drawn everything so far.
    """

    def __init__(self, target: Path, fps: float) -> None:
        self.is_complete = True
        self._target = target
        self._fps = fps
        self._movie: MovieWriter | None = None

    def save(self, outcome: Outcome) -> Path | None:
        """Save what was drawn of a picture or frame.

        A frame of which there is no drawing is written as it is, so that the movie keeps time.

        Returns:
            The file of a picture; None where nothing was drawn, and for frames.

        Raises:
            InferoxyError: It cannot be written.
        """
        drawn = outcome.answer.picture if outcome.answer is not None else None
        self.is_complete &= drawn is not None or outcome.answer is None
        try:
            if outcome.frame is not None:
                self._movie = self._movie or MovieWriter(self._target, self._fps)
                self._movie.write(outcome.frame.image if drawn is None else decode(drawn))
                return None
            return None if drawn is None else self._write(drawn)
        except OSError as exc:
            raise self._failure(exc) from exc

    def close(self) -> Path | None:
        """Complete the movie; its file, None where there is none.

        Raises:
            InferoxyError: It cannot be given its name.
        """
        movie, self._movie = self._movie, None
        try:
            return movie.close() if movie is not None else None
        except OSError as exc:
            raise self._failure(exc) from exc

    def _write(self, drawn: bytes) -> Path:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        part = self._target.with_name(f".{self._target.stem}.part{self._target.suffix}")
        try:
            part.write_bytes(drawn)
            return part.replace(self._target)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _failure(self, exc: OSError) -> InferoxyError:
        return InferoxyError(f"{shown(self._target)}: cannot be written: {reason_of(exc)}")
