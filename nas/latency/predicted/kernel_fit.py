"""Kernel fit: cost coefficients from single kernels that the runtime's profiler timed.

Whole nets are few, and each is a sum of everything; their kernels are thousands. So the coefficients of each class are
first fitted to its own kernels, non-negative, of least relative error, and pulled slightly towards the profile's. The
profiler adds a microsecond or two to every kernel and leaves out the time between kernels: whole nets then decide how
much of a launch counts, and a factor for each group of work (`nas.latency.predicted.learned_roofline`). nn-Meter
(MobiSys 2021) learns from kernels that are built and timed one by one; these are timed where they run, with the caches
as the previous kernel left them.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from nas.latency.costs import Kernel
from nas.latency.predicted.cost_columns import CostColumns
from nas.latency.predicted.huber_nnls import fit_huber_nnls

Floats = npt.NDArray[np.float64]

MIN_KERNELS = 3
"""Profiled kernels that a class needs to be fitted."""
MIN_KERNEL_US = 0.5
"""Time that a kernel of 0 us counts as: the profiler reports whole microseconds, and relative errors divide by it."""
_PRIOR_RIDGE = 0.3
"""Ridge towards the profile, in samples: a third of one kernel, so it decides only between collinear columns."""
_IRLS_ITERATIONS = 5
_MIN_SCALE = 0.02
"""Relative error that kernels never fall below: the profiler's microseconds are 2 % of a kernel of 50 us."""


def fit_kernel_coefficients(kernels: Iterable[Kernel], columns: CostColumns, prior_us: Floats) -> Floats | None:
    """Fit coefficients to the kernels that were profiled.

    Args:
        kernels: kernels of all measured nets.
        columns: columns of the device.
        prior_us: [k] microseconds of one unit of each column by the profile; only their ratios matter.

    Returns:
        [k] microseconds of one unit of each column. A column that no class fits has the profile's coefficient times
        the median ratio of fitted to profile. None where too few kernels were profiled.
    """
    timed = [kernel for kernel in kernels if kernel.profiled_us is not None]
    if len(timed) < MIN_KERNELS:
        return None
    rows = np.array([columns.cost_vector([kernel]) for kernel in timed])
    times = np.maximum([kernel.profiled_us or 0.0 for kernel in timed], MIN_KERNEL_US)
    first = np.array([columns.first_column_of(kernel) for kernel in timed])
    coefficients, is_fitted = prior_us.copy(), np.zeros(len(prior_us), dtype=bool)
    estimates: dict[int, list[tuple[float, float]]] = {}  # column -> (coefficient, amount) of each class that has it
    for column in np.unique(first):  # each class of kernels by its first column
        own = first == column
        if own.sum() < MIN_KERNELS:
            continue
        matrix = rows[own]
        used = np.flatnonzero(matrix.any(axis=0))
        fitted = _fit_class(matrix[:, used], times[own], prior_us[used])
        for i, value in zip(used.tolist(), fitted.tolist(), strict=True):
            estimates.setdefault(i, []).append((value, float(matrix[:, i].sum())))
    # A curve fused into convolutions of several classes has one coefficient: their mean, weighted by its amounts.
    for i, pairs in estimates.items():
        amounts = np.array(pairs)
        coefficients[i] = float((amounts[:, 0] * amounts[:, 1]).sum() / amounts[:, 1].sum())
        is_fitted[i] = True
    # Of the profile only ratios are known, so unfitted columns take on the level of the fitted ones; zeros have none.
    usable = is_fitted & (prior_us > 0) & (coefficients > 0)
    factor = float(np.median(coefficients[usable] / prior_us[usable])) if usable.any() else 1.0
    coefficients[~is_fitted] *= factor
    return coefficients


def _fit_class(matrix: Floats, times_us: Floats, prior_us: Floats) -> Floats:
    """[k] Non-negative coefficients of one class, with a ridge towards the profile's at the level of this class."""
    centre = prior_us * np.median(times_us / np.maximum(matrix @ prior_us, 1e-12))
    relative = matrix / times_us[:, None]
    pull = np.sqrt(_PRIOR_RIDGE) * relative.mean(axis=0)
    return fit_huber_nnls(relative, pull=pull, centre=centre, min_scale=_MIN_SCALE, iterations=_IRLS_ITERATIONS)
