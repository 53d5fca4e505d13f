"""Parametric faces drawn with numpy: every part is a soft-edged function of the position in the face's frame.

Positions are (u, v): u to the right, v down. The head is an ellipse about (0, 0) that reaches v = -1 and v = 1. All
parameters are arrays [N, 1, 1], all layers [N, S, S]; the result is luminance 0..1. Lengths and shades are chosen by
eye.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
FaceParameters = Mapping[str, Array]


def render_faces(parameters: FaceParameters, *, size: int) -> tuple[Array, Array]:
    """Draw faces.

    Args:
        parameters: geometry, expression and conditions, from `nas.data.synthetic_subjects.draw_face_parameters`.
        size: side of the images in pixels, S.

    Returns:
        Luminance [N, S, S], and the share of skin in each pixel [N, S, S].
    """
    u, v = _face_coordinates(parameters, size)
    soft = parameters["soft"]
    right = np.abs(u - parameters["turn"] * 0.25)
    head = _soft_mask(1 - np.hypot(u / parameters["width"], v), soft * 1.5)
    skin = parameters["skin"] * (
        1 + parameters["light_x"] * u + parameters["light_y"] * v - 0.25 * (u * u + 0.5 * v * v)
    )
    picture = _blend(_background(parameters, u, v), skin, head)
    for layer in (_folds, _nose, _mouth, _eyes, _brows, _hair, _glasses):
        picture = layer(picture, parameters, u, v, right)
    return picture, head


def _face_coordinates(face: FaceParameters, side: int) -> tuple[Array, Array]:
    """Position of each pixel in the face's frame: shifted, rotated in the plane, scaled."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    x = line[None, None, :] - face["shift_x"]
    y = line[None, :, None] - face["shift_y"]
    cos, sin = np.cos(face["roll"]) / face["scale"], np.sin(face["roll"]) / face["scale"]
    return (x * cos + y * sin).astype(np.float32), (y * cos - x * sin).astype(np.float32)


def _soft_mask(inside: Array, soft: Array) -> Array:
    """0 outside and 1 inside, with an edge of width `soft`; `inside` is a signed distance, positive inside."""
    return np.clip(inside / soft + 0.5, 0, 1).astype(np.float32)


def _blend(below: Array, above: Array, share: Array) -> Array:
    return below + (above - below) * share


def _background(face: FaceParameters, u: Array, v: Array) -> Array:
    wave = np.sin(u * face["wave_x"] + v * face["wave_y"] + face["phase"])
    return (face["ground"] + 0.08 * wave).astype(np.float32)


def _folds(picture: Array, face: FaceParameters, u: Array, v: Array, right: Array) -> Array:
    """Cheeks raised by a smile, and the folds from the nose to the mouth."""
    line = np.abs(right - 0.2 - 0.35 * (v - 0.2))
    fold = _soft_mask(0.03 - line, face["soft"]) * _soft_mask(0.2 - np.abs(v - 0.35), face["soft"])
    cheek = _soft_mask(0.16 - np.hypot(right - 0.45, v - 0.22), face["soft"] * 3)
    return picture * (1 - 0.35 * np.clip(face["fold"], 0, 1) * fold) * (1 + 0.12 * face["cheek"] * cheek)


def _nose(picture: Array, face: FaceParameters, u: Array, v: Array, right: Array) -> Array:
    """A ridge, nostrils, and wrinkles across the bridge."""
    ridge = _soft_mask(0.05 - np.abs(u - face["turn"] * 0.3), face["soft"] * 2) * _soft_mask(
        0.25 - np.abs(v), face["soft"]
    )
    nostril = _soft_mask(0.05 - np.hypot(right - 0.09, (v - face["nose"] + 0.05 * face["wrinkle"]) * 1.5), face["soft"])
    bridge = _soft_mask(0.12 - right, face["soft"]) * _soft_mask(0.09 - np.abs(v + 0.12), face["soft"])
    lines = 0.5 + 0.5 * np.cos(v * 70)
    picture = picture * (1 + 0.12 * ridge) * (1 - 0.45 * nostril)
    return picture * (1 - 0.5 * np.clip(face["wrinkle"], 0, 1) * bridge * lines)


