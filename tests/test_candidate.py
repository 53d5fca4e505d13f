"""Candidates: keys are equal for equal networks only, and pruned widths lie on the grid."""

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nas import registry
from nas.candidate import SPARSITIES, Candidate, decode, pruned_width
from search_spaces._base import HEAD, STEM, Choice, DisconnectedError, SearchSpace, Value

SPACES = [registry.load("space", name) for name in registry.names("space")]
spaces = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)


def candidate(**changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "space": "plain",
        "architecture": {"depth": 2, "ops": ["a", "b"], "note": None},
        "widths": {"stage1": 16, "stage2": 32},
        "pruned": {"stage1": 16, "stage2": 16},
        "bits": {"stem": 32, "stage1": 8, "stage2": 16, "head": 32},
    }
    return Candidate(**(fields | changes))


def genes(space: SearchSpace, precisions: tuple[int, ...]) -> list[Choice]:
    sparsity = [Choice(name=f"sparsity.{stage}", options=SPARSITIES) for stage in space.stages]
    bits = [Choice(name=f"bits.{unit}", options=precisions) for unit in (STEM, *space.stages, HEAD)]
    return [*space.choices(channel_multiple=8), *sparsity, *bits]


def drawn(space: SearchSpace, data: st.DataObject, *, precisions: tuple[int, ...] = (8, 16, 32)) -> dict[str, Value]:
    picked = {choice.name: data.draw(st.sampled_from(choice.options)) for choice in genes(space, precisions)}
    try:
        space.decode(picked)
    except DisconnectedError:
        assume(False)
    return picked


def decoded(space: SearchSpace, picked: dict[str, Value]) -> Candidate:
    return decode(space, picked, channel_multiple=8, precisions=(8, 16, 32))


some = settings(max_examples=40, deadline=None, derandomize=True)


@spaces
@given(data=st.data())
@some
def test_json_round_trip_keeps_the_candidate_and_its_key(space: SearchSpace, data: st.DataObject) -> None:
    found = decoded(space, drawn(space, data))
    again = Candidate.from_json(json.dumps(json.loads(found.to_json())))
    assert again == found
    assert again.key == found.key
    assert len(found.key) == 16
    assert int(found.key, 16) >= 0


@spaces
@given(data=st.data())
@some
def test_genes_of_unused_stages_have_no_effect(space: SearchSpace, data: st.DataObject) -> None:
    picked = drawn(space, data)
    found = decoded(space, picked)
    unused = [stage for stage in space.stages if stage not in found.widths]
    assume(unused)
    for stage in unused:
        changed = picked | {f"sparsity.{stage}": data.draw(st.sampled_from(SPARSITIES)), f"bits.{stage}": 8}
        assert decoded(space, changed).key == found.key


@spaces
@given(data=st.data())
@some
def test_sparsities_with_the_same_channels_are_one_candidate(space: SearchSpace, data: st.DataObject) -> None:
    picked = drawn(space, data)
    a = decoded(space, picked)
    stage = data.draw(st.sampled_from(list(a.widths)))
    b = decoded(space, picked | {f"sparsity.{stage}": data.draw(st.sampled_from(SPARSITIES))})
    assert (a.key == b.key) == (a.pruned == b.pruned)
    assert all(width % 8 == 0 for width in b.pruned.values())


@spaces
def test_missing_genes_prune_nothing_and_take_the_widest_bits(space: SearchSpace) -> None:
    picked = {choice.name: choice.options[-1] for choice in space.choices(channel_multiple=8)}
    found = decode(space, picked, channel_multiple=8, precisions=(16, 32))
    assert found.pruned == found.widths
    assert not found.is_pruned
    assert set(found.bits.values()) == {32}
    assert list(found.bits) == [STEM, *found.widths, HEAD]


