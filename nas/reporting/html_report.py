"""Report of one run, or of several on the same data side by side: one HTML file that needs no network.

Every figure states its origin: latencies are marked measured or predicted, accuracies name their split and interval,
synthetic faces are announced in the header, and the verified front stands beside the search front.
"""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from nas.config import SearchConfig
from nas.errors import ConfigError
from nas.files import write_atomic
from nas.metrics import Score
from nas.pareto import knee
from nas.reporting import plots
from nas.reporting.class_recall_section import recall_section
from nas.reporting.fold_section import fold_section
from nas.reporting.forecast_section import forecast_section, seed_variance_section
from nas.reporting.front_section import front_section, table_section
from nas.reporting.model_card import ETHICS, describe_latency
from nas.reporting.rendering import render
from nas.reporting.run_view import RunView, format_accuracy, format_latency
from nas.results.formatting import record_label
from nas.results.front import is_feasible, objective_values
from nas.results.hypervolume_curve import hypervolume_curve, reference_point
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.warm_start_log import warm_start_lines

Cells = list[tuple[str, float | None]]
"""One row of a heat map: text and depth of the shade, 0..1, of each cell; None leaves a cell without shade."""


def write_report(folders: Sequence[RunFolder], path: Path) -> Path:
    """Write the report of one or several runs.

    Args:
        folders: the runs, all on the same data.
        path: the HTML file; it appears whole or not at all.

    Returns:
        `path`.

    Raises:
        ConfigError: no run is given, or the runs are on different data, so that their accuracies do not compare.
    """
    views = [RunView(folder) for folder in folders]
    _check_comparable(views)
    first, many = views[0], len(views) > 1
    kinds = {r.latency.kind for v in views for r in v.front if r.latency}
    page = render(
        "report.html",
        names=", ".join(v.name for v in views),
        title=f"{len(views)} runs side by side" if many else "Pareto front of facial-expression models",
        paths=", ".join(str(v.folder.path) for v in views),
        facts=_header_facts(views),
        is_synthetic=first.is_synthetic,
        is_predicted="predicted" in kinds,
        cards=_summary_cards(views),
        groups=_section_groups(views, show_run_name=many),
        plotly=Markup(plots.plotly_script()),  # noqa: S704  the library's own file
    )
    return write_atomic(path, page)


def _check_comparable(views: Sequence[RunView]) -> None:
    if not views:
        raise ConfigError("a report needs at least one run, but got none; name a run folder")
    data = {v.data.get("digest") or v.data["name"]: v for v in views}
    if len(data) > 1:
        names = "; ".join(f"{v.name} has {v.data['name']} ({str(key)[:12]})" for key, v in data.items())
        raise ConfigError(f"runs in one report must be on the same data, but {names}; make a report of each")


def _section_groups(views: Sequence[RunView], *, show_run_name: bool) -> list[list[Markup]]:
    """The sections from top to bottom; those of one group stand side by side."""
    ethics = render("bullets.html", title="Intended use and limits", note="", lines=ETHICS)
    groups = [
        [front_section(views)],
        *([table_section(v, show_run_name=show_run_name)] for v in views),
        *([fold_section(v, show_run_name=show_run_name)] for v in views),
        *([seed_variance_section(v, show_run_name=show_run_name)] for v in views),
        *([recall_section(v, show_run_name=show_run_name)] for v in views),
        [_hypervolume_section(views), _importance_section(views)],
        *([forecast_section(v, show_run_name=show_run_name)] for v in views),
        *(_per_class_sections(v, show_run_name=show_run_name) for v in views),
        [_time_section(views), _provenance_section(views)],
        [ethics],
    ]
    return [group for group in groups if any(group)]


def _header_facts(views: Sequence[RunView]) -> list[tuple[str, str]]:
    config = views[0].config
    return [
        ("run", ", ".join(v.name for v in views)),
        ("target", ", ".join(dict.fromkeys(v.config.search.target for v in views))),
        ("model" if config.search.model else "space", ", ".join(dict.fromkeys(v.config.subject for v in views))),
        ("data", str(views[0].data["name"])),
        ("objectives", ", ".join(config.search.objectives)),
        ("sampler", ", ".join(dict.fromkeys(v.config.search.sampler for v in views))),
        *_format_limits(config),
    ]


