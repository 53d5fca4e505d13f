"""Non-negative least squares by the active-set method.

Source: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23. Own code because nothing else here needs
scipy at run time; the tests compare it with scipy's.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_EPSILON = 1e-13
"""Ridge and tolerance on columns of unit length: above rounding (1e-16), and it bounds the error of the residual.

A solution with coefficients of size c leaves at most about c * sqrt(_EPSILON) too much."""


def nnls(matrix: Floats, values: Floats, *, start: Floats | None = None) -> Floats:
    """The x >= 0 [k] with the least |matrix x - values|, for a matrix [n, k] and values [n].

    Columns of zeros get 0. Where columns depend on each other, one of the best x is returned.

    Args:
        matrix: [n, k].
        values: [n].
        start: x >= 0 [k] of a similar problem. It changes the number of rounds and not the solution.
    """
    # Columns of unit length make the tolerance independent of units: launches and megabytes differ by 1e6.
    norms = np.linalg.norm(matrix, axis=0)
    scale = np.where(norms > 0, norms, 1.0)
    unit = matrix / scale
    gram, aim = unit.T @ unit, unit.T @ values
    gram[np.diag_indices_from(gram)] += _EPSILON  # dependent columns stay solvable
    x = np.zeros(matrix.shape[1]) if start is None else start * norms
    passive = x > 0
    if passive.any():
        x = _solve_passive_set(gram, aim, x, passive)
    limit = _EPSILON * max(1.0, float(np.abs(aim).max(initial=0.0)))
    for _ in range(3 * len(x)):  # Lawson and Hanson's bound; usually as many rounds as x has positive entries
        # The negative gradient. A column with the steepest descent enters; where none descends, x satisfies the KKT
        # conditions and is optimal.
        slope = np.where(passive, -np.inf, aim - gram @ x)
        entering = int(np.argmax(slope))
        if slope[entering] <= limit:
            break
        passive[entering] = True
        x = _solve_passive_set(gram, aim, x, passive)
    solution: Floats = x / scale
    return solution


def _solve_passive_set(gram: Floats, aim: Floats, x: Floats, passive: npt.NDArray[np.bool_]) -> Floats:
    """The solution over the passive columns; columns are dropped, in place, until none is negative."""
    while True:
        free = np.flatnonzero(passive)
        solution = np.zeros_like(x)
        solution[free] = np.linalg.solve(gram[np.ix_(free, free)], aim[free])
        falling = free[solution[free] <= 0]
        if not len(falling):
            return solution
        # From the feasible x towards the solution, as far as the first coefficient that reaches 0.
        step = np.min(x[falling] / (x[falling] - solution[falling] + 1e-300))
        x = x + step * (solution - x)
        dropped = falling[x[falling] <= 1e-15]
        # Rounding may leave the first coefficient just above 0; dropping all that fall then still ends the loop.
        passive[dropped if len(dropped) else falling] = False
        x[~passive] = 0.0
