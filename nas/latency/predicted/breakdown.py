"""Breakdown of a predicted latency: what the model of a device adds up, by kind of kernel, and what it leaves out."""

from collections import defaultdict

from hw_profiles._base import HardwareProfile
from nas.latency.costs import Costs
from nas.latency.latency import Latency
from nas.latency.predicted.predict import predict_latency, predict_layers_ms
from nas.runtimes.time_breakdown import WITHOUT_CAMERA, TimeBreakdown, TimePart

NOT_PREDICTED = (
    "a prediction holds no copies between host and GPU, no reformats, no waiting of the host, and no other work on the "
    "board; its interval is that of the published figures it was fitted to, all of larger networks"
)


def explain_prediction(name: str, costs: Costs, profile: HardwareProfile) -> TimeBreakdown:
    """The breakdown of a predicted latency.

    Args:
        name: of the file.
        costs: of the file.
        profile: the device.

    Raises:
        ConfigError: the device has neither a calibration nor a latency model.
    """
    latency = predict_latency(costs, profile)
    by_kind: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for kernel, (layer, ms) in zip(costs.kernels, predict_layers_ms(costs, profile), strict=True):
        by_kind[kernel.kind].append((layer, ms))
    parts = [_part(kind, layers) for kind, layers in by_kind.items()]
    parts.sort(key=lambda part: -part.ms)
    fixed_ms = max(0.0, latency.latency_ms - sum(part.ms for part in parts))
    fixed = TimePart(name="fixed part", ms=fixed_ms, detail="launch of the whole network")
    return TimeBreakdown(
        title=f"{name}, predicted for {profile.title}", parts=(*parts, fixed),
        remarks=(*_remarks(costs, latency, profile), NOT_PREDICTED, WITHOUT_CAMERA),
    )  # fmt: skip


def _part(kind: str, layers: list[tuple[str, float]]) -> TimePart:
    longest, _ = max(layers, key=lambda layer: layer[1])
    return TimePart(name=f"{kind} kernels", ms=sum(ms for _, ms in layers), detail=f"{len(layers)}; longest {longest}")


def _remarks(costs: Costs, latency: Latency, profile: HardwareProfile) -> list[str]:
    found = []
    if profile.latency is not None:
        floor_ms = profile.latency.floor_us * len(costs.kernels) / 1e3
        share = min(1.0, floor_ms / latency.latency_ms)
        found.append(
            f"{len(costs.kernels)} kernels cost at least {profile.latency.floor_us:g} us each, {share:.0%} of the "
            f"whole: {'fewer kernels' if share > 0.5 else 'less arithmetic and traffic'} would gain most"
        )
    if mode := profile.facts.get("power_mode"):
        found.append(f"power mode {mode}, GPU at {profile.facts['gpu_mhz']} MHz: another mode has other clocks")
    return found
