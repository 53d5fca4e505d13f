"""Learned roofline: predicted latency on a device of which some nets were measured.

    t = fixed + sum over fused kernels of (launch + MACs in full blocks + bytes + misaligned MACs),
        each term times a coefficient

The coefficients are non-negative, one for each class of kernel and bit-width, and start from those of the profile
(`nas.latency.predicted.additive_fit`). So the model attributes time to layers, more work never takes less time, and
nets larger than the measured ones are predicted by the same coefficients. Random forests and Gaussian processes rank
FER-sized nets worse after 20 to 200 samples. nn-Meter (MobiSys 2021) times kernels one by one; here whole nets are
measured, which needs no access to the runtime's kernels, and tens of nets instead of thousands. Where the runtime's
profiler timed the kernels of these nets as well, coefficients fitted to them (`nas.latency.predicted.kernel_fit`) are
one more starting point, weighted by how well it predicts held-out nets.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from hw_profiles._base import HardwareProfile
from nas.errors import ConfigError
from nas.latency.costs import Costs
from nas.latency.latency import Latency
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
from nas.latency.predicted.kernel_fit import fit_kernel_coefficients

Floats = npt.NDArray[np.float64]

VERSION = "learned roofline 2"
MIN_SAMPLES = 5
COVERAGE = 0.95
_PRIOR_SAMPLES = 2.0
"""Weight of a profile's latency model, in measured nets: few, as profiles are off by tens of percent."""


