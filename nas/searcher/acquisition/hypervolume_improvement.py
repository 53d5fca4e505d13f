"""Hypervolume improvement of many points at once, exact, by a box decomposition of the non-dominated region.

With the region that dominates the reference point r, but no point of the front P, cut into disjoint boxes [l_k, u_k],
the improvement of a point y is

    HVI(y | P, r) = sum_k prod_j max(0, min(y_j, u_kj) - l_kj),

so one decomposition serves every candidate of a trial. The boxes are slabs along the last objective, each decomposed
by the front above it in the remaining objectives: n + 1 boxes for two objectives, fewer than (n + 1)(n + 2) / 2 for
three. This is the slicing of Lacour, Klamroth & Fonseca, "A Box Decomposition Algorithm to Compute the Hypervolume
Indicator", 2017 (https://doi.org/10.1016/j.cor.2016.06.021), without its merging of boxes. Every objective is
maximised here.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_CHUNK_FLOATS = 2_000_000
"""Points times box coordinates that are evaluated at once, which bounds temporary arrays to 16 MB."""


def non_dominated_boxes(front: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Disjoint boxes that cover what dominates the reference point and is dominated by no point of the front.

    Args:
        front: [n, m], finite, maximised; dominated points change nothing, and points that do not exceed the reference
            in every objective are ignored.
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
        points: [..., m]; a row with a NaN improves nothing.
        boxes: lower and upper corners from `non_dominated_boxes`.

    Returns:
        [...], 0 or more.
    """
    lower, upper = boxes
    # -inf lies below every box, so a NaN gives a width of 0 in that objective and no volume.
    flat = np.nan_to_num(points.reshape(-1, points.shape[-1]), nan=-np.inf)
    rows = max(1, MAX_CHUNK_FLOATS // max(1, lower.size))
    parts = [_chunk_improvement(flat[i : i + rows], lower, upper) for i in range(0, len(flat), rows)]
    return np.concatenate(parts or [np.zeros(0)]).reshape(points.shape[:-1])


def _chunk_improvement(points: Floats, lower: Floats, upper: Floats) -> Floats:
    """[n] improvements of points [n, m] over boxes [k, m]; objective by objective, so [n, k] is the largest array."""
    volume = np.ones((len(points), len(lower)))
    for j in range(points.shape[1]):
        volume *= np.maximum(np.minimum(points[:, j, None], upper[None, :, j]) - lower[None, :, j], 0.0)
    return np.asarray(volume.sum(axis=1))


def _slabs(front: Floats, reference: Floats) -> Iterator[tuple[list[float], list[float]]]:
    """Boxes of a front [n, m], one objective fewer at each level of the recursion."""
    if len(reference) == 1:
        # One objective: what lies above the best value.
        yield [float(front.max(initial=reference[0]))], [np.inf]
        return
    order = np.argsort(-front[:, -1], kind="stable")
    front = front[order]
    top = np.inf
    above: Floats = np.empty((0, len(reference) - 1))
    for bottom, row in zip([*front[:, -1], reference[-1]], [*front[:, :-1], None], strict=True):
        # The slab between two points of equal height is empty.
        if bottom < top:
            for low, high in _slabs(above, reference[:-1]):
                yield [*low, float(bottom)], [*high, float(top)]
            top = bottom
        # Below a point's height only its other objectives matter. `above` holds the non-dominated of these, since
        # dominated ones would add boxes.
        if row is not None and not (above >= row).all(axis=1).any():
            above = np.vstack([above[~(above <= row).all(axis=1)], row])
