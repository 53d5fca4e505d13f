"""Hypervolume gain of many points at once, exact, by cutting what the front leaves free into boxes.

The boxes are slabs along the last objective, each cut up by the front below it in the remaining ones: n + 1 boxes for
two objectives, fewer than (n + 1)(n + 2) / 2 for three. (Slicing, as in Lacour, Klamroth & Fonseca, "A Box
Decomposition Algorithm to Compute the Hypervolume Indicator", 2017, https://doi.org/10.1016/j.cor.2016.06.021, without
its merging.) More is better in every objective here.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_CHUNK_FLOATS = 2_000_000
"""Floats held at a time."""


def non_dominated_boxes(front: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Disjoint boxes that cover what dominates the reference and is dominated by no point of the front.

    Args:
        front: [n, m], finite, more is better; dominated points change nothing.
        reference: [m].

    Returns:
        Lower and upper corners, each [k, m]; upper corners may be infinite.
    """
    inside = front[(front > reference).all(axis=1)]
    boxes = list(_slabs(inside, reference))
    return np.array([low for low, _ in boxes]), np.array([high for _, high in boxes])


def hypervolume_improvement(points: Floats, boxes: tuple[Floats, Floats]) -> Floats:
    """Hypervolume that each point alone would add to the front.

    Args:
        points: [..., m]; rows with a NaN gain nothing.
        boxes: what `free_boxes` returned.

    Returns:
        [...], 0 or more.
    """
    lower, upper = boxes
    flat = np.nan_to_num(points.reshape(-1, points.shape[-1]), nan=-np.inf)
    rows = max(1, MAX_CHUNK_FLOATS // max(1, lower.size))
    parts = [_chunk_improvement(flat[i : i + rows], lower, upper) for i in range(0, len(flat), rows)]
    return np.concatenate(parts or [np.zeros(0)]).reshape(points.shape[:-1])


def _chunk_improvement(points: Floats, lower: Floats, upper: Floats) -> Floats:
    volume = np.ones((len(points), len(lower)))
    for j in range(points.shape[1]):
        volume *= np.maximum(np.minimum(points[:, j, None], upper[None, :, j]) - lower[None, :, j], 0.0)
    return np.asarray(volume.sum(axis=1))


def _slabs(front: Floats, reference: Floats) -> Iterator[tuple[list[float], list[float]]]:
    if len(reference) == 1:
        yield [float(front.max(initial=reference[0]))], [np.inf]
        return
    order = np.argsort(-front[:, -1], kind="stable")
    front = front[order]
    top = np.inf
    above: Floats = np.empty((0, len(reference) - 1))
    for bottom, row in zip([*front[:, -1], reference[-1]], [*front[:, :-1], None], strict=True):
        if bottom < top:
            for low, high in _slabs(above, reference[:-1]):
                yield [*low, float(bottom)], [*high, float(top)]
            top = bottom
        if row is not None and not (above >= row).all(axis=1).any():
            above = np.vstack([above[~(above <= row).all(axis=1)], row])
