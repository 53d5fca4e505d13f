"""Report sections on what the front does not show: seed noise, stop reason and forecast."""

from typing import Any

from markupsafe import Markup

from nas.reporting.rendering import render
from nas.reporting.run_view import RunView, format_accuracy
from nas.results.search_end import describe_search_end
from nas.results.seed_variance import RankChange, indistinguishable, rank_changes


def forecast_section(view: RunView, *, show_run_name: bool) -> Markup:
    """Why the search ended, what more time would bring, and what was forecast; empty where nothing is known."""
    lines = describe_search_end(view.folder, view.records)
    if not lines:
        return Markup()
    return render(
        "bullets.html",
        title=f"Stop reason and forecast{f', {view.name}' if show_run_name else ''}",
        note="Computed from the hypervolume curve of this run: improvements are assumed to become rarer and smaller at "
        "the rate seen so far. A region of the space that the search has not reached yet is not in these figures. What "
        "a verified member would gain follows from its accuracies after the rungs, the search and the final training, "
        "with 95 % intervals.",
        lines=lines,
    )


def seed_variance_section(view: RunView, *, show_run_name: bool) -> Markup:
    """Each verified member's rank in the search and after full training, and its accuracy across seeds.

    Returns:
        The section; empty with fewer than two verified members, and where trainings are those of folds.
    """
    ranked = rank_changes(view.records) if int(view.data.get("n_folds", 1)) == 1 else []
    if len(ranked) < 2:
        return Markup()
    return render(
        "seed_variance.html",
        title=f"Ranks by accuracy, and seed noise{f', {view.name}' if show_run_name else ''}",
        is_repeated=any(change.statistics.low is not None for change in ranked),
        rows=[_row(change) for change in ranked],
        ties=[
            (
                f"Trials {better.record.trial} and {worse.record.trial}",
                f" differ by {100 * (better.mean - worse.mean):.1f} points, and chance alone by up to {100 * half:.1f}",
            )
            for better, worse, half in indistinguishable(view.records)
        ],
    )


def _row(change: RankChange) -> dict[str, Any]:
    """The cells of one member, as text."""
    s, score = change.statistics, change.statistics.record.score
    has_interval = s.low is not None and s.high is not None
    return {
        "trial": s.record.trial,
        "search_rank": change.search_rank,
        "verified_rank": change.verified_rank,
        "accuracy": format_accuracy(s.record),
        "interval": f"{score.low:.1%} to {score.high:.1%}" if score else "",
        "mean": f"{s.mean:.1%}" if has_interval else "",
        "mean_interval": f"{s.low:.1%} to {s.high:.1%}" if has_interval else "",
        "each": ", ".join(f"{a:.1%}" for a in s.accuracies) + (f"; {s.n_failed} failed" if s.n_failed else ""),
    }
