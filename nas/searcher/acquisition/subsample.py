"""Which of many examples are learned from, so that learning takes no longer in a long search."""

import numpy as np
import numpy.typing as npt


def newest_and_spread(rows: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """At most n of the rows, oldest first: half the newest, half spread over the others."""
    if len(rows) <= n:
        return rows
    newest = n - n // 2
    spread_over = np.linspace(0, len(rows) - newest - 1, n // 2).astype(int)
    return np.asarray(rows[np.concatenate([spread_over, np.arange(len(rows) - newest, len(rows))])])