def _mouth(picture: Array, face: FaceParameters, u: Array, v: Array, right: Array) -> Array:
    """Lips around an opening; the corners move up (a smile) or down, and the upper lip can be raised."""
    half = face["mouth_width"]
    t = np.clip((u - face["turn"] * 0.25) / half, -1.3, 1.3)
    across = _soft_mask((1 - np.abs(t)) * half, face["soft"])
    bulge = np.clip(1 - t * t, 0, 1)
    middle = face["mouth"] - face["corner"] * (t * t - 0.4)
    top = middle - bulge * (0.35 * face["open"] + face["lip_raise"])
    bottom = middle + bulge * 0.65 * face["open"]
    opening = _soft_mask(np.minimum(v - top, bottom - v) - 0.01, face["soft"]) * across
    lips = _soft_mask(np.minimum(v - top + face["lips"], bottom + face["lips"] - v), face["soft"]) * across
    teeth = _soft_mask(top + 0.05 - v, face["soft"]) * np.clip(face["teeth"], 0, 1)
    picture = _blend(picture, picture * face["lip_tone"], lips)
    return _blend(picture, 0.12 + 0.7 * teeth, opening)


def _eyes(picture: Array, face: FaceParameters, u: Array, v: Array, right: Array) -> Array:
    """Sclera, iris and upper lid, opened by `eye_open`."""
    x, y = right - face["eye_x"], v - face["eye_y"]
    height = np.maximum(face["eye_open"], 0.012)
    lid = height * np.clip(1 - (x / 0.17) ** 2, 0, 1)
    within = _soft_mask(lid - np.abs(y), face["soft"]) * _soft_mask(0.17 - np.abs(x), face["soft"])
    iris = _soft_mask(0.07 - np.hypot((u - face["gaze"]) - np.sign(u) * face["eye_x"], y), face["soft"])
    lash = _soft_mask(0.02 - np.abs(y + lid), face["soft"]) * _soft_mask(0.18 - np.abs(x), face["soft"])
    eye = _blend(np.full_like(picture, 0.85), np.full_like(picture, 0.1), iris)
    return _blend(_blend(picture, eye * (0.6 + 0.4 * face["skin"]), within), np.full_like(picture, 0.12), 0.8 * lash)


def _brows(picture: Array, face: FaceParameters, u: Array, v: Array, right: Array) -> Array:
    """A line from the inner to the outer end, which are raised independently."""
    t = np.clip((right - 0.12) / 0.34, 0, 1)
    height = face["brow_y"] - face["brow_in"] * (1 - t) - face["brow_out"] * t - 0.05 * np.sin(np.pi * t)
    line = _soft_mask(face["brow_thick"] - np.abs(v - height), face["soft"]) * _soft_mask(
        0.18 - np.abs(right - 0.29), face["soft"]
    )
    return _blend(picture, picture * face["hair"], line * 0.85)


def _hair(picture: Array, face: FaceParameters, u: Array, v: Array, right: Array) -> Array:
    """Hair above the hairline, and a beard where the parameter `beard` is above 0."""
    crown = _soft_mask(face["hairline"] + 0.15 * u * u - v, face["soft"] * 2)
    around = _soft_mask(1.12 - np.hypot(u / face["width"], v), face["soft"])
    beard = _soft_mask(v - 0.3 - 0.5 * (0.5 - np.abs(u)), face["soft"] * 3) * _soft_mask(
        1 - np.hypot(u / face["width"], v), face["soft"]
    )
    near_mouth = _soft_mask(np.hypot(u / 0.4, (v - face["mouth"]) / 0.25) - 1, face["soft"] * 4)
    picture = _blend(picture, picture * face["hair"], beard * near_mouth * face["beard"])
    return _blend(picture, face["hair"] * 0.6 + 0.04 * np.sin(25 * u + 3 * v), crown * around)


def _glasses(picture: Array, face: FaceParameters, u: Array, v: Array, right: Array) -> Array:
    ring = np.abs(np.hypot(right - face["eye_x"], (v - face["eye_y"]) * 1.2) - 0.21)
    bridge = _soft_mask(0.02 - np.abs(v - face["eye_y"]), face["soft"]) * _soft_mask(0.1 - right, face["soft"])
    frame = np.maximum(_soft_mask(0.02 - ring, face["soft"]), bridge)
    return _blend(picture, np.full_like(picture, 0.08), frame * face["glasses"])
