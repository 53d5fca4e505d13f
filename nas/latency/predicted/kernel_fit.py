"""Prices from single kernels, where the runtime's profiler timed those of the measured nets.

Whole nets are few, and each is a sum of everything; their kernels are thousands. So the prices of each class are fitted
to its own kernels first, non-negative and of least relative error, pulled a little towards the profile's. The profiler
adds a microsecond or two to every kernel, and what it leaves out between kernels belongs to none: what whole nets take
decides how much of a launch counts, and by how much each sort of work is off. nn-Meter (MobiSys 2021) learns from
kernels that are built and timed one by one; these are timed where they run, with what the kernel before left in the
caches.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from nas.latency.costs import Kernel
from nas.latency.predicted.cost_columns import CostColumns
from nas.latency.predicted.nnls import nnls

Floats = npt.NDArray[np.float64]

MIN_KERNELS = 3  # of a class, to learn from them
MIN_KERNEL_US = 0.5  # the profiler counts whole microseconds
_PRIOR_RIDGE = 0.3  # towards the profile, as a share of what a column usually contributes
_IRLS_ITERATIONS = 5


def fit_kernel_coefficients(kernels: Iterable[Kernel], columns: CostColumns, prior_us: Floats) -> Floats | None:
    """Learn from those kernels that were profiled.

    Args:
        kernels: of all measured nets.
        columns: of the device.
        prior_us: [k] microseconds of one unit of each column by the profile; only their ratios matter.

    Returns:
        [k] microseconds of one unit of each column. One that no class has learned keeps the profile's price, times the
        usual factor between learned prices and those. None where too few kernels were profiled.
    """
    timed = [kernel for kernel in kernels if kernel.profiled_us is not None]
    if len(timed) < MIN_KERNELS:
        return None
    rows = np.array([columns.cost_vector([kernel]) for kernel in timed])
    times = np.maximum([kernel.profiled_us or 0.0 for kernel in timed], MIN_KERNEL_US)
    first = np.array([columns.first_column_of(kernel) for kernel in timed])
    found, learned = prior_us.copy(), np.zeros(len(prior_us), dtype=bool)
    shared: dict[int, list[tuple[float, float]]] = {}
    for at in np.unique(first):
        own = first == at
        if own.sum() < MIN_KERNELS:
            continue
        matrix = rows[own]
        used = np.flatnonzero(matrix.any(axis=0))
        fitted = _fit_class(matrix[:, used], times[own], prior_us[used])
        for column, value in zip(used.tolist(), fitted.tolist(), strict=True):
            shared.setdefault(column, []).append((value, float(matrix[:, column].sum())))
    for column, values in shared.items():  # a curve in convolutions of several classes has one price
        amounts = np.array(values)
        found[column] = float((amounts[:, 0] * amounts[:, 1]).sum() / amounts[:, 1].sum())
        learned[column] = True
    usable = learned & (prior_us > 0) & (found > 0)
    factor = float(np.median(found[usable] / prior_us[usable])) if usable.any() else 1.0
    found[~learned] *= factor
    return found


def _fit_class(matrix: Floats, times_us: Floats, prior_us: Floats) -> Floats:
    """[k] Non-negative prices of one class: least relative error (Huber), with a ridge towards the scaled profile."""
    centre = prior_us * np.median(times_us / np.maximum(matrix @ prior_us, 1e-12))
    relative = matrix / times_us[:, None]
    pull = np.sqrt(_PRIOR_RIDGE) * relative.mean(axis=0)
    weights, found = np.ones(len(times_us)), centre
    for _ in range(_IRLS_ITERATIONS):
        stacked = np.concatenate([relative * weights[:, None], np.diag(pull)])
        found = nnls(stacked, np.concatenate([weights, pull * centre]))
        errors = np.abs(relative @ found - 1)
        scale = max(1.4826 * float(np.median(errors)), 0.02)
        weights = np.sqrt(np.minimum(1.0, 2 * scale / np.maximum(errors, 1e-12)))
    return found
