"""Calibration result: the fitted latency model of a target, its error on held-out networks, and whether it is used."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from nas.latency.predicted.learned_roofline import LearnedRoofline

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LatencyCalibration:
    """The outcome of a calibration.

    The errors are those of a model that was fitted without the held-out networks; the model that is kept was fitted on
    all of them.

    Attributes:
        target: name of the target.
        path: file of the model, which later predictions use where it is trusted.
        n_models: measured networks, the held-out ones included.
        n_held_out: networks that the errors are computed on.
        spearman: rank correlation of predicted and measured latency on the held-out networks, -1..1.
        mean_error: mean of |prediction / measurement - 1| on them.
        within_10: share of them predicted within 10 %, 0..1.
        max_mean_error: the mean error that must not be exceeded, see `calibrate_target`.
        disturbed_fraction: share of the measurements that were made on a busy machine, 0..1.
        failures: why networks were left out, one line for each.
        model: fitted on all networks.
    """

    target: str
    path: Path
    n_models: int
    n_held_out: int
    spearman: float
    mean_error: float
    within_10: float
    max_mean_error: float
    disturbed_fraction: float
    failures: tuple[str, ...]
    model: LearnedRoofline

    @property
    def is_trusted(self) -> bool:
        """Whether the error on held-out networks is low enough to use the model; false also where it is NaN."""
        return self.mean_error <= self.max_mean_error

    def summary_lines(self) -> list[str]:
        """The outcome in words, line by line."""
        errors = f"mean error {self.mean_error:.1%}, within 10 % {self.within_10:.0%}"
        lines = [
            f"{self.target}: fitted on {self.n_models} networks",
            f"{self.n_held_out} networks held out: rank correlation {self.spearman:.3f}, {errors}",
        ]
        if self.is_trusted:
            lines.append(f"predictions for {self.target} now use {self.path}")
        else:
            lines.append(
                f"not used: the mean error must be at most {self.max_mean_error:.1%}; measure more networks, or while "
                "the machine is idle"
            )
        if self.disturbed_fraction > 0:
            lines.append(
                f"{self.disturbed_fraction:.0%} of the networks were measured on a busy machine: their latency was "
                "corrected to that of an idle one; calibrate again when it is idle"
            )
        return lines + [f"left out: {reason}" for reason in self.failures]


def prediction_errors(predicted: Floats, measured: Floats) -> dict[str, float]:
    """Errors of predicted latencies [n] against measured ones [n], in the same unit.

    Returns:
        `spearman` (rank correlation; ties share the mean rank), `mean_error` (mean of |predicted / measured - 1|) and
        `within_10` (share with an error of at most 10 %). All are NaN for n = 0; `spearman` also where an array is
        constant.
    """
    if not len(measured):
        return dict.fromkeys(("spearman", "mean_error", "within_10"), float("nan"))
    errors = np.abs(predicted / measured - 1)
    a, b = (pd.Series(values).rank().to_numpy(dtype=np.float64) for values in (predicted, measured))
    spearman = float(np.corrcoef(a, b)[0, 1]) if a.std() * b.std() > 0 else float("nan")
    return {"spearman": spearman, "mean_error": float(errors.mean()), "within_10": float((errors <= 0.1).mean())}
