"""Schedule of the widths through which a net is pruned in steps."""

from nas.candidate import Candidate


def width_schedule(candidate: Candidate, *, n_steps: int, channel_multiple: int) -> list[dict[str, int]]:
    """The widths after each pruning step; the last ones are `candidate.pruned`.

    Each step keeps about the same share of channels, rounded to the grid. Steps that would remove nothing are left out,
    except the last.

    Args:
        candidate: with full and pruned widths.
        n_steps: number of pruning steps, at least 1.
        channel_multiple: grid of the widths.

    Returns:
        Stage to width, for each step.
    """
    schedule: list[dict[str, int]] = []
    before = candidate.widths
    for step in range(1, n_steps):
        widths = {
            stage: _interpolated_width(wide, candidate.pruned[stage], step / n_steps, channel_multiple)
            for stage, wide in candidate.widths.items()
        }
        if widths not in (before, candidate.pruned):
            schedule.append(widths)
            before = widths
    return [*schedule, candidate.pruned]


def _interpolated_width(wide: int, slim: int, fraction: float, channel_multiple: int) -> int:
    """A width on the grid at `fraction` of the way from `wide` to `slim`, geometrically."""
    return int(min(wide, max(slim, round(wide * (slim / wide) ** fraction / channel_multiple) * channel_multiple)))
