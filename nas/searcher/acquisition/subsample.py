"""Subsampling of observations, which bounds the time of a fit in a long search."""

import numpy as np
import numpy.typing as npt


def newest_and_spread(rows: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """At most `n` of the rows: the newest half of `n`, and the other half evenly spaced over the older rows.

    The newest rows lie where the search is now; the spread ones keep the model from forgetting the rest of the space.
    The choice is deterministic, so every process fits the same model.

    Args:
        rows: [k] row numbers, oldest first.
        n: upper limit, 1 or more.

    Returns:
        [min(k, n)] row numbers, oldest first.
    """
    if len(rows) <= n:
        return rows
    newest = n - n // 2
    spread_over = np.linspace(0, len(rows) - newest - 1, n // 2).astype(int)
    return np.asarray(rows[np.concatenate([spread_over, np.arange(len(rows) - newest, len(rows))])])
