"""Choice of bit-widths from latencies that are known: each unit has a cost in 8 and in 32 bits, borders cost too."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from nas.latency.latency import Latency
from nas.post_training.bits import BitsPlan
from nas.post_training.mixed_precision import choose_precision

UNITS = ("stem", "stage1", "stage2", "head")


def latency(ms: float, noise: float) -> Latency:
    return Latency(
        kind="measured", device="d", runtime="r", latency_ms=ms, low_ms=ms * (1 - noise), high_ms=ms * (1 + noise)
    )


class Machine:
    """Times plans by what each unit saves in 8 bits, and by the number of borders between widths."""

    def __init__(self, saved_ms: Mapping[str, float], *, border_ms: float = 0.0, noise: float = 0.005) -> None:
        self.saved_ms, self.border_ms, self.noise = saved_ms, border_ms, noise
        self.timed: list[BitsPlan] = []

    def __call__(self, plans: Sequence[BitsPlan]) -> list[Latency]:
        self.timed += plans
        return [latency(self.cost(plan), self.noise) for plan in plans]

    def cost(self, plan: BitsPlan) -> float:
        widths = [32, *plan.units.values(), 32]
        borders = sum(a != b for a, b in itertools.pairwise(widths))
        return 10.0 - sum(self.saved_ms[unit] for unit in UNITS if plan.units[unit] == 8) + self.border_ms * borders


def test_units_that_gain_are_narrow_and_the_others_wide() -> None:
    choice = choose_precision(
        UNITS, narrow=8, wide=32, time_plans=Machine({"stem": -0.5, "stage1": 2, "stage2": 3, "head": 0})
    )
    assert choice.plan.units == {"stem": 32, "stage1": 8, "stage2": 8, "head": 32}
    assert choice.gains["stage1"].is_faster
    assert not choice.gains["head"].is_faster
    assert choice.whole is not None
    assert choice.whole.is_faster


def test_a_gain_within_the_noise_leaves_a_unit_wide() -> None:
    machine = Machine({"stem": 0.03, "stage1": 3, "stage2": 3, "head": 0.03})
    assert choose_precision(UNITS, narrow=8, wide=32, time_plans=machine).plan.units["stem"] == 32


def test_units_that_gain_only_together_are_narrow_together() -> None:
    """Each gains 1.3 %, which could be noise, and all together 5 %; one of them is within 2 % of the fastest file."""
    machine = Machine(dict.fromkeys(UNITS, 0.12))
    choice = choose_precision(UNITS, narrow=8, wide=32, time_plans=machine)
    assert sorted(choice.plan.units.values()) == [8, 8, 8, 32]


def test_a_unit_that_was_ranked_wrongly_comes_back() -> None:
    """In the first turn stage1 seems to lose most, because the file without it was timed in a fast moment."""
    machine = Machine({"stem": -0.5, "stage1": 1, "stage2": 3, "head": 0.5})

    def time_plans(plans: Sequence[BitsPlan]) -> list[Latency]:
        is_first = not machine.timed
        exact = machine(plans)
        return [latency(1.0, 0.005) if is_first and i == 1 else each for i, each in enumerate(exact)]

    choice = choose_precision(UNITS, narrow=8, wide=32, time_plans=time_plans)
    assert choice.plan.units["stage1"] == choice.plan.units["stage2"] == 8


def test_on_a_busy_machine_stem_and_head_stay_wide_and_the_choice_says_so() -> None:
    machine = Machine({"stem": 1, "stage1": 1, "stage2": 1, "head": 1})

    def time_plans(plans: Sequence[BitsPlan]) -> list[Latency]:
        return [replace(each, slowdown=0.3) for each in machine(plans)]

    choice = choose_precision(UNITS, narrow=8, wide=32, time_plans=time_plans)
    assert choice.was_disturbed
    assert choice.plan.units == {"stem": 32, "stage1": 8, "stage2": 8, "head": 32}
    assert choice.whole is not None
    assert len(machine.timed) == 4 + 2
    machine.saved_ms = dict.fromkeys(UNITS, -1.0)
    assert set(choose_precision(UNITS, narrow=8, wide=32, time_plans=time_plans).plan.units.values()) == {32}


def test_a_border_between_two_narrow_units_counts_against_the_wide_one() -> None:
    """stage1 alone loses 0.1 ms, but in float it would cost two borders of 0.4 ms."""
    machine = Machine({"stem": 1, "stage1": -0.1, "stage2": 1, "head": 1}, border_ms=0.4)
    choice = choose_precision(UNITS, narrow=8, wide=32, time_plans=machine)
    assert set(choice.plan.units.values()) == {8}


def test_a_file_that_was_disturbed_half_of_the_time_is_judged_by_its_best_runs() -> None:
    def time_plans(plans: Sequence[BitsPlan]) -> list[Latency]:
        exact = Machine({"stem": -0.5, "stage1": 2, "stage2": 3, "head": 0})(plans)
        disturbed = [replace(each, latency_ms=2 * each.latency_ms, high_ms=3 * each.latency_ms) for each in exact[1:2]]
        return [
            replace(each, p5_ms=own.latency_ms)
            for each, own in zip([exact[0], *disturbed, *exact[2:]], exact, strict=True)
        ]

    choice = choose_precision(UNITS, narrow=8, wide=32, time_plans=time_plans)
    assert choice.plan.units["stem"] == 32


def test_where_nothing_pays_everything_stays_wide() -> None:
    choice = choose_precision(UNITS, narrow=8, wide=32, time_plans=Machine(dict.fromkeys(UNITS, -0.3)))
    assert set(choice.plan.units.values()) == {32}
    assert choice.whole is not None
    assert not choice.whole.is_faster


def test_pins_are_kept_and_nothing_is_timed_where_all_is_pinned() -> None:
    machine = Machine({"stem": -0.5, "stage1": 2, "stage2": 3, "head": 0})
    choice = choose_precision(
        UNITS, narrow=8, wide=32, time_plans=machine, pinned_units={"stem": 8, "stage1": 32}, pinned_layers={"a": 16}
    )
    assert choice.plan == BitsPlan(units={"stem": 8, "stage1": 32, "stage2": 8, "head": 32}, layers={"a": 16})
    assert all(plan.units["stem"] == 8 for plan in machine.timed)
    pinned = dict.fromkeys(UNITS, 16)
    assert choose_precision(UNITS, narrow=8, wide=32, time_plans=pytest.fail, pinned_units=pinned).plan.units == pinned


def test_a_target_of_one_precision_times_nothing() -> None:
    choice = choose_precision(UNITS, narrow=32, wide=32, time_plans=pytest.fail)
    assert set(choice.plan.units.values()) == {32}