def _format_limits(config: SearchConfig) -> list[tuple[str, str]]:
    limits = config.limits
    texts = (
        ("max latency", f"{limits.max_latency:g} ms" if limits.max_latency else ""),
        ("max size", f"{limits.max_size / 1e3:g} kB" if limits.max_size else ""),
        ("max memory", f"{limits.max_memory / 1e3:g} kB" if limits.max_memory else ""),
        ("max DLA fallback", f"{n} layers" if (n := limits.max_dla_fallback) is not None else ""),
        ("min accuracy", f"{limits.min_accuracy:.1%}" if limits.min_accuracy else ""),
    )
    return [(name, text) for name, text in texts if text]


def _summary_cards(views: Sequence[RunView]) -> list[tuple[str, str, str]]:
    """The main figures, each as label, value and the line below it."""
    searched = [r for v in views for r in v.search_records]
    members = [r for v in views for r in v.front if r.score and r.latency]
    n_feasible, n_failed = sum(map(is_feasible, searched)), sum(r.status == "failed" for r in searched)
    cards = [("candidates", str(len(searched)), f"{n_feasible} feasible, {n_failed} failed")]
    if not members:
        return cards
    best = max(members, key=lambda r: r.score.accuracy if r.score else 0.0)
    fastest = min(members, key=lambda r: r.latency.latency_ms if r.latency else 0.0)
    smallest = min(members, key=lambda r: r.size_bytes or 0)
    bend = members[knee(objective_values(members, ("accuracy", "latency")), [True, False])]
    size = f"{(smallest.size_bytes or 0) / 1e3:.3g} kB"
    return [
        *cards,
        ("most accurate", format_accuracy(best), f"{format_latency(best.latency)}, trial {best.trial}"),
        ("fastest", format_latency(fastest.latency), f"{format_accuracy(fastest)}, trial {fastest.trial}"),
        ("knee", format_accuracy(bend), f"{format_latency(bend.latency)}, trial {bend.trial}"),
        ("smallest file", size, f"{format_accuracy(smallest)}, trial {smallest.trial}"),
    ]


def _plot_section(title: str, note: str, plot: str = "") -> Markup:
    return render("plot.html", title=title, note=note, plot=Markup(plot))  # noqa: S704  made by plotly


def _hypervolume_section(views: Sequence[RunView]) -> Markup:
    objectives = views[0].config.search.objectives
    if not any(v.search_records for v in views):
        return _plot_section("Hypervolume", "Nothing was searched, so there is no hypervolume.")
    if len({v.config.search.objectives for v in views}) > 1:
        return _plot_section("Hypervolume", "The runs have different objectives, so their hypervolumes do not compare.")
    ref_point = reference_point([r for v in views for r in v.search_records], objectives)
    curves = {v.name: hypervolume_curve(v.records, objectives, ref_point=ref_point) for v in views}
    note = (
        "Hypervolume of the search front after each finished candidate, as a share of the box between accuracy 0 at "
        "the largest feasible cost and accuracy 1 at no cost. Where the curve is flat, more search no longer pays."
    )
    plot = plots.step_plot(curves, x="finished candidates", y="hypervolume, share", name="hypervolume")
    return _plot_section("Hypervolume", note, plot)


def _importance_section(views: Sequence[RunView]) -> Markup:
    importance = {
        f"{objective}, {v.name}" if len(views) > 1 else objective: values
        for v in views
        for objective, values in v.importance.items()
        if values
    }
    if not importance:
        return _plot_section("Gene importance", "Too few candidates to estimate the importance of the genes.")
    note = (
        "How much a gene separates the better candidates from the others, as a share of all genes (Optuna's PED-ANOVA)."
    )
    return _plot_section("Gene importance", note, plots.bar_plot(importance, x="importance", name="importance"))


def _per_class_sections(view: RunView, *, show_run_name: bool) -> list[Markup]:
    """Recall by class and confusion of the front's members and of published models; empty where none has a score."""
    members = [r for r in view.shown if r.score]
    scores = [(f"trial {record_label(r)}", r.score) for r in _with_baseline(view.baseline, members) if r.score]
    scores += [(f"published {baseline.name}", baseline.score) for baseline in view.published]
    if not scores:
        return []
    classes = list(view.data.get("classes") or scores[-1][1].recall)
    if unequal := [label for label, score in scores if len(score.confusion) != len(classes)]:
        raise ConfigError(
            f"{view.folder.path} must have a confusion matrix of its {len(classes)} classes in each record, but "
            f"{unequal[0]} has another; restore data.json and records.jsonl of this run"
        )
    suffix = f" of {view.name}" if show_run_name else ""
    split = members[0].accuracy_split if members else view.published[0].accuracy_split
    recall = render(
        "heatmap.html",
        title=f"Recall by class{suffix}",
        note=f"Share of the faces with each label that a model classifies correctly, on {split}.",
        titles=["trial", *classes, "balanced", "macro-F1"],
        rows=[(label.removeprefix("trial "), _recall_cells(score, classes)) for label, score in scores],
    )
    confusion = render(
        "confusion.html",
        title=f"Confusion{suffix}",
        note="Rows are the annotators' labels, columns the predictions; counts of faces, shaded by share of the row.",
        group=f"confusion-{view.name}",
        titles=["label", *classes],
        options=[(f"{label}, {score.accuracy:.1%}", _confusion_rows(score, classes)) for label, score in scores],
    )
    return [recall, confusion]


