"""The report's part on a compression: which classes paid for it, against the uncompressed net."""

from nas.reporting import page as paper
from nas.reporting.page import text
from nas.reporting.run_view import View
from nas.results.compression_effect import LOSS, changes, losses

DEEPEST = 4 * LOSS
"""Recall lost, 0..1, from which a cell is shaded in full."""


def recall_section(view: View, *, named: bool) -> str:
    """Recall by class of the uncompressed net, and what each member of the front gained or lost; nothing without one.

    `named` says whether the title names the run.
    """
    base, members = view.base, [r for r in view.front if r.score]
    if base is None or base.score is None or not members:
        return ""
    classes = [change.name for change in changes(base, members[0])]
    before = [(f"{base.score.recall[name]:.0%}", float("nan")) for name in classes]
    rows = [
        [(f"{c.points:+.1f}", min(1.0, -c.points / 100 / DEEPEST) if c.points < 0 else float("nan")) for c in found]
        for found in (changes(base, r) for r in members)
    ]
    table = paper.heat("trial", classes, ["uncompressed", *(str(r.trial) for r in members)], [before, *rows])
    warned = [
        f"<b>Trial {r.trial}</b>: {text('; '.join(map(str, lost)))}" for r in members if (lost := losses(base, r))
    ]
    found = (
        f'<div class="warn"><b>Classes that lose more than {100 * LOSS:.0f} points.</b> Look at the faces behind these '
        f"figures before such a net is used: few faces make large steps.{paper.listing(warned)}</div>"
        if warned
        else f"<p>No class loses more than {100 * LOSS:.0f} points.</p>"
    )
    return paper.section(
        f"What each class lost{f' in {view.name}' if named else ''}",
        f"Recall of the uncompressed net, and below it the points that compression gained or lost, on "
        f"{text(base.accuracy_split)}. Rare classes suffer first, which accuracy over all faces hides.",
        table,
        found,
    )
