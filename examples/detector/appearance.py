"""Give objects their surface and pictures the flaws of a camera.

Pure functions of a numpy Generator on RGB UINT8 images. What stands where is generate.py, colours are distract.py's.
Invariants: painting changes only pixels near the object; an object differs in colour from what lies behind it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from distract import random_colour

MIN_CONTRAST = 70.0  # Euclidean RGB distance between an object and what lies behind it
MARGIN = 12  # pixels around an object that its shadow may reach
COLOUR_TRIES = 20
SUBPIXEL_BITS = 4  # fractional bits of the coordinates cv2.fillPoly takes


def paint(rng: np.random.Generator, image: np.ndarray, points: np.ndarray, mask: np.ndarray) -> None:
    """Blend one object into `image`: flat, shaded or striped, perhaps with a border and a shadow."""
    height, width = mask.shape
    behind = np.array(cv2.mean(image, mask)[:3])
    colour = random_colour(rng)
    for _ in range(COLOUR_TRIES):
        if np.linalg.norm(colour - behind) >= MIN_CONTRAST:
            break
        colour = random_colour(rng)
    x1, y1 = np.maximum(np.floor(points.min(axis=0)).astype(int) - MARGIN, 0)
    x2, y2 = np.minimum(np.ceil(points.max(axis=0)).astype(int) + MARGIN, (width, height))
    window = image[y1:y2, x1:x2]
    local = points - (x1, y1)
    if rng.random() < 0.25:
        shadow = np.zeros(window.shape[:2], np.uint8)
        fill(shadow, local + rng.uniform(-9, 9, 2), int(rng.integers(60, 170)))
        blend(window, np.zeros(3), cv2.GaussianBlur(shadow, (0, 0), float(rng.uniform(1, 5))))
    alpha = np.zeros(window.shape[:2], np.uint8)
    fill(alpha, local, 255, cv2.LINE_AA)
    blend(window, surface(rng, colour, *window.shape[:2]), alpha)
    if rng.random() < 0.25:
        border = np.zeros(window.shape[:2], np.uint8)
        fixed = np.round(local * (1 << SUBPIXEL_BITS)).astype(np.int32)
        thickness = max(1, int(np.ptp(points[:, 0]) * rng.uniform(0.015, 0.06)))
        cv2.polylines(border, [fixed], True, 255, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        blend(window, random_colour(rng), cv2.min(border, alpha))


def photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What a camera does: uneven light, exposure, blur, noise and JPEG compression."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = relight(image, rng.uniform(0.55, 1.25, (3, 3)))
    if rng.random() < 0.4:
        image = cv2.convertScaleAbs(image, alpha=float(rng.uniform(0.65, 1.15)), beta=float(rng.uniform(0, 40)))
    sharpness = max(width, height) / 640
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.8)) * sharpness)
    if rng.random() < 0.45:
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 14))
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.8:
        image = compress(image, int(rng.integers(35, 96)))
    return image


def relight(image: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Multiply an image by a light that varies smoothly over it, factors [rows, columns]."""
    height, width = image.shape[:2]
    smooth = cv2.resize(light.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.multiply(image, cv2.merge([smooth] * 3), dtype=cv2.CV_8U)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """The image as it comes out of a JPEG of this quality, 1..100."""
    coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1])


def surface(rng: np.random.Generator, colour: np.ndarray, height: int, width: int) -> np.ndarray:
    """An object's own colours, [height, width, 3] or one colour [3]."""
    kind = rng.random()
    if kind < 0.5:
        return colour
    direction = rng.uniform(0, 2 * np.pi)
    along = np.cos(direction) * np.arange(width)[None, :] + np.sin(direction) * np.arange(height)[:, None]
    if kind < 0.8:
        weight = (along - along.min()) / max(float(np.ptp(along)), 1.0)
    else:
        weight = (np.sin(along * 2 * np.pi / rng.uniform(5, 20)) > 0) * 1.0
    other = np.clip(colour + rng.uniform(-70, 70, 3), 0, 255)
    return colour + (other - colour) * weight[:, :, None]


def blend(window: np.ndarray, colours: np.ndarray, alpha: np.ndarray) -> None:
    """Lay colours over a window [h, w, 3] in place, as opaque as `alpha` [h, w] UINT8 says."""
    weight = alpha[:, :, None].astype(np.float32) / 255
    window[:] = np.round(window + (colours - window) * weight).astype(np.uint8)


def fill(target: np.ndarray, points: np.ndarray, value: Any, line_type: int = cv2.LINE_8) -> None:
    """Fill a polygon [K, 2] of fractional pixels."""
    fixed = np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(target, [fixed], value, line_type, SUBPIXEL_BITS)
