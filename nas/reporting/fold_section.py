"""Report section on the folds of a protocol: mean, interval and each fold of the verified members."""

from markupsafe import Markup

from nas.reporting.rendering import render
from nas.reporting.run_view import RunView
from nas.results.fold_statistics import fold_statistics, format_folds


def fold_section(view: RunView, *, show_run_name: bool) -> Markup:
    """The accuracy of each verified member across the folds; empty without folds or without verified members."""
    n_folds = int(view.data.get("n_folds", 1))
    members = fold_statistics(view.records, n_folds) if n_folds > 1 else []
    if not members:
        return Markup()
    return render(
        "folds.html",
        title=f"Accuracy across folds, {view.config.search.protocol}{f', {view.name}' if show_run_name else ''}",
        rows=[
            {
                "trial": m.record.trial,
                "mean": f"{m.mean:.1%}",
                "interval": "" if m.low is None or m.high is None else f"{m.low:.1%} to {m.high:.1%}",
                "pooled": f"{m.pooled:.1%}",
                "count": f"{len(m.accuracies)} of {n_folds}",
                "each": format_folds(m),
            }
            for m in members
        ],
    )
