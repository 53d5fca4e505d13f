"""Learned roofline: planted coefficients, intervals, and the columns of single kernels."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_profiles._base import HardwareProfile, LatencyModel
from nas.errors import ConfigError
from nas.latency.costs import Costs, Kernel
from nas.latency.predicted.cost_columns import CostColumns, columns_for, tie_matrices
from nas.latency.predicted.learned_roofline import LearnedRoofline, conformal_half_width, fit_learned_roofline

PROFILE = HardwareProfile(
    name="board",
    title="a board",
    runtime="onnxruntime",
    precisions=(8, 32),
    channel_multiple=8,
    activation_signed=True,
    peak_gops={8: 200, 32: 50},
    bandwidth_gb_s=10,
    memory_gb=4,
    facts={"block": 16},
)
PRICES = {"launch": 3.0, "mbyte": 150.0, "weights": 90.0, "mmac": 25.0}


def kernel(random: np.random.Generator) -> Kernel:
    kind = str(random.choice(["conv", "pointwise", "depthwise", "elementwise", "concat"]))
    side, source, target = (int(random.choice(options)) for options in ([6, 12, 24], [16, 24, 48], [8, 16, 32, 64]))
    read, written = 4 * source * side**2, 4 * target * side**2
    if kind in {"elementwise", "concat"}:
        return Kernel(
            name="k", kind=kind, macs=0, input_bytes=read, output_bytes=read, weight_bytes=0, bits=32,
            operators=("Relu",),
        )  # fmt: skip
    window, groups = (1, 1) if kind == "pointwise" else (9, source if kind == "depthwise" else 1)
    target = source if kind == "depthwise" else target
    return Kernel(
        name="k", kind=kind, macs=window * source // groups * target * side**2, input_bytes=read, output_bytes=written,
        weight_bytes=4 * window * source // groups * target, bits=32, in_channels=source, out_channels=target,
        groups=groups, operators=("Conv", "Relu"),
    )  # fmt: skip


def net(seed: int) -> Costs:
    random = np.random.default_rng(seed)
    return Costs(kernels=tuple(kernel(random) for _ in range(random.integers(8, 40))), params=1, nonzero_params=1)


def true_ms(costs: Costs) -> float:
    columns = columns_for(PROFILE)
    prices = np.array([PRICES.get(name.rpartition(".")[2], 12.0 if name == "fixed" else 0.0) for name in columns.names])
    return float((columns.design_matrix([costs.kernels]) @ prices)[0]) / 1e3


NETS = [net(i) for i in range(80)]
TRUE = np.array([true_ms(costs) for costs in NETS])
MODEL = fit_learned_roofline(NETS[:50], TRUE[:50], PROFILE)


def test_planted_coefficients_predict_held_out_nets() -> None:
    assert MODEL.predict_ms(NETS[50:]) == pytest.approx(TRUE[50:], rel=0.05)
    assert MODEL.half_width < 0.05


def test_nets_ten_times_as_large_are_predicted_by_the_same_coefficients() -> None:
    large = Costs(kernels=NETS[60].kernels * 10, params=1, nonzero_params=1)
    assert MODEL.predict_ms([large])[0] == pytest.approx(true_ms(large), rel=0.1)


def test_the_layers_add_up_to_the_whole() -> None:
    layers = MODEL.layers_us(NETS[70])
    assert len(layers) == len(NETS[70].kernels) + 1
    assert layers[-1][0] == "fixed"
    assert sum(us for _, us in layers) / 1e3 == pytest.approx(MODEL.predict(NETS[70]).latency_ms)


def test_the_interval_covers_held_out_nets() -> None:
    noise = np.random.default_rng(0).normal(1, 0.08, len(NETS))
    model = fit_learned_roofline(NETS[:40], (TRUE * noise)[:40], PROFILE)
    inside = np.abs((TRUE * noise)[40:] / model.predict_ms(NETS[40:]) - 1) <= model.relative_half_widths(NETS[40:])
    assert inside.mean() >= 0.85
    assert model.half_width < 0.5


def test_a_net_unlike_all_others_is_less_certain() -> None:
    odd = replace(NETS[0], kernels=(replace(NETS[0].kernels[0], kind="grouped", macs=10**8, groups=4),) * 5)
    noise = np.random.default_rng(1).normal(1, 0.1, 50)
    model = fit_learned_roofline(NETS[:50], TRUE[:50] * noise, PROFILE)
    assert model.relative_half_widths([odd])[0] > model.relative_half_widths(NETS[50:]).max()


def test_a_prediction_is_marked_as_predicted() -> None:
    found = MODEL.predict(NETS[0])
    assert (found.kind, found.device, found.runs) == ("predicted", "a board", 0)
    assert found.low_ms <= found.latency_ms <= found.high_ms
    assert f"calibrated on 50 nets, median error {MODEL.median_error:.1%}" in found.notes[0]


def test_a_thousand_nets_are_predicted_in_a_second() -> None:
    begin = time.process_time()
    MODEL.predict_ms(NETS)
    assert len(NETS) / (time.process_time() - begin) >= 1000


def profiled(costs: Costs, overhead_us: float) -> Costs:
    columns = columns_for(PROFILE)
    prices = np.array([PRICES.get(name.rpartition(".")[2], 0.0) for name in columns.names])
    return replace(
        costs,
        kernels=tuple(
            replace(k, profiled_us=float(columns.cost_vector([k]) @ prices) + overhead_us) for k in costs.kernels
        ),
    )  # fmt: skip


def test_profiled_kernels_improve_a_fit_to_few_nets() -> None:
    few = [profiled(costs, overhead_us=2.0) for costs in NETS[:8]]
    told = fit_learned_roofline(few, TRUE[:8], PROFILE)
    untold = fit_learned_roofline(NETS[:8], TRUE[:8], PROFILE)

    def error(model: LearnedRoofline) -> float:
        return float(np.median(np.abs(model.predict_ms(NETS[50:]) / TRUE[50:] - 1)))

    assert error(told) < 0.03
    assert error(told) < 0.5 * error(untold)


def test_a_json_round_trip_keeps_the_model() -> None:
    again = LearnedRoofline.from_dict(json.loads(json.dumps(MODEL.to_dict())))
    assert again == MODEL
    assert again.predict(NETS[3]) == MODEL.predict(NETS[3])


def test_coefficients_of_another_version_are_refused() -> None:
    with pytest.raises(ConfigError, match="calibrate again"):
        LearnedRoofline.from_dict({**MODEL.to_dict(), "prices_us": [1.0]})


@pytest.mark.parametrize("count", [4, 6])
def test_fewer_than_five_nets_or_missing_latencies_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="5 measured nets or more and one latency for each"):
        fit_learned_roofline(NETS[:count], TRUE[:4], PROFILE)


def test_the_latency_model_of_a_profile_is_the_prior() -> None:
    model = LatencyModel(fixed_us=12, floor_us=3, efficiency={}, relative_error=0.5, source="made up")
    profile = replace(PROFILE, latency=model, peak_gops={8: 160, 32: 80}, bandwidth_gb_s=1e3 / 150)
    few = fit_learned_roofline(NETS[:6], TRUE[:6], profile)
    assert np.median(np.abs(few.predict_ms(NETS[50:]) / TRUE[50:] - 1)) < 0.1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 79), st.integers(0, 10_000), st.integers(0, 10**8))
def test_more_work_never_takes_less_time(number: int, seed: int, extra: int) -> None:
    some, one = NETS[number], kernel(np.random.default_rng(seed))

    def ms(*kernels: Kernel) -> float:
        return float(MODEL.predict_ms([Costs(kernels=kernels, params=1, nonzero_params=1)])[0])

    base = ms(*some.kernels, one)
    assert base >= ms(*some.kernels)
    assert ms(*some.kernels, replace(one, input_bytes=one.input_bytes + extra)) >= base
    if one.macs:
        assert ms(*some.kernels, replace(one, macs=one.macs + extra)) >= base


COLUMNS = CostColumns(bits=(8, 32), block=16)
CONV = Kernel(
    name="k", kind="conv", macs=1_000_000, input_bytes=4, output_bytes=4, weight_bytes=4, bits=32, in_channels=16,
    out_channels=32,
)  # fmt: skip


def parts(one: Kernel) -> dict[str, float]:
    row = COLUMNS.cost_vector([one])
    return {name: float(row[i]) for i, name in enumerate(COLUMNS.names) if row[i]}


@pytest.mark.parametrize(
    ("channels", "mmac", "misaligned", "narrow"),
    [((16, 32), 1.0, 0.0, 0.0), ((24, 32), 4 / 3, 4 / 3, 0.0), ((16, 16), 1.0, 0.0, 1.0), ((16, 8), 2.0, 2.0, 2.0)],
)
def test_arithmetic_counts_in_full_blocks(
    channels: tuple[int, int], mmac: float, misaligned: float, narrow: float
) -> None:
    found = parts(replace(CONV, in_channels=channels[0], out_channels=channels[1]))
    assert found["conv32.mmac"] == pytest.approx(mmac)
    assert found.get("conv32.misaligned", 0.0) == pytest.approx(misaligned)
    assert found.get("conv32.narrow", 0.0) == pytest.approx(narrow)


def test_a_stem_is_a_class_of_its_own_and_not_padded() -> None:
    assert parts(replace(CONV, in_channels=1))["stem32.mmac"] == pytest.approx(1.0)


def test_taps_are_output_positions_times_positions_of_the_window() -> None:
    one = replace(CONV, macs=12 * 12 * 9 * 16 * 32)
    assert parts(one)["conv32.taps"] == pytest.approx(12 * 12 * 9 / 1e6)
    depthwise = replace(CONV, kind="depthwise", macs=12 * 12 * 25 * 32, in_channels=32, out_channels=32, groups=32)
    assert parts(depthwise)["depthwise32.taps"] == pytest.approx(12 * 12 * 25 / 1e6)


@pytest.mark.parametrize(
    ("operator", "bits", "word"),
    [
        ("QLinearAveragePool", 8, "average"), ("MaxPool", 8, "maximum"), ("NhwcMaxPool", 8, "pool"),
        ("MaxPool", 32, "pool"),
    ],
)  # fmt: skip
def test_integer_poolings_without_a_vector_form_are_classes_of_their_own(operator: str, bits: int, word: str) -> None:
    assert COLUMNS.kernel_class(replace(CONV, kind="pool", operators=(operator,), bits=bits)) == word


@pytest.mark.parametrize(
    ("operators", "word"),
    [(("Relu",), "elementwise"), (("HardSwish", "Add"), "curve"), (("Div", "Erf", "Add", "Mul"), "erf")],
)
def test_costly_activations_are_classes_of_their_own(operators: tuple[str, ...], word: str) -> None:
    assert COLUMNS.kernel_class(replace(CONV, kind="elementwise", operators=operators)) == word


def test_a_width_the_device_lacks_counts_at_the_next_wider() -> None:
    assert "conv32.launch" in parts(replace(CONV, bits=16))


def test_every_column_belongs_to_one_part_of_every_tie() -> None:
    columns = columns_for(PROFILE)
    for tie in tie_matrices(PROFILE, columns):
        assert tie.shape[0] == len(columns.names)
        assert ((tie > 0).sum(axis=1) == 1).all()


def test_the_half_width_is_the_rank_that_covers_95_percent() -> None:
    errors = 1 / (1 + np.arange(1, 100) / 1000) - 1  # values 0.1 % to 9.9 % above the prediction
    assert conformal_half_width(errors) == pytest.approx(0.095)
    assert conformal_half_width(np.array([-0.9, 0.0])) == 1.0


def test_a_curve_inside_a_convolution_adds_its_traffic_and_no_launch() -> None:
    plain, fused = (parts(replace(CONV, operators=("nchwc.Conv", *more))) for more in ((), ("HardSwish",)))
    assert fused == {**plain, "curve32.mbyte": pytest.approx(4e-6)}
