"""Width schedule: monotone, on the grid, in equal ratios, and ending at the pruned widths."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nas.candidate import SPARSITIES, Candidate, pruned_width
from nas.compression.pruning.schedule import width_schedule

GRIDS = st.sampled_from((1, 8, 16))
STAGES = ("stage1", "stage2", "stage3")


@st.composite
def candidates(draw: st.DrawFn) -> tuple[Candidate, int]:
    """A candidate and the grid of its channels; most widths are on the grid, as spaces build them, some are not."""
    multiple = draw(GRIDS)
    stages = STAGES[: draw(st.integers(1, 3))]
    width = st.one_of(st.integers(1, 24).map(lambda steps: steps * multiple), st.integers(1, 200))
    widths = {stage: draw(width) for stage in stages}
    pruned = {stage: pruned_width(w, draw(st.sampled_from(SPARSITIES)), multiple) for stage, w in widths.items()}
    return Candidate(space="plain", architecture={}, widths=widths, pruned=pruned, bits={}), multiple


@given(candidates(), st.integers(1, 6))
@settings(deadline=None)
def test_widths_decrease_step_by_step_to_the_pruned_widths(drawn: tuple[Candidate, int], steps: int) -> None:
    candidate, multiple = drawn
    schedule = width_schedule(candidate, n_steps=steps, channel_multiple=multiple)
    assert 1 <= len(schedule) <= steps
    assert schedule[-1] == candidate.pruned
    for before, after in zip([candidate.widths, *schedule], schedule, strict=False):
        for stage, width in after.items():
            assert candidate.pruned[stage] <= width <= before[stage]
            assert width % multiple == 0 or width in (candidate.widths[stage], candidate.pruned[stage])
    if candidate.is_pruned:
        assert all(a != b for a, b in zip([candidate.widths, *schedule], schedule, strict=False)), (
            "every step must remove channels"
        )


@given(st.integers(1, 40), st.integers(0, 3), st.integers(1, 6))
@settings(deadline=None)
def test_each_step_keeps_the_same_share_up_to_the_grid(steps_wide: int, sparsity: int, steps: int) -> None:
    """Closed form: after step i of n, width is within half a step of the grid of wide * (slim / wide) ** (i / n)."""
    multiple = 8
    wide = steps_wide * multiple
    slim = pruned_width(wide, SPARSITIES[sparsity], multiple)
    candidate = Candidate(space="plain", architecture={}, widths={"a": wide}, pruned={"a": slim}, bits={})
    steps_a = [widths["a"] for widths in width_schedule(candidate, n_steps=steps, channel_multiple=multiple)]
    curve = [wide * (slim / wide) ** (i / steps) for i in range(1, steps + 1)]
    for width in steps_a:
        assert min(abs(width - point) for point in curve) <= multiple / 2 + 1e-9


def test_half_in_two_steps() -> None:
    """By hand: 64 * sqrt(1/2) = 45.3, on the grid of 8: 48; the stage that keeps all its channels is unchanged."""
    candidate = Candidate(
        space="plain", architecture={}, widths={"a": 64, "b": 24}, pruned={"a": 32, "b": 24}, bits={}
    )  # fmt: skip
    assert width_schedule(candidate, n_steps=2, channel_multiple=8) == [{"a": 48, "b": 24}, {"a": 32, "b": 24}]