def _with_baseline(baseline: Record | None, members: Sequence[Record]) -> list[Record]:
    """The uncompressed model, if there is one, and the members; each once."""
    return [*([baseline] if baseline else []), *(r for r in members if r is not baseline)]


def _recall_cells(score: Score, classes: Sequence[str]) -> Cells:
    shares = [score.recall.get(name) for name in classes]
    cells: Cells = [("" if share is None else f"{share:.0%}", share) for share in shares]
    return [*cells, (f"{score.balanced_accuracy:.1%}", None), (f"{score.macro_f1:.3f}", None)]


def _confusion_rows(score: Score, classes: Sequence[str]) -> list[tuple[str, Cells]]:
    return [
        (name, [(str(count), count / max(1, sum(row))) for count in row])
        for name, row in zip(classes, score.confusion, strict=True)
    ]


def _time_section(views: Sequence[RunView]) -> Markup:
    minutes: dict[str, dict[str, float]] = {}
    for v in views:
        for phase in ("base", "search", "verified"):
            if total := _minutes_by_step([r for r in v.records if r.phase == phase]):
                minutes[f"{phase}, {v.name}" if len(views) > 1 else phase] = total
    if not minutes:
        return _plot_section("Time spent", "No times were recorded.")
    total_minutes = sum(sum(total.values()) for total in minutes.values())
    note = f"{total_minutes:.1f} minutes of work on candidates, by step; failed and infeasible ones are included."
    return _plot_section("Time spent", note, plots.bar_plot(minutes, x="minutes", name="time"))


def _minutes_by_step(records: Sequence[Record]) -> dict[str, float]:
    total: dict[str, float] = {}
    for r in records:
        for step, seconds in r.seconds.items():
            total[step] = total.get(step, 0.0) + seconds / 60
    return total


def _provenance_section(views: Sequence[RunView]) -> Markup:
    first = views[0]
    lines = [("Data:", f" {_describe_data(first)}"), *(("", note) for note in first.data.get("notes", ()))]
    lines += [("", line[0].upper() + line[1:]) for v in views for line in warm_start_lines(v.folder.path)]
    if first.front:
        lines += _example_provenance(first.front[len(first.front) // 2], views)
    lines.append(("Seed", f" {first.config.run.seed}; configuration in config.toml, all candidates in records.jsonl."))
    return render("provenance.html", lines=lines, environment=first.environment)


def _example_provenance(example: Record, views: Sequence[RunView]) -> list[tuple[str, str]]:
    """Origin of one record's latencies, and the largest parity difference of all fronts."""
    lines = [
        (f"{where} latency", f", for example trial {example.trial}: {describe_latency(latency.to_dict())}")
        for latency, where in ((example.latency, "Target"), (example.host, "Host"))
        if latency
    ]
    if {"max_difference", "agreement", "n"} <= example.parity.keys():
        worst = max(r.parity.get("max_difference", 0.0) for v in views for r in v.front)
        lines.append(
            ("Parity:", f" PyTorch and ONNX Runtime differed by at most {worst:.2g} in probability on every file.")
        )
    return lines


def _describe_data(view: RunView) -> str:
    data = view.data
    counts = ", ".join(f"{data[s]:,} {s}" for s in ("train", "val", "test") if isinstance(data.get(s), int))
    digest = f"; digest {str(data['digest'])[:16]}" if data.get("digest") else ""
    split = f"; candidates selected by {data['val_name']}" if data.get("val_name") else ""
    drawn = ", synthetic" if view.is_synthetic and data["name"] != "synthetic" else ""
    return f"{data['name']}{drawn} ({counts}){split}{digest}"
