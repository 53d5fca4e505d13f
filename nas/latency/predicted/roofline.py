"""Analytic roofline with a floor: the predicted latency of a net on a device that nobody measured.

    t = fixed + sum over fused kernels of (floor + arithmetic + bytes / bandwidth)

The roofline is that of Williams, Waterman and Patterson (Communications of the ACM 52(4), 2009). Two things differ. The
floor of each kernel is added, because in nets this small launches count. And theirs is the larger of arithmetic and
traffic, which overlap where a kernel is long enough; published latencies of whole nets are closer to the sum of all
three (benchmarks/jetson_profiles.py), which is also the form of the learned model
(`nas.latency.predicted.learned_roofline`). Arithmetic is twice the multiply-accumulates, with channels rounded up to
the device's multiple, divided by the peak rate times the efficiency of the kernel's kind. Nothing is fitted here.
"""

from hw_profiles._base import HardwareProfile, LatencyModel
from nas.errors import ConfigError
from nas.latency.costs import Costs, Kernel
from nas.latency.latency import Latency
from nas.latency.predicted.arithmetic import padded_macs, peak_gops

VERSION = "roofline 2"


def predict_roofline(costs: Costs, profile: HardwareProfile) -> Latency:
    """Predict the latency of a file on a device, with the interval of the profile's `relative_error`.

    Raises:
        ConfigError: the profile has no latency model.
    """
    model = _latency_model(profile)
    latency_ms = (model.fixed_us + sum(predict_kernel_us(kernel, profile) for kernel in costs.kernels)) / 1e3
    return Latency(
        kind="predicted",
        device=profile.title,
        runtime=profile.runtime,
        latency_ms=latency_ms,
        low_ms=latency_ms * max(0.0, 1 - model.relative_error),
        high_ms=latency_ms * (1 + model.relative_error),
        notes=(f"predicted, not measured: {model.source}",),
        versions={"predictor": VERSION},
    )


def predict_kernel_us(kernel: Kernel, profile: HardwareProfile) -> float:
    """Predict the microseconds of one fused kernel: the sum of floor, arithmetic and traffic.

    Raises:
        ConfigError: the profile has no latency model.
    """
    model = _latency_model(profile)
    rate = peak_gops(profile, kernel.bits) * model.efficiency.get(kernel.kind, 1.0)
    # A multiply-accumulate is two operations. 10^9 operations or bytes a second are 10^3 a microsecond.
    arithmetic = 2 * padded_macs(kernel, profile.channel_multiple) / (rate * 1e3)
    traffic = (kernel.input_bytes + kernel.output_bytes + kernel.weight_bytes) / (
        profile.bandwidth_gb_s * model.efficiency.get("memory", 1.0) * 1e3
    )
    return model.floor_us + arithmetic + traffic


def _latency_model(profile: HardwareProfile) -> LatencyModel:
    if profile.latency is None:
        raise ConfigError(f"a prediction needs a latency model, but {profile.name!r} has none; measure it")
    return profile.latency
