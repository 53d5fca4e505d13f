"""Non-negative least squares by the active-set method.

Source: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
Written out because it is the only thing that scipy would be needed for; the tests hold it against scipy's.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_EPSILON = 1e-10


def nnls(matrix: Floats, values: Floats) -> Floats:
    """The x >= 0 [k] with the least |matrix x - values|, for a matrix [n, k] and values [n].

    Columns of zeros get 0. Where columns depend on each other, one of the best x is returned.
    """
    norms = np.linalg.norm(matrix, axis=0)
    scale = np.where(norms > 0, norms, 1.0)
    unit = matrix / scale
    gram, aim = unit.T @ unit, unit.T @ values
    gram[np.diag_indices_from(gram)] += _EPSILON  # dependent columns stay solvable
    x = np.zeros(matrix.shape[1])
    passive = np.zeros(len(x), dtype=bool)
    limit = _EPSILON * max(1.0, float(np.abs(aim).max(initial=0.0)))
    for _ in range(3 * len(x)):
        slope = np.where(passive, -np.inf, aim - gram @ x)
        entering = int(np.argmax(slope))
        if slope[entering] <= limit:
            break
        passive[entering] = True
        x = _solve_passive_set(gram, aim, x, passive)
    found: Floats = x / scale
    return found


def _solve_passive_set(gram: Floats, aim: Floats, x: Floats, passive: npt.NDArray[np.bool_]) -> Floats:
    """The solution over the passive columns, which are given up one after the other until none is negative."""
    while True:
        free = np.flatnonzero(passive)
        solution = np.zeros_like(x)
        solution[free] = np.linalg.solve(gram[np.ix_(free, free)], aim[free])
        falling = free[solution[free] <= 0]
        if not len(falling):
            return solution
        step = np.min(x[falling] / (x[falling] - solution[falling] + 1e-300))
        x = x + step * (solution - x)
        dropped = falling[x[falling] <= 1e-15]
        passive[dropped if len(dropped) else falling] = False
        x[~passive] = 0.0
