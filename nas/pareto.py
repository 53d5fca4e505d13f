"""Pareto mathematics on plain arrays: front, ranks, hypervolume, knee and a representative choice.

Points are float arrays [n, m], one row a point, one column an objective; `maximize` holds one bool per column. A point
dominates another if it is no worse in every objective and better in at least one. A row with a NaN is comparable with
no other: it is never on a front, dominates nothing and adds no volume. Infinite values are ordinary values, very good
or very bad, except in `hypervolume`, `knee` and `spread`, which drop rows that are not finite.

The hypervolume is exact, by exclusive volumes (While, Bradstreet & Barone, "A Fast Way of Calculating Exact
Hypervolumes", IEEE TEVC 16(1), 2012, https://doi.org/10.1109/TEVC.2010.2077298). Two differences: two objectives are
computed by a sweep, and the limit set is reduced by `non_dominated` without the paper's slicing, which pays only from
about five objectives on.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


def non_dominated(points: npt.ArrayLike, maximize: Sequence[bool]) -> Mask:
    """Which points no other point dominates.

    Of equal points only the first counts, so that a front holds each trade-off once.

    Args:
        points: [n, m]; n may be 0.
        maximize: m flags; True where more is better.

    Returns:
        [n] bool. Rows with a NaN are False.

    Raises:
        ValueError: `points` is not [n, m] with as many columns as `maximize` has flags, or m is 0.

    Examples:
        >>> points = [[0.9, 5.0], [0.8, 2.0], [0.7, 3.0]]  # accuracy, latency in ms
        >>> non_dominated(points, [True, False]).tolist()
        [True, True, False]
    """
    goods = _more_is_better(points, maximize)
    mask = np.zeros(len(goods), dtype=bool)
    known = np.flatnonzero(~np.isnan(goods).any(axis=1))
    # Lexicographically best first, equal points by index. A point can then be dominated only by an earlier one, and so
    # by one that is on the front already, because dominance is transitive.
    order = known[np.lexsort((known, *(-goods[known].T[::-1])))]
    if goods.shape[1] == 2:
        # All earlier points are at least as good in the first objective, so a point is non-dominated if it exceeds the
        # best second value so far: O(n log n) in all.
        second = goods[order, 1]
        mask[order[:1]] = True
        mask[order[1:][second[1:] > np.maximum.accumulate(second)[:-1]]] = True
        return mask
    front = np.empty((0, goods.shape[1]))
    for i in order:
        # "At least as good in all" instead of strict dominance: it also drops points equal to an earlier one.
        if not (front >= goods[i]).all(axis=1).any():
            front = np.vstack([front, goods[i]])
            mask[i] = True
    return mask


def ranks(points: npt.ArrayLike, maximize: Sequence[bool]) -> Indices:
    """Rank of each point by non-dominated sorting: 0 is the front, 1 the front of the rest, and so on.

    Equal points share a rank. Rows with a NaN come after all others: their rank is the number of layers.

    Args:
        points: [n, m].
        maximize: m flags; True where more is better.

    Returns:
        [n] int64.

    Raises:
        ValueError: the shapes do not fit, as in `non_dominated`.

    Examples:
        >>> ranks([[0.9, 5.0], [0.8, 2.0], [0.7, 3.0]], [True, False]).tolist()
        [0, 0, 1]
    """
    goods = _more_is_better(points, maximize)
    # On unique points, because `non_dominated` would put the second of two equal points on a later layer.
    unique, inverse = np.unique(goods, axis=0, return_inverse=True)
    layers = np.zeros(len(unique), dtype=np.int64)
    left = np.flatnonzero(~np.isnan(unique).any(axis=1))
    layer = 0
    while len(left):
        front = non_dominated(unique[left], [True] * goods.shape[1])
        layers[left[front]] = layer
        left = left[~front]
        layer += 1
    layers[np.isnan(unique).any(axis=1)] = layer
    return layers[inverse.reshape(-1)]  # numpy 2.0 alone gives the inverse the shape [n, 1]


def hypervolume(points: npt.ArrayLike, reference: Sequence[float], maximize: Sequence[bool]) -> float:
    """Volume of the region that the points dominate and that dominates the reference point.

    Exact for any number of objectives. The unit is the product of the objectives' units; more is better. Points
    that are not better than the reference in every objective, and rows that are not finite, add nothing.

    Args:
        points: [n, m].
        reference: m values, worse than every point that is to count.
        maximize: m flags; True where more is better.

    Raises:
        ValueError: the shapes do not fit, or the reference is not finite.

    Examples:
        >>> hypervolume([[3.0, 1.0], [1.0, 2.0]], reference=[0.0, 0.0], maximize=[True, True])
        4.0
    """
    goods = _more_is_better(points, maximize)
    corner = np.asarray(reference, dtype=np.float64)
    if corner.shape != (goods.shape[1],) or not np.isfinite(corner).all():
        raise ValueError(f"reference must hold {goods.shape[1]} finite values, but got {list(reference)}")
    gains = goods - corner * np.where(np.asarray(maximize, dtype=bool), 1.0, -1.0)
    gains = gains[np.isfinite(gains).all(axis=1)]
    return _volume(gains[(gains > 0).all(axis=1)])


def knee(points: npt.ArrayLike, maximize: Sequence[bool]) -> int:
    """Index of the front's knee: the point beyond which a gain in one objective costs much of another.

    The front is scaled to 0..1 in each objective (1 is its best value); the knee is its point farthest above the chord
    of the ends: the line, or with m objectives the plane, on which the scaled values sum to 1. Ties: the first.
    (Das, "On characterizing the 'knee' of the Pareto curve", Structural Optimization 18, 1999.)

    Args:
        points: [n, m]; dominated points and rows that are not finite are ignored.
        maximize: m flags; True where more is better.

    Raises:
        ValueError: the shapes do not fit, or no point is finite.

    Examples:
        >>> knee([[0.50, 1.0], [0.75, 2.0], [0.80, 9.0]], [True, False])
        1
    """
    front, scaled = _scaled_front(points, maximize)
    if not len(front):
        raise ValueError("a knee needs at least one point with finite values, but got none")
    # The distance from the plane sum = 1 is (sum - 1) / sqrt(m), so the largest sum is the farthest point.
    return int(front[scaled.sum(axis=1).argmax()])


def spread(points: npt.ArrayLike, maximize: Sequence[bool], k: int) -> list[int]:
    """At most k members of the front that represent all of it, the most informative first.

    Greedy by gain in hypervolume, on the front scaled to 0..1, with the reference a tenth below its worst values so
    that the ends of the front have a volume too. Hypervolume is submodular, so the greedy choice reaches at least
    1 - 1/e of the volume of the best k members (Nemhauser, Wolsey & Fisher, Mathematical Programming 14, 1978).
    Ties: the first.

    Args:
        points: [n, m]; dominated points and rows that are not finite are never chosen.
        maximize: m flags; True where more is better.
        k: number of members, 0 or more.

    Returns:
        Distinct indices into `points`: min(k, size of the front) of them.

    Raises:
        ValueError: the shapes do not fit, or k is negative.

    Examples:
        >>> spread([[0.50, 1.0], [0.75, 2.0], [0.76, 2.1], [0.80, 9.0]], [True, False], k=3)
        [2, 0, 3]
    """
    if k < 0:
        raise ValueError(f"k must be 0 or more, but got {k}")
    front, scaled = _scaled_front(points, maximize)
    boxes = scaled + 0.1
    chosen: list[int] = []
    while len(chosen) < min(k, len(front)):
        # The volume of the union, not the gain: they differ by the same constant for all i.
        gains = [-1.0 if i in chosen else _volume(boxes[[*chosen, i]]) for i in range(len(front))]
        chosen.append(int(np.argmax(gains)))
    return [int(front[i]) for i in chosen]


def _more_is_better(points: npt.ArrayLike, maximize: Sequence[bool]) -> Points:
    """The points with the signs of minimised objectives changed, after checking the shape."""
    array = np.asarray(points, dtype=np.float64)
    signs = np.where(np.asarray(maximize, dtype=bool), 1.0, -1.0)
    if array.size == 0:
        array = array.reshape(0, len(signs))
    if array.ndim != 2 or not len(signs) or array.shape[1] != len(signs):
        raise ValueError(f"points must be [n, {len(signs)}], one column for each flag, but got {list(array.shape)}")
    return array * signs + 0.0  # + 0.0 makes -0.0 and 0.0 equal for np.unique too


def _scaled_front(points: npt.ArrayLike, maximize: Sequence[bool]) -> tuple[Indices, Points]:
    """Indices of the front, and its points scaled to 0..1 with 1 the best; an objective without a range is 0."""
    goods = _more_is_better(points, maximize)
    finite = np.where(np.isfinite(goods).all(axis=1, keepdims=True), goods, np.nan)
    front = np.flatnonzero(non_dominated(finite, [True] * goods.shape[1]))
    if not len(front):
        return front, goods[front]
    low, high = goods[front].min(axis=0), goods[front].max(axis=0)
    return front, (goods[front] - low) / np.where(high > low, high - low, 1.0)


def _volume(gains: Points) -> float:
    """Volume of the union of the boxes between the origin and each row of `gains`; all values are positive."""
    if not len(gains):
        return 0.0
    front = gains[non_dominated(gains, [True] * gains.shape[1])]
    front = front[np.argsort(-front[:, 0], kind="stable")]
    if front.shape[1] == 1:
        return float(front[0, 0])
    if front.shape[1] == 2:
        # By falling first objective the second rises, so each box adds a strip above the one before.
        below = np.concatenate([[0.0], front[:-1, 1]])
        return float((front[:, 0] * (front[:, 1] - below)).sum())
    # Each box adds its volume, less what later boxes cover of it: their intersections with it are boxes again.
    total = 0.0
    for i, box in enumerate(front):
        total += float(box.prod()) - _volume(np.minimum(front[i + 1 :], box))
    return total
