"""Initial picks: known networks, and larger forms of them that cover the range up to a latency limit."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from nas import registry
from nas.compression.gene_provider import GeneProvider
from nas.config import make_config
from nas.searcher.assembly import assemble
from nas.searcher.initial_picks import (
    MIN_STEP,
    affordable,
    covering_picks,
    grow,
    known_picks,
    max_initial_macs,
)
from nas.targets.catalog import load_target
from search_spaces._base import Choice, SearchSpace, Value
from tests.journal import trials_of
from tests.tiny_search import ASSEMBLY, FACES, TINY

GENES = (
    Choice(name="width", options=tuple(range(1, 21))),
    Choice(name="depth", options=(1, 2, 3, 4)),
    Choice(name="op", options=("a", "b")),
    Choice(name="input_size", options=(40, 48, 64)),
)
SMALL = {"width": 1, "depth": 1, "op": "b", "input_size": 48, "bits": 8}
NEUTRAL = {"bits": 32}


def latency_ms(picks: Sequence[Mapping[str, Value]]) -> list[float]:
    """0.1 ms to 8 ms."""
    return [0.1 * float(pick["width"]) * float(pick["depth"]) for pick in picks]


def cover(known: Sequence[dict[str, Value]] = (SMALL,), **fields: Any) -> list[dict[str, Value]]:
    defaults: dict[str, Any] = {
        "neutral": NEUTRAL, "limit_ms": 5.0, "latency_ms": latency_ms, "is_affordable": lambda _: True, "seed": 0,
    }  # fmt: skip
    return covering_picks(known, GENES, **(defaults | fields))


def test_the_range_up_to_the_limit_is_covered_without_large_gaps() -> None:
    picks = cover()
    taken = latency_ms(picks)
    assert taken == sorted(taken)
    assert 0.8 * 5 < taken[-1] <= 5
    gaps = np.diff(np.log([0.1, *taken]))
    assert gaps.min() > 0
    assert gaps.max() < 2 * math.log(50) / 8  # 8 rungs between 0.1 and 5 ms
    assert all((pick["op"], pick["input_size"], pick["bits"]) == ("b", 48, 32) for pick in picks)


def test_what_known_networks_cover_is_left_to_them() -> None:
    medium = {**SMALL, "width": 10}  # 1 ms
    picks = cover([SMALL, medium])
    assert len(picks) < len(cover())
    step = math.log(0.9 * 5 / 0.1) / 8
    assert all(abs(math.log(ms / 1.0)) > 0.4 * step for ms in latency_ms(picks))
    assert cover([{**SMALL, "width": 20, "depth": 2}], limit_ms=4.1) == []  # 4 of 4.1 ms, less than a step away
    assert MIN_STEP > 1


def test_the_slowest_is_kept_where_few_may_be_evaluated() -> None:
    slowest = cover()[-1]
    assert cover(max_picks=1) == [slowest]
    assert cover(max_picks=2)[-1] == slowest
    assert cover(max_picks=0) == []


def test_networks_that_take_too_long_to_train_or_have_no_latency_are_left_out() -> None:
    assert max(float(pick["width"]) for pick in cover(is_affordable=lambda pick: pick["width"] < 8)) < 8
    assert cover(is_affordable=lambda _: False) == []
    picks = cover(latency_ms=lambda all_: [math.nan if p["depth"] == 2 else latency_ms([p])[0] for p in all_])
    assert picks
    assert all(pick["depth"] != 2 for pick in picks)


def test_without_numbers_to_grow_or_known_networks_there_is_nothing() -> None:
    words = [gene for gene in GENES if gene.name in ("op", "input_size")]
    defaults: dict[str, Any] = {"neutral": NEUTRAL, "limit_ms": 5.0, "is_affordable": lambda _: True, "seed": 0}
    assert covering_picks([SMALL], words, latency_ms=latency_ms, **defaults) == []
    assert covering_picks([], GENES, latency_ms=latency_ms, **defaults) == []
    assert cover([{"op": "a"}]) == []  # genes that are left out are sampled, and have no latency yet


def test_where_growing_does_not_reach_uniform_draws_do() -> None:
    def slow_a(picks: Sequence[Mapping[str, Value]]) -> list[float]:  # 80 ms with the other op, 8 ms without
        return [ms * (10 if pick["op"] == "a" else 1) for ms, pick in zip(latency_ms(picks), picks, strict=True)]

    picks = cover(latency_ms=slow_a, limit_ms=50.0)
    taken = slow_a(picks)
    assert 0.7 * 50 < taken[-1] <= 50
    assert np.diff(np.log([0.1, *taken])).max() < 2 * math.log(500) / 8
    assert {pick["op"] for pick in picks if slow_a([pick])[0] > 10} == {"a"}
    assert {pick["op"] for pick in picks if slow_a([pick])[0] < 6} == {"b"}
    assert all(pick["bits"] == 32 for pick in picks)


def test_growing_never_shrinks_and_repeats() -> None:
    medium = {**SMALL, "width": 10, "depth": 2}
    one, two = (grow([medium], GENES, n=50, rng=np.random.default_rng(3)) for _ in range(2))
    assert one == two
    assert all(pick["width"] >= 10 and pick["depth"] >= 2 for pick in one)
    assert len({tuple(pick.values()) for pick in one}) == len(one) > 10


def test_affordable_counts_multiply_accumulates() -> None:
    space: SearchSpace = registry.load("space", "plain")
    pick = space.initial_configurations(channel_multiple=8)[1]
    net = space.build(space.decode(pick), input_shape=(1, 48, 48), classes=7).eval()
    counted: list[int] = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weights: torch.Tensor = module.weight  # type: ignore[assignment]
        counted.append(weights[0].numel() * output[0].numel())

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    net(torch.rand(1, 1, 48, 48))
    for share, expected in ((1.0, True), (0.999, False)):
        is_affordable = affordable(space, input_shape=(1, 48, 48), classes=7, max_macs=share * sum(counted))
        assert is_affordable(pick) is expected


def test_the_time_of_a_first_rung() -> None:
    # A twentieth of an hour on two cores, 20 billion each a second, for 10,000 images.
    assert max_initial_macs(search_s=3600, n_images=10_000, threads=2) == pytest.approx(180 * 2 * 2e10 / 1e4)


class TwoSettings(GeneProvider):
    """One gene that a search tries first with two values."""

    name = "two"

    def choices(self, stages: tuple[str, ...], profile: object) -> tuple[Choice, ...]:
        return (Choice(name="x", options=(1, 2)),)

    def initial_settings(self, stages: tuple[str, ...], profile: object) -> tuple[dict[str, Value], ...]:
        return {"x": 1}, {"x": 2}


def test_known_networks_come_with_each_setting_and_large_ones_last() -> None:
    space, profile = registry.load("space", "plain"), load_target("jetson")
    small, large = (
        space.initial_configurations(channel_multiple=profile.channel_multiple),
        space.large_configurations(channel_multiple=profile.channel_multiple),
    )
    picks = known_picks(space, [TwoSettings()], profile, is_affordable=lambda _: True)
    assert picks == [{**each, "x": x} for group in (small, large) for x in (1, 2) for each in group]
    assert known_picks(space, [TwoSettings()], profile) == picks[: 2 * len(small)]
    first = known_picks(space, [TwoSettings()], profile, is_affordable=lambda pick: pick == large[0])
    assert first == [*picks[: 2 * len(small)], {**large[0], "x": 1}, {**large[0], "x": 2}]


@pytest.mark.parametrize(("fields", "has_more"), [({"max_latency": "5ms"}, True), ({}, False)])
def test_a_search_with_a_limit_begins_with_larger_networks_than_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], has_more: bool
) -> None:
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: FACES)
    parts = assemble(make_config(**({"runs": tmp_path} | TINY | {"trials": 40, "space": "darts"} | fields)))
    waiting = [t for t in trials_of(parts.folder) if t.state == TrialState.WAITING]
    known = [c["width"] for c in parts.space.initial_configurations(channel_multiple=8)]
    picks = [t.system_attrs["fixed_params"] for t in waiting]
    assert [pick["width"] for pick in picks[: len(known)]] == known
    assert (max(pick["width"] for pick in picks) > max(known)) is has_more
