"""Analytic roofline, against closed forms."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_profiles._base import HardwareProfile, LatencyModel
from nas.errors import ConfigError
from nas.latency.costs import CONV_KINDS, Costs, Kernel
from nas.latency.predicted.arithmetic import padded_macs, peak_gops
from nas.latency.predicted.roofline import predict_kernel_us, predict_roofline

PROFILE = HardwareProfile(
    name="board",
    title="a board",
    runtime="tensorrt",
    precisions=(16, 32),
    channel_multiple=8,
    activation_signed=True,
    peak_gops={16: 1000, 32: 500},
    bandwidth_gb_s=10,
    memory_gb=4,
    latency=LatencyModel(
        fixed_us=20, floor_us=5, efficiency={"conv": 0.5, "memory": 0.5}, relative_error=0.4, source="made up"
    ),
)
SMALL = Kernel(name="k", kind="conv", macs=1000, input_bytes=8, output_bytes=8, weight_bytes=8, bits=16)
CONV = replace(SMALL, in_channels=8, out_channels=8)


def costs(*kernels: Kernel) -> Costs:
    return Costs(kernels=kernels, params=1, nonzero_params=1)


NOTHING = replace(CONV, macs=0, input_bytes=0, output_bytes=0, weight_bytes=0)


def test_a_kernel_that_does_nothing_takes_the_floor() -> None:
    found = predict_roofline(costs(NOTHING, NOTHING, NOTHING), PROFILE)
    assert found.latency_ms == pytest.approx(0.020 + 3 * 0.005)
    assert (found.low_ms, found.high_ms) == pytest.approx((0.6 * 0.035, 1.4 * 0.035))
    assert (found.kind, found.device, found.runs, found.p5_ms) == ("predicted", "a board", 0, None)
    assert "made up" in found.notes[0]


def test_arithmetic_takes_operations_over_the_reachable_rate() -> None:
    assert predict_kernel_us(replace(NOTHING, macs=5_000_000), PROFILE) == pytest.approx(
        5 + 20
    )  # 1e7 operations at 500e9/s


def test_traffic_takes_bytes_over_the_reachable_bandwidth() -> None:
    some = replace(NOTHING, input_bytes=20_000, output_bytes=20_000, weight_bytes=10_000)
    assert predict_kernel_us(some, PROFILE) == pytest.approx(5 + 10)  # 5e4 bytes at 5e9/s


@pytest.mark.parametrize(
    ("channels", "groups", "factor"), [((8, 16), 1, 1), ((1, 8), 1, 8), ((12, 12), 1, 16 / 9), ((32, 32), 8, 4)]
)
def test_channels_are_rounded_up_in_each_group(channels: tuple[int, int], groups: int, factor: float) -> None:
    kernel = replace(CONV, in_channels=channels[0], out_channels=channels[1], groups=groups)
    assert padded_macs(kernel, 8) == pytest.approx(1000 * factor)


def test_depthwise_is_not_padded() -> None:
    kernel = replace(CONV, kind="depthwise", in_channels=12, out_channels=12, groups=12)
    assert padded_macs(kernel, 8) == 1000


def test_a_width_the_device_lacks_runs_at_the_next_wider() -> None:
    assert [peak_gops(PROFILE, bits) for bits in (8, 16, 32)] == [1000, 1000, 500]


def test_a_profile_without_a_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="'board' has none"):
        predict_roofline(costs(CONV), replace(PROFILE, latency=None))


kernels = st.builds(
    Kernel,
    name=st.just("k"),
    kind=st.sampled_from(sorted(CONV_KINDS)),
    macs=st.integers(0, 10**9),
    input_bytes=st.integers(0, 10**7),
    output_bytes=st.integers(0, 10**7),
    weight_bytes=st.integers(0, 10**7),
    bits=st.sampled_from([8, 16, 32]),
    in_channels=st.integers(1, 256),
    out_channels=st.integers(1, 256),
)


@given(st.lists(kernels, max_size=8), kernels, st.integers(0, 10**8))
def test_more_work_never_takes_less_time(some: list[Kernel], one: Kernel, extra: int) -> None:
    def ms(*every: Kernel) -> float:
        return predict_roofline(costs(*every), PROFILE).latency_ms

    base = ms(*some, one)
    assert base > ms(*some)
    assert ms(*some, replace(one, macs=one.macs + extra)) >= base
    assert ms(*some, replace(one, input_bytes=one.input_bytes + extra)) >= base
    assert ms(*some, replace(one, bits=32)) >= base
