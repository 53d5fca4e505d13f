"""The widths through which a net is pruned in steps."""

from nas.candidate import Candidate


def width_schedule(candidate: Candidate, *, n_steps: int, channel_multiple: int) -> list[dict[str, int]]:
    """The widths after each pruning step: each keeps the same share of channels, on the grid; the last are `pruned`.

    Steps in which nothing would leave are left out, but for the last.
    """
    found: list[dict[str, int]] = []
    before = candidate.widths
    for step in range(1, n_steps):
        widths = {
            stage: _interpolated_width(wide, candidate.pruned[stage], step / n_steps, channel_multiple)
            for stage, wide in candidate.widths.items()
        }
        if widths not in (before, candidate.pruned):
            found.append(widths)
            before = widths
    return [*found, candidate.pruned]


def _interpolated_width(wide: int, slim: int, fraction: float, channel_multiple: int) -> int:
    """A width on the grid at `fraction` of the way from `wide` to `slim`, in equal ratios."""
    return int(min(wide, max(slim, round(wide * (slim / wide) ** fraction / channel_multiple) * channel_multiple)))
