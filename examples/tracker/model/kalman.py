"""Kalman filters of constant velocity for many boxes at once.

Pure. A box is its centre and size; each of the four coordinates has a filter of its own (position, velocity), all of
them are advanced together as arrays. Steps are frames, lengths pixels.
Invariant: nothing but + - * / of float64 is used, element by element, so what becomes of one box does not depend on
how many others there are; a sum over an axis or a matrix product would not promise that.

Source: Wojke, Bewley, Paulus, "Simple online and realtime tracking with a deep association metric" (noise in
proportion to the box); Du et al., "GIAOTracker" (measurements count by their confidence).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Standard deviations as shares of the box's width (for x and width) and height (for y and height).
POSITION_NOISE = 1 / 20  # of a measurement, and of what a frame adds to a position
VELOCITY_NOISE = 1 / 160  # of what a frame adds to a velocity
BIRTH_POSITION = 2 * POSITION_NOISE  # of the first measurement
BIRTH_VELOCITY = 1 / 4  # of the velocity 0 that a new track is given
LEAST_SIZE = 1.0  # pixels; a side is not taken for less


@dataclass
class Filters:
    """The state of T boxes.

    Attributes:
        position: [T, 4] centre x, centre y, width, height.
        velocity: [T, 4] of each, per frame.
        variance: [T, 4] of the position.
        covariance: [T, 4] of position and velocity.
        drift: [T, 4] variance of the velocity.
    """

    position: Floats
    velocity: Floats
    variance: Floats
    covariance: Floats
    drift: Floats

    @classmethod
    def begin(cls, boxes: Floats) -> Filters:
        """Filters that have seen these boxes [T, 4] (x1, y1, x2, y2) once."""
        position = to_centres(boxes)
        scale = _scale(position)
        zeros = np.zeros_like(position)
        return cls(position, zeros, _square(BIRTH_POSITION * scale), zeros.copy(), _square(BIRTH_VELOCITY * scale))

    def __len__(self) -> int:
        return len(self.position)

    def predict(self, is_seen: NDArray[np.bool_]) -> None:
        """Go on by one frame. The size of a box that was not seen in the last one [T] stays as it is."""
        self.velocity[:, 2:] = np.where(is_seen[:, None], self.velocity[:, 2:], 0.0)
        scale = _scale(self.position)
        self.position = self.position + self.velocity
        self.position[:, 2:] = np.maximum(self.position[:, 2:], LEAST_SIZE)
        self.variance = self.variance + 2 * self.covariance + self.drift + _square(POSITION_NOISE * scale)
        self.covariance = self.covariance + self.drift
        self.drift = self.drift + _square(VELOCITY_NOISE * scale)

    def update(self, rows: NDArray[np.intp], boxes: Floats, confidences: Floats) -> None:
        """Take in what was measured of some of the boxes.

        Args:
            rows: [N] which, none of them twice.
            boxes: [N, 4] x1, y1, x2, y2.
            confidences: [N] 0 to 1; a weak measurement counts for less.
        """
        measured = to_centres(boxes)
        doubt = np.maximum(1.0 - confidences, 0.05)[:, None]
        noise = doubt * _square(POSITION_NOISE * _scale(self.position[rows]))
        variance, covariance = self.variance[rows], self.covariance[rows]
        total = variance + noise
        gain, drag = variance / total, covariance / total
        error = measured - self.position[rows]
        self.position[rows] += gain * error
        self.velocity[rows] += drag * error
        self.variance[rows] = variance - gain * variance
        self.covariance[rows] = covariance - gain * covariance
        self.drift[rows] -= drag * covariance
        self.position[:, 2:] = np.maximum(self.position[:, 2:], LEAST_SIZE)

    def boxes(self) -> Floats:
        """[T, 4] x1, y1, x2, y2."""
        half = self.position[:, 2:] / 2
        return np.concatenate([self.position[:, :2] - half, self.position[:, :2] + half], axis=1)

    def keep(self, rows: NDArray[Any]) -> None:
        """Forget all others; rows is a mask [T] or indices."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])

    def append(self, others: Filters) -> None:
        """Add boxes behind the last."""
        for field in fields(self):
            setattr(self, field.name, np.concatenate([getattr(self, field.name), getattr(others, field.name)]))


def to_centres(boxes: Floats) -> Floats:
    """Boxes [N, 4] x1, y1, x2, y2 as centre x, centre y, width, height."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], LEAST_SIZE)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, size], axis=1)


def _scale(position: Floats) -> Floats:
    return np.concatenate([position[:, 2:], position[:, 2:]], axis=1)


def _square(values: Floats) -> Floats:
    return values * values