@dataclass(frozen=True, kw_only=True)
class LearnedRoofline:
    """A fitted model, made by `fit_learned_roofline`. The names of its fields are stored in calibrations.

    Attributes:
        device: the device in words.
        runtime: word of the runtime that was measured.
        bits: bit-widths that have coefficients of their own.
        block: channels are rounded up to multiples of it.
        prices_us: microseconds for one unit of each column.
        resampled_us: the same from each bootstrap resample; their spread is the uncertainty of the model.
        half_width: half-width of the 95 % interval of a typical net, as a share of the prediction, from held-out nets.
        median_error: median of |prediction / measured - 1| over held-out nets.
        usual_spread: median over the nets of the resamples' standard deviation, as a share of the prediction.
        samples: number of measured nets.
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
        """Predict the latency of a file, with its 95 % interval."""
        latency_ms = float(self.predict_ms([costs])[0])
        half = float(self.relative_half_widths([costs])[0])
        return Latency(
            kind="predicted",
            device=self.device,
            runtime=self.runtime,
            latency_ms=latency_ms,
            low_ms=latency_ms * max(0.0, 1 - half),
            high_ms=latency_ms * (1 + half),
            notes=(self._note(),),
            versions={"predictor": VERSION},
        )

    def predict_ms(self, model_costs: Sequence[Costs]) -> Floats:
        """[n] Predict the milliseconds of several nets."""
        latencies_ms: Floats = self._design_matrix(model_costs) @ self._coefficients_us / 1e3
        return latencies_ms

    def relative_half_widths(self, model_costs: Sequence[Costs]) -> Floats:
        """[n] Half-widths of the 95 % intervals, as shares of the predictions.

        Where the resamples disagree more than on the measured nets, the interval is wider in proportion, never above 1.
        """
        spread = _relative_std(self._design_matrix(model_costs), self._coefficients_us, np.array(self.resampled_us))
        # Never narrower than the held-out nets showed: agreement of the resamples does not exclude a common bias.
        widths: Floats = self.half_width * np.maximum(1.0, spread / max(self.usual_spread, 1e-9))
        return np.minimum(widths, 1.0)

    def layers_us(self, costs: Costs) -> list[tuple[str, float]]:
        """Predict name and microseconds of each kernel, in order; the last entry is the fixed share (`fixed`)."""
        layers = [(k.name, float(self._columns.cost_vector([k]) @ self._coefficients_us)) for k in costs.kernels]
        return [*layers, (FIXED, float(self._coefficients_us[0]))]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "LearnedRoofline":
        """The inverse of `to_dict`, also after a JSON round trip.

        Raises:
            ConfigError: a field is missing or of another type, the number of coefficients is not that of this
                version's columns, or a number is impossible.
        """
        try:
            model = _form().validate_python(fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}; calibrate again") from None
        rows = (model.prices_us, *model.resampled_us)
        if {len(row) for row in rows} != {len(model._columns.names)}:
            lengths = ", ".join(map(str, sorted({len(row) for row in rows})))
            raise ConfigError(
                f"a learned roofline needs {len(model._columns.names)} coefficients, but got {lengths}; calibrate again"
            )
        numbers = np.array([*rows[0], *np.ravel(rows[1:]), model.half_width, model.median_error, model.usual_spread])
        if not np.all((numbers >= 0) & (numbers < np.inf)) or not all(
            1 <= count <= 2**31 for count in (model.block, *model.bits, model.samples)
        ):
            raise ConfigError(
                "a learned roofline needs finite numbers that are not negative, and a block, bit-widths and samples "
                "above 0, but has others; calibrate again"
            )
        return model

    def _note(self) -> str:
        basis = f"calibrated on {self.samples} nets, median error {self.median_error:.1%} where held out"
        return f"predicted, not measured: {basis}, within {self.half_width:.0%} in 19 of 20 cases"

    def _design_matrix(self, model_costs: Sequence[Costs]) -> Floats:
        return self._columns.design_matrix([net.kernels for net in model_costs])

    @cached_property
    def _columns(self) -> CostColumns:
        return CostColumns(bits=self.bits, block=self.block)

    @cached_property
    def _coefficients_us(self) -> Floats:
        return np.array(self.prices_us)


@cache
def _form() -> TypeAdapter[LearnedRoofline]:
    return TypeAdapter(LearnedRoofline)


def fit_learned_roofline(
    model_costs: Sequence[Costs], latencies_ms: Sequence[float] | Floats, profile: HardwareProfile, *, seed: int = 0
) -> LearnedRoofline:
    """Fit the coefficients of a device to measured nets, starting from those of its profile.

    Args:
        model_costs: costs of the measured nets; profiled kernels contribute coefficients of their own.
        latencies_ms: latency of each net, positive.
        profile: the device.
        seed: seed of cross-validation and resamples.

    Raises:
        ConfigError: there are fewer than five nets, or not one latency for each.
    """
    if len(model_costs) < MIN_SAMPLES or len(model_costs) != len(latencies_ms):
        raise ConfigError(
            f"a model needs {MIN_SAMPLES} measured nets or more and one latency for each, "
            f"but got {len(model_costs)} nets and {len(latencies_ms)} latencies; measure more"
        )
    columns = columns_for(profile)
    matrix = columns.design_matrix([net.kernels for net in model_costs])
    latencies_us = np.asarray(latencies_ms, dtype=np.float64) * 1e3
    ties = tie_matrices(profile, columns)
    kernel_us = fit_kernel_coefficients(
        (k for net in model_costs for k in net.kernels), columns, profile_coefficients_us(profile, columns)
    )
    if kernel_us is not None:
        ties.append(tie_matrix(kernel_us, columns.names, by_launch_and_kernel_group))
    # Without a latency model the profile gives ratios only, so multiplier 1 means nothing and has no weight.
    prior_samples = _PRIOR_SAMPLES if profile.latency else 0.0
    fit = fit_additive(matrix, latencies_us, ties, seed=seed, prior_samples=prior_samples)
    return LearnedRoofline(
        device=profile.title,
        runtime=profile.runtime,
        bits=columns.bits,
        block=columns.block,
        prices_us=tuple(fit.coefficients.tolist()),
        resampled_us=tuple(tuple(row) for row in fit.bootstrap_coefficients.tolist()),
        half_width=conformal_half_width(fit.held_out_errors),
        median_error=float(np.median(np.abs(fit.held_out_errors))),
        usual_spread=float(np.median(_relative_std(matrix, fit.coefficients, fit.bootstrap_coefficients))),
        samples=len(model_costs),
    )


def conformal_half_width(errors: Floats) -> float:
    """Half-width of the 95 % interval around a prediction, as a share of it, by split conformal prediction; at most 1.

    Source: Lei et al., Distribution-Free Predictive Inference for Regression, JASA 113(523), 2018.

    Args:
        errors: [n] prediction over value minus one, of each sample when it was held out.
    """
    # Turned into value over prediction minus one, because the interval is a share of the prediction.
    residuals = np.sort(np.abs(1 / np.maximum(1 + errors, 1e-3) - 1))
    # n + 1 counts the new sample, whose rank among all is uniform; below 20 samples the largest residual must do.
    rank = min(len(residuals), int(np.ceil((len(residuals) + 1) * COVERAGE)))
    return float(min(residuals[rank - 1], 1.0))


def _relative_std(matrix: Floats, coefficients_us: Floats, bootstrap_coefficients_us: Floats) -> Floats:
    """[n] Standard deviation of the resamples' predictions, as a share of the prediction."""
    predictions_us = matrix @ bootstrap_coefficients_us.T  # [n, r]
    shares: Floats = predictions_us.std(axis=1) / np.maximum(matrix @ coefficients_us, 1e-12)
    return shares
