"""The report's part on a compression: which classes paid for it, against the uncompressed net."""

from nas.reporting import page as paper
from nas.reporting.page import escape_html
from nas.reporting.run_view import RunView
from nas.results.compression_effect import MAX_RECALL_LOSS, large_recall_losses, recall_changes

FULL_SHADE_RECALL_LOSS = 4 * MAX_RECALL_LOSS
"""Recall lost, 0..1, from which a cell is shaded in full."""


def recall_section(view: RunView, *, show_run_name: bool) -> str:
    """Recall by class of the uncompressed net, and what each member of the front gained or lost; nothing without one.

    `show_run_name` says whether the title names the run.
    """
    base, members = view.baseline, [r for r in view.front if r.score]
    if base is None or base.score is None or not members:
        return ""
    classes = [change.name for change in recall_changes(base, members[0])]
    before = [(f"{base.score.recall[name]:.0%}", float("nan")) for name in classes]
    rows = [
        [
            (
                f"{c.percentage_points:+.1f}",
                min(1.0, -c.percentage_points / 100 / FULL_SHADE_RECALL_LOSS)
                if c.percentage_points < 0
                else float("nan"),
            )
            for c in found
        ]
        for found in (recall_changes(base, r) for r in members)
    ]
    table = paper.heatmap_table("trial", classes, ["uncompressed", *(str(r.trial) for r in members)], [before, *rows])
    warned = [
        f"<b>Trial {r.trial}</b>: {escape_html('; '.join(map(str, lost)))}"
        for r in members
        if (lost := large_recall_losses(base, r))
    ]
    found = (
        f'<div class="warn"><b>Classes that lose more than {100 * MAX_RECALL_LOSS:.0f} points.</b> Look at the faces behind these '
        f"figures before such a net is used: few faces make large steps.{paper.bullet_list(warned)}</div>"
        if warned
        else f"<p>No class loses more than {100 * MAX_RECALL_LOSS:.0f} points.</p>"
    )
    return paper.section(
        f"What each class lost{f' in {view.name}' if show_run_name else ''}",
        f"Recall of the uncompressed net, and below it the points that compression gained or lost, on "
        f"{escape_html(base.accuracy_split)}. Rare classes suffer first, which accuracy over all faces hides.",
        table,
        found,
    )
