"""The report's parts on what the front does not show: how much of it is luck, and what more time would bring."""

from nas.reporting import page as paper
from nas.reporting.page import escape_html
from nas.reporting.run_view import RunView, format_accuracy
from nas.results.seed_variance import RankChange, indistinguishable, rank_changes
from nas.results.stopping import describe_search_end

EMPTY_CELL = "&mdash;"


def forecast_section(view: RunView, *, show_run_name: bool) -> str:
    """Why the search ended, what the next hour would bring, and what was forecast; nothing where nothing is known."""
    lines = describe_search_end(view.folder, view.records)
    note = (
        "Computed from this run's own curve of hypervolume: improvements are taken to become rarer and smaller as they "
        "did so far. A new region of the space that nobody has seen yet is not in these figures."
    )
    title = f"Why it ended, and what more would bring{f', {view.name}' if show_run_name else ''}"
    return paper.section(title, note, paper.bullet_list([escape_html(line) for line in lines])) if lines else ""


def seed_variance_section(view: RunView, *, show_run_name: bool) -> str:
    """Each verified member's place in the search and after full training, and its accuracy across seeds."""
    ranked = rank_changes(view.records)
    if len(ranked) < 2:
        return ""
    head = ["trial", "rank in the search", "rank verified", "file that ships", "mean across seeds", "each seed"]
    warned = [
        f"<b>Trials {a.record.trial} and {b.record.trial}</b> differ by {100 * (a.mean - b.mean):.1f} points, and "
        f"chance alone by up to {100 * half:.1f}"
        for a, b, half in indistinguishable(view.records)
    ]
    found = (
        f'<div class="warn"><b>Order within seed noise.</b> Another seed may turn these around.{paper.bullet_list(warned)}'
        "</div>"
        if warned
        else ""
    )
    return paper.section(
        f"Ranks by accuracy, and how much of them is luck{f', {view.name}' if show_run_name else ''}",
        _note(ranked),
        paper.table(head, [_row(p) for p in ranked]),
        found,
    )


def _note(ranked: list[RankChange]) -> str:
    if all(p.statistics.low is None for p in ranked):
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


def _row(change: RankChange) -> list[str]:
    s, score = change.statistics, change.statistics.record.score
    interval = f"<small>{score.low:.1%} to {score.high:.1%}</small>" if score else ""
    across = EMPTY_CELL
    if s.low is not None and s.high is not None:
        across = f"<b>{s.mean:.1%}</b><small>{s.low:.1%} to {s.high:.1%}</small>"
    each = ", ".join(f"{a:.1%}" for a in s.accuracies) + (f"; {s.n_failed} failed" if s.n_failed else "")
    return [
        f"<b>{s.record.trial}</b>", str(change.search_rank), f"<b>{change.verified_rank}</b>",
        f"{format_accuracy(s.record)}{interval}", across, each,
    ]  # fmt: skip
