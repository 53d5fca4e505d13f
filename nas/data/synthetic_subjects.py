"""Synthetic subjects: random parameters of persons (geometry, tones) and of their faces (expression, pose, light).

Expressions follow the action units of Ekman and Friesen's Facial Action Coding System:
- anger: lowered brows;
- disgust: a wrinkled nose;
- fear and sadness: raised inner brows;
- happiness: raised corners of the mouth and cheeks;
- surprise: an open mouth and raised brows.

Weak intensities and habitual movements of the persons make the classes overlap.
"""

import numpy as np
import numpy.typing as npt

from nas.data.base import Labels
from nas.data.face_drawing import Array

_FACE_PARTS = ("brow_in", "brow_out", "eye_open", "corner", "open", "mouth_width", "wrinkle", "lip_raise", "cheek")
_ACTION_UNITS = np.array(
    [  # brow in, out, eye, corner, open, width, wrinkle, lip raise, cheek
        [-1.0, 0.2, 0.0, -0.3, 0.1, -0.3, 0.3, 0.0, 0.0],  # angry
        [-0.6, -0.1, -0.5, -0.3, 0.1, 0.0, 1.0, 1.0, 0.3],  # disgust
        [0.8, 0.2, 0.7, -0.3, 0.4, 0.3, 0.0, 0.0, 0.0],  # fear
        [0.0, 0.0, -0.3, 1.0, 0.3, 0.5, 0.0, 0.2, 1.0],  # happy
        [0.6, -0.4, -0.4, -0.9, 0.0, -0.1, 0.0, 0.0, 0.0],  # sad
        [0.8, 0.8, 0.8, 0.0, 0.9, -0.4, 0.0, 0.0, 0.0],  # surprise
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # neutral
    ],
    np.float32,
)
_UNIT_DISPLACEMENT = np.array([0.19, 0.20, 0.08, 0.24, 0.50, 0.16, 1.4, 0.12, 1.5], np.float32)
"""Displacement of each part by one action unit, in the face's frame."""
_NEUTRAL_FACE = np.array([0.0, 0.0, 0.09, 0.0, 0.015, 0.36, 0.0, 0.0, 0.0], np.float32)
_VALENCE_AROUSAL = np.array(
    [[-0.6, 0.7], [-0.65, 0.35], [-0.6, 0.8], [0.8, 0.5], [-0.7, -0.4], [0.2, 0.8], [0.0, -0.05]], np.float32
)
"""Valence and arousal of each expression at full intensity, -1..1, after the circumplex (J. A. Russell, 1980)."""

_HABIT_STD, _JITTER_STD = 0.15, 0.13
"""Standard deviations, in action units, of a person's habitual movements and of a single face's."""


def draw_subjects(n_subjects: int, rng: np.random.Generator) -> dict[str, Array]:
    """Parameters of persons: geometry, tones and habitual movements, each [n_subjects] or [n_subjects, parts]."""

    def normal(mean: float, deviation: float) -> Array:
        return rng.normal(mean, deviation, n_subjects).astype(np.float32)

    def uniform(low: float, high: float) -> Array:
        return rng.uniform(low, high, n_subjects).astype(np.float32)

    dark = uniform(0, 1)
    # The order of the entries is the order of the random draws: another order draws other faces.
    return {
        "width": np.clip(normal(0.76, 0.06), 0.6, 0.95),
        "skin": 0.5 + 0.3 * dark,
        "hair": 0.1 + 0.3 * uniform(0, 1) * dark,
        "hairline": normal(-0.72, 0.06),
        "eye_x": normal(0.32, 0.025),
        "eye_y": normal(-0.2, 0.03),
        "brow_y": normal(-0.42, 0.025),
        "brow_thick": np.clip(normal(0.05, 0.012), 0.025, 0.08),
        "nose": normal(0.2, 0.03),
        "mouth": normal(0.52, 0.03),
        "lips": np.clip(normal(0.05, 0.012), 0.025, 0.08),
        "lip_tone": uniform(0.4, 0.75),
        "beard": (uniform(0, 1) < 0.12) * uniform(0.3, 0.9),
        "glasses": (uniform(0, 1) < 0.12) * uniform(0.5, 1.0),
        "habit": rng.normal(0, _HABIT_STD, (n_subjects, len(_FACE_PARTS))).astype(np.float32),
    }


def draw_face_parameters(
    subjects: dict[str, Array], subject_ids: npt.NDArray[np.int64], labels: Labels, rng: np.random.Generator
) -> tuple[dict[str, Array], Array]:
    """Parameters of faces.

    Args:
        subjects: from `draw_subjects`.
        subject_ids: [N] person of each face.
        labels: [N] expression of each face.
        rng: source of expressions' intensities, poses and lights.

    Returns:
        Parameters for `nas.data.face_drawing.render_faces`, each [N, 1, 1], and valence and arousal [N, 2].
    """
    n = len(labels)
    # Beta(3, 1.2): mean 0.71, mostly clear expressions with a tail of weak ones.
    intensity = rng.beta(3.0, 1.2, (n, 1)).astype(np.float32)
    units = (
        intensity * _ACTION_UNITS[labels]
        + subjects["habit"][subject_ids]
        + rng.normal(0, _JITTER_STD, (n, len(_FACE_PARTS)))
    )
    parts = (_NEUTRAL_FACE + _UNIT_DISPLACEMENT * units).astype(np.float32)
    face = {name: parts[:, i] for i, name in enumerate(_FACE_PARTS)}
    face["open"] = np.maximum(face["open"], 0)
    face["lip_raise"] = np.maximum(face["lip_raise"], 0)
    face["mouth_width"] = np.clip(face["mouth_width"], 0.15, 0.6)
    face["fold"] = face["cheek"] * 0.6 + face["wrinkle"] * 0.5
    face |= {name: values[subject_ids] for name, values in subjects.items() if name != "habit"}
    face |= _draw_conditions(n, rng)
    affect = np.clip(intensity * _VALENCE_AROUSAL[labels] + rng.normal(0, 0.08, (n, 2)), -1, 1).astype(np.float32)
    return {name: values.astype(np.float32)[:, None, None] for name, values in face.items()}, affect


def _draw_conditions(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Parameters of single images: pose, light, sharpness, background, gaze, whether teeth show."""

    def normal(mean: float, deviation: float) -> Array:
        return rng.normal(mean, deviation, n).astype(np.float32)

    def uniform(low: float, high: float) -> Array:
        return rng.uniform(low, high, n).astype(np.float32)

    return {
        "shift_x": normal(0, 0.05),
        "shift_y": normal(0, 0.05),
        "roll": normal(0, 0.1),
        "scale": np.clip(normal(1.02, 0.06), 0.8, 1.2),
        "turn": normal(0, 0.18),
        "gaze": normal(0, 0.03),
        "teeth": (uniform(0, 1) < 0.6).astype(np.float32),
        "soft": uniform(0.035, 0.07),
        "light_x": normal(0, 0.2),
        "light_y": normal(0, 0.12),
        "ground": uniform(0.1, 0.8),
        "wave_x": normal(0, 4),
        "wave_y": normal(0, 4),
        "phase": uniform(0, 6.28),
    }
