"""The analytic roofline with a floor: what a net would take on a device that nobody has at hand.

    t = fixed + sum over fused kernels of (floor + arithmetic + bytes / bandwidth)

The roofline is that of Williams, Waterman and Patterson (Communications of the ACM 52(4), 2009); the floor per kernel
is what it lacks for nets so small that launches count. Theirs is the larger of arithmetic and traffic, which overlap
where a kernel is long enough; published latencies of whole nets are closer to the sum of all three
(benchmarks/jetson_profiles.py), and what is learned from measurements (`nas.latency.predicted.learned_roofline`) has the same form.
Arithmetic is twice the multiply-accumulates, with channels rounded up to the device's multiple, over the peak rate
times the efficiency of the kernel's kind. Nothing is learned here.
"""

from hw_profiles._base import HardwareProfile, LatencyModel
from nas.errors import ConfigError
from nas.latency.costs import Costs, Kernel
from nas.latency.estimate import Latency
from nas.latency.predicted.arithmetic import padded_macs, peak_gops

VERSION = "roofline 2"


def predict_roofline(costs: Costs, profile: HardwareProfile) -> Latency:
    """The latency of a file on a device: predicted, with the interval that the profile's `relative_error` gives.

    Raises:
        ConfigError: the profile has no latency model.
    """
    model = _latency_model(profile)
    value = (model.fixed_us + sum(predict_kernel_us(kernel, profile) for kernel in costs.kernels)) / 1e3
    return Latency(
        kind="predicted",
        device=profile.title,
        runtime=profile.runtime,
        latency_ms=value,
        low_ms=value * max(0.0, 1 - model.relative_error),
        high_ms=value * (1 + model.relative_error),
        notes=(f"predicted, not measured: {model.source}",),
        versions={"predictor": VERSION},
    )


def predict_kernel_us(kernel: Kernel, profile: HardwareProfile) -> float:
    """Microseconds of one fused kernel: the sum of floor, arithmetic and traffic.

    Raises:
        ConfigError: the profile has no latency model.
    """
    model = _latency_model(profile)
    rate = peak_gops(profile, kernel.bits) * model.efficiency.get(kernel.kind, 1.0)
    arithmetic = 2 * padded_macs(kernel, profile.channel_multiple) / (rate * 1e3)
    traffic = (kernel.input_bytes + kernel.output_bytes + kernel.weight_bytes) / (
        profile.bandwidth_gb_s * model.efficiency.get("memory", 1.0) * 1e3
    )
    return model.floor_us + arithmetic + traffic


def _latency_model(profile: HardwareProfile) -> LatencyModel:
    if profile.latency is None:
        raise ConfigError(f"a prediction needs a latency model, but {profile.name!r} has none; measure it")
    return profile.latency