@spaces
def test_disconnected_architecture_is_refused(space: SearchSpace) -> None:
    picked = {choice.name: choice.options[-1] for choice in genes(space, (32,))}
    nothing = {choice.name: "none" for choice in space.choices(channel_multiple=8) if "none" in choice.options}
    try:
        space.decode(picked | nothing)
    except DisconnectedError:
        with pytest.raises(DisconnectedError, match=r"path|connected|reach"):
            decoded(space, picked | nothing)
    else:
        assert decoded(space, picked | nothing).widths, "a space that is never disconnected decodes all gene values"


@pytest.mark.parametrize(
    "change",
    [
        {"space": "darts"},
        {"architecture": {"depth": 3, "ops": ["a", "b"], "note": None}},
        {"architecture": {"depth": 2, "ops": ["b", "a"], "note": None}},
        {"widths": {"stage1": 16, "stage2": 24}},
        {"pruned": {"stage1": 8, "stage2": 16}},
        {"bits": {"stem": 32, "stage1": 8, "stage2": 8, "head": 32}},
    ],
    ids=lambda change: str(change),
)
def test_key_depends_on_every_field(change: dict[str, Any]) -> None:
    assert candidate(**change).key != candidate().key


def test_key_does_not_depend_on_the_order_of_entries() -> None:
    turned = candidate(widths={"stage2": 32, "stage1": 16}, architecture={"note": None, "ops": ["a", "b"], "depth": 2})
    assert turned.key == candidate().key


def test_sparsity_is_the_mean_share_of_removed_channels() -> None:
    assert candidate().sparsity == pytest.approx((0 + 0.5) / 2)
    assert candidate(pruned={"stage1": 4, "stage2": 8}).sparsity == pytest.approx(0.75)
    assert candidate().is_pruned


def test_a_candidate_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError, match="cannot assign"):
        candidate().space = "darts"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("width", "sparsity", "multiple", "kept"),
    [
        (64, 0.0, 8, 64), (64, 0.25, 8, 48), (64, 0.5, 8, 32), (64, 0.75, 8, 16),
        (16, 0.75, 8, 8), (8, 0.75, 8, 8), (24, 0.25, 8, 16), (24, 0.75, 8, 8),
        (48, 0.25, 16, 32), (32, 0.75, 32, 32), (7, 0.5, 1, 4), (12, 0.0, 8, 12), (20, 0.0, 8, 20),
    ],
)  # fmt: skip
def test_pruned_width_of_hand_computed_cases(width: int, sparsity: float, multiple: int, kept: int) -> None:
    assert pruned_width(width, sparsity, multiple) == kept


@given(st.integers(1, 64), st.sampled_from([1, 4, 8, 16, 32]), st.floats(0, 0.99), st.floats(0, 0.99))
@settings(derandomize=True)
def test_pruned_width_is_on_the_grid_near_the_share_and_never_larger(
    steps: int, multiple: int, a: float, b: float
) -> None:
    width = steps * multiple
    kept = pruned_width(width, a, multiple)
    assert kept % multiple == 0
    assert multiple <= kept <= width
    assert abs(kept - width * (1 - a)) <= (multiple / 2 + 1e-6 if width * (1 - a) > multiple else multiple)
    assert (kept <= pruned_width(width, b, multiple)) or a < b


@given(st.integers(1, 2000), st.sampled_from([1, 4, 8, 16, 32]))
@settings(derandomize=True)
def test_sparsity_zero_keeps_every_channel(width: int, multiple: int) -> None:
    assert pruned_width(width, 0.0, multiple) == width


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 1.2])
def test_sparsity_outside_its_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\), but got"):
        pruned_width(16, sparsity, 8)


@pytest.mark.parametrize("change", [{"architecture": {"input": float("nan")}}, {"settings": {"x": [float("inf")]}}])
def test_numbers_must_be_finite(change: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"space": "plain", "architecture": {}, "widths": {"a": 8}, "pruned": {"a": 8}, "bits": {}}
    with pytest.raises(ValueError, match=r"(architecture|settings) must hold finite numbers only, but is .*(nan|inf)"):
        Candidate(**(plain | change))
