"""The report's parts on what the front does not show: how much of it is luck, and what more time would bring."""

from nas.reporting import page as paper
from nas.reporting.page import text
from nas.reporting.run_view import View, percent
from nas.results.seed_variance import Place, places, undecided
from nas.results.stopping import ending_lines

NOTHING = "&mdash;"


def outlook_section(view: View, *, named: bool) -> str:
    """Why the search ended, what the next hour would bring, and what was forecast; nothing where nothing is known."""
    lines = ending_lines(view.folder, view.records)
    note = (
        "Computed from this run's own curve of hypervolume: improvements are taken to become rarer and smaller as they "
        "did so far. A new region of the space that nobody has seen yet is not in these figures."
    )
    title = f"Why it ended, and what more would bring{f', {view.name}' if named else ''}"
    return paper.section(title, note, paper.listing([text(line) for line in lines])) if lines else ""


def seeds_section(view: View, *, named: bool) -> str:
    """Each verified member's place in the search and after full training, and its accuracy across seeds."""
    ranked = places(view.records)
    if len(ranked) < 2:
        return ""
    head = ["trial", "rank in the search", "rank verified", "file that ships", "mean across seeds", "each seed"]
    warned = [
        f"<b>Trials {a.record.trial} and {b.record.trial}</b> differ by {100 * (a.mean - b.mean):.1f} points, and "
        f"chance alone by up to {100 * half:.1f}"
        for a, b, half in undecided(view.records)
    ]
    found = (
        f'<div class="warn"><b>Order within seed noise.</b> Another seed may turn these around.{paper.listing(warned)}'
        "</div>"
        if warned
        else ""
    )
    return paper.section(
        f"Ranks by accuracy, and how much of them is luck{f', {view.name}' if named else ''}",
        _note(ranked),
        paper.table(head, [_row(p) for p in ranked]),
        found,
    )


def _note(ranked: list[Place]) -> str:
    if all(p.seeds.low is None for p in ranked):
        return (
            "Each member was trained once, so how far its accuracy moves from seed to seed is not known; "
            "<code>--verify-seeds 3</code> trains each three times."
        )
    return (
        "The file that ships is that of the first seed, which went on from the search's weights; to ship the best of "
        "several by this accuracy would choose by the figure shown. The others began anew, for as many epochs. The "
        "interval of the mean (95 %) is that of training, its deviation pooled over all members; the interval of the "
        "file is that of the faces it was scored on."
    )


def _row(place: Place) -> list[str]:
    s, score = place.seeds, place.seeds.record.score
    interval = f"<small>{score.low:.1%} to {score.high:.1%}</small>" if score else ""
    across = NOTHING
    if s.low is not None and s.high is not None:
        across = f"<b>{s.mean:.1%}</b><small>{s.low:.1%} to {s.high:.1%}</small>"
    each = ", ".join(f"{a:.1%}" for a in s.accuracies) + (f"; {s.failed} failed" if s.failed else "")
    return [
        f"<b>{s.record.trial}</b>", str(place.searched), f"<b>{place.verified}</b>",
        f"{percent(s.record)}{interval}", across, each,
    ]  # fmt: skip
