"""The learned roofline: what a net takes on a device of which some nets were measured.

    t = fixed + sum over fused kernels of (launch + MACs in full blocks + bytes + misaligned MACs, each times a price)

The prices are non-negative, one for each kind of kernel and bit-width, and start from the profile's (`_additive`). So
the model says what each layer takes, more work never takes less time, and nets larger than those measured are
predicted by the same prices. Forests and Gaussian processes rank FER-sized nets worse after 20 to 200 samples. What is
done differently from nn-Meter (MobiSys 2021), whose kernels are timed one by one: whole nets are measured, which needs
no access to the runtime's kernels, and tens of them, not thousands. Where the runtime's profiler timed their kernels
all the same, prices fitted to those (`_profiled`) are one more start, believed as far as it predicts held-out nets.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.errors import ConfigError
from nas.latency.costs import Costs
from nas.latency.estimate import Latency
from nas.latency.predicted import kernel_fit as _profiled
from nas.latency.predicted.additive_fit import fit_additive
from nas.latency.predicted.cost_columns import (
    FIXED,
    CostColumns,
    by_launch_and_kernel_group,
    columns_for,
    profile_coefficients_us,
    tie_matrices,
    tie_matrix,
)

Floats = npt.NDArray[np.float64]

VERSION = "learned roofline 2"
MIN_SAMPLES = 5
COVERAGE = 0.95
_PRIOR_SAMPLES = 2.0  # what a profile's own constants are worth, in samples


@dataclass(frozen=True, kw_only=True)
class LearnedRoofline:
    """A fitted model. Make it with `learn`.

    Attributes:
        device: the device in words.
        runtime: word of the runtime that was measured.
        bits: bit-widths it tells apart.
        block: channels are rounded up to multiples of it.
        prices_us: microseconds for one unit of each column.
        resampled_us: the same from each resample of the samples; their spread is the model's uncertainty.
        half_width: half-width of the 95 % interval of a usual net, as a share of the prediction, from held-out samples.
        median_error: median of |prediction / measured - 1| of the samples when they were held out.
        usual_spread: median over the samples of the resamples' standard deviation, as a share of the prediction.
        samples: nets behind it.
    """

    device: str
    runtime: str
    bits: tuple[int, ...]
    block: int
    prices_us: tuple[float, ...]
    resampled_us: tuple[tuple[float, ...], ...]
    half_width: float
    median_error: float
    usual_spread: float
    samples: int

    def predict(self, costs: Costs) -> Latency:
        """The latency of a file: predicted, with its 95 % interval."""
        value = float(self.predict_ms([costs])[0])
        half = float(self.relative_half_widths([costs])[0])
        return Latency(
            kind="predicted",
            device=self.device,
            runtime=self.runtime,
            latency_ms=value,
            low_ms=value * max(0.0, 1 - half),
            high_ms=value * (1 + half),
            notes=(self._note(),),
            versions={"predictor": VERSION},
        )

    def predict_ms(self, model_costs: Sequence[Costs]) -> Floats:
        """[n] Milliseconds of several nets."""
        found: Floats = self._design_matrix(model_costs) @ self._coefficients_us / 1e3
        return found

    def relative_half_widths(self, model_costs: Sequence[Costs]) -> Floats:
        """[n] Half-widths of the 95 % intervals, as shares of the predictions.

        A net on which the resamples disagree more than on the measured ones has a wider interval in proportion.
        """
        spread = _relative_std(self._design_matrix(model_costs), self._coefficients_us, np.array(self.resampled_us))
        found: Floats = self.half_width * np.maximum(1.0, spread / max(self.usual_spread, 1e-9))
        return np.minimum(found, 1.0)

    def layers_us(self, costs: Costs) -> list[tuple[str, float]]:
        """Microseconds of each kernel by name, in order, and at the end of what belongs to none (`fixed`)."""
        found = [(k.name, float(self._columns.cost_vector([k]) @ self._coefficients_us)) for k in costs.kernels]
        return [*found, (FIXED, float(self._coefficients_us[0]))]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "LearnedRoofline":
        """The inverse of `to_dict`, also after a JSON round trip.

        Raises:
            ConfigError: the prices do not fit the columns of this version.
        """
        found = cls(
            **{
                **fields,
                "bits": tuple(fields["bits"]),
                "prices_us": tuple(fields["prices_us"]),
                "resampled_us": tuple(tuple(row) for row in fields["resampled_us"]),
            }
        )
        if len(found.prices_us) != len(found._columns.names):
            raise ConfigError(
                f"a learned roofline needs {len(found._columns.names)} prices, but got {len(found.prices_us)}; "
                "calibrate again"
            )
        return found

    def _note(self) -> str:
        behind = f"calibrated on {self.samples} nets, median error {self.median_error:.1%} where held out"
        return f"predicted, not measured: {behind}, within {self.half_width:.0%} in 19 of 20 cases"

    def _design_matrix(self, model_costs: Sequence[Costs]) -> Floats:
        return self._columns.design_matrix([net.kernels for net in model_costs])

    @cached_property
    def _columns(self) -> CostColumns:
        return CostColumns(bits=self.bits, block=self.block)

    @cached_property
    def _coefficients_us(self) -> Floats:
        return np.array(self.prices_us)


def fit_learned_roofline(
    model_costs: Sequence[Costs], latencies_ms: Sequence[float] | Floats, profile: HardwareProfile, *, seed: int = 0
) -> LearnedRoofline:
    """Fit the prices of a device to measured nets, starting from those of its profile.

    Args:
        nets: what was measured; kernels that were profiled tell their own prices.
        latencies_ms: of each net, positive.
        profile: the device.
        seed: of cross-validation and resamples.

    Raises:
        ConfigError: there are fewer than five nets, or not one latency for each of them.
    """
    if len(model_costs) < MIN_SAMPLES or len(model_costs) != len(latencies_ms):
        raise ConfigError(
            f"a model needs {MIN_SAMPLES} measured nets or more and one latency for each, but got {len(model_costs)} nets "
            f"and {len(latencies_ms)} latencies; measure more"
        )
    columns = columns_for(profile)
    matrix, values = (
        columns.design_matrix([net.kernels for net in model_costs]),
        np.asarray(latencies_ms, dtype=np.float64) * 1e3,
    )
    structures = tie_matrices(profile, columns)
    single = _profiled.fit_kernel_coefficients(
        (k for net in model_costs for k in net.kernels), columns, profile_coefficients_us(profile, columns)
    )
    if single is not None:
        structures.append(tie_matrix(single, columns.names, by_launch_and_kernel_group))
    found = fit_additive(
        matrix, values, structures, seed=seed, prior_samples=_PRIOR_SAMPLES if profile.latency else 0.0
    )
    return LearnedRoofline(
        device=profile.title,
        runtime=profile.runtime,
        bits=columns.bits,
        block=columns.block,
        prices_us=tuple(found.coefficients.tolist()),
        resampled_us=tuple(tuple(row) for row in found.bootstrap_coefficients.tolist()),
        half_width=conformal_half_width(found.held_out_errors),
        median_error=float(np.median(np.abs(found.held_out_errors))),
        usual_spread=float(np.median(_relative_std(matrix, found.coefficients, found.bootstrap_coefficients))),
        samples=len(model_costs),
    )


def conformal_half_width(errors: Floats) -> float:
    """The share of a prediction within which 95 % of the held-out values lay, by rank (conformal), at most 1.

    Args:
        errors: prediction over value minus one, of each sample when it was held out.
    """
    off = np.sort(np.abs(1 / np.maximum(1 + errors, 1e-3) - 1))
    rank = min(len(off), int(np.ceil((len(off) + 1) * COVERAGE)))
    return float(min(off[rank - 1], 1.0))


def _relative_std(matrix: Floats, coefficients_us: Floats, bootstrap_coefficients_us: Floats) -> Floats:
    """[n] Standard deviation of the resamples' predictions, as a share of the prediction."""
    found: Floats = (matrix @ bootstrap_coefficients_us.T).std(axis=1) / np.maximum(matrix @ coefficients_us, 1e-12)
    return found
