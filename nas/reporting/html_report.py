"""The report of one run, or of several on the same data beside each other: one HTML file that needs no network.

A figure is never shown without where it comes from: latencies are marked measured or predicted, accuracies name their
split and interval, synthetic faces are said in the head, and the verified front stands beside the search front.
"""

from collections.abc import Sequence
from pathlib import Path

from nas.config import SearchConfig
from nas.errors import ConfigError
from nas.pareto import knee
from nas.reporting import page as paper
from nas.reporting import plots
from nas.reporting.forecast_section import forecast_section, seed_variance_section
from nas.reporting.front_section import front_section, table_section
from nas.reporting.model_card import ETHICS, describe_latency
from nas.reporting.page import escape_html
from nas.reporting.recall_section import recall_section
from nas.reporting.run_view import RunView, format_accuracy, format_latency, record_label
from nas.results.front import (
    hypervolume_curve,
    is_feasible,
    objective_values,
    reference_point,
)
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.warm_start_log import warm_start_lines


def write_report(folders: Sequence[RunFolder], path: Path) -> Path:
    """Write the report of one or several runs.

    Args:
        folders: the runs, all on the same data.
        path: of the HTML file; it appears whole or not at all.

    Returns:
        `path`.

    Raises:
        ConfigError: no run is given, or the runs are of different data, so that their accuracies do not compare.
    """
    views = [RunView(folder) for folder in folders]
    _check_comparable(views)
    title = f"Pareto front: {', '.join(v.name for v in views)}"
    body = "".join(
        [
            paper.cards(_summary_cards(views)),
            front_section(views),
            "".join(table_section(v, show_run_name=len(views) > 1) for v in views),
            "".join(seed_variance_section(v, show_run_name=len(views) > 1) for v in views),
            "".join(recall_section(v, show_run_name=len(views) > 1) for v in views),
            paper.side_by_side(_hypervolume_section(views), _importance_section(views)),
            "".join(forecast_section(v, show_run_name=len(views) > 1) for v in views),
            "".join(_per_class_section(v, show_run_name=len(views) > 1) for v in views),
            paper.side_by_side(_time_section(views), _provenance_section(views)),
            paper.section(
                "What this is, and what it is not", "", paper.bullet_list([escape_html(line) for line in ETHICS])
            ),
            "<footer>Made from records.jsonl. Every figure was read off the ONNX file it stands beside.</footer>",
        ]
    )
    html = paper.page(title=title, header=_header(views), body=body, scripts=plots.plotly_script())
    return RunFolder(path.parent).write(path.name, html)


def _check_comparable(views: Sequence[RunView]) -> None:
    if not views:
        raise ConfigError("a report needs at least one run, but got none")
    data = {v.data.get("digest") or v.data["name"]: v for v in views}
    if len(data) > 1:
        names = "; ".join(f"{v.name} has {v.data['name']} ({str(key)[:12]})" for key, v in data.items())
        raise ConfigError(f"runs in one report must be of the same data, but {names}; make a report of each")


def _header(views: Sequence[RunView]) -> str:
    first = views[0]
    c = first.config
    title = "Pareto front of facial-expression models" if len(views) == 1 else f"{len(views)} runs beside each other"
    facts = [
        ("run", ", ".join(v.name for v in views)),
        ("target", ", ".join(dict.fromkeys(v.config.search.target for v in views))),
        ("model" if c.search.model else "space", ", ".join(dict.fromkeys(v.config.subject for v in views))),
        ("data", f"{first.data['name']}"),
        ("objectives", ", ".join(c.search.objectives)),
        ("sampler", ", ".join(dict.fromkeys(v.config.search.sampler for v in views))),
        *[(name.replace("_", " "), str(value)) for name, value in _format_limits(c).items()],
    ]
    kinds = {r.latency.kind for v in views for r in v.front if r.latency}
    return (
        f"<h1>{title}</h1><p>{escape_html(', '.join(str(v.folder.path) for v in views))}</p>{paper.chips(facts)}"
        + (
            '<div class="warn"><b>Synthetic faces.</b> The faces of this run are drawn by code. Its accuracies compare '
            "nets with each other; they say nothing about real faces.</div>"
            if first.is_synthetic
            else ""
        )
        + (
            '<div class="warn"><b>Predicted latency.</b> No such device was at hand: target latencies are computed '
            "from its profile, not measured. What was measured on the machine of the search stands beside them.</div>"
            if "predicted" in kinds
            else ""
        )
    )


def _format_limits(config: SearchConfig) -> dict[str, str]:
    found = {
        "max_latency": f"{config.limits.max_latency:g} ms" if config.limits.max_latency else "",
        "max_size": f"{config.limits.max_size / 1e3:g} kB" if config.limits.max_size else "",
        "min_accuracy": f"{config.limits.min_accuracy:.1%}" if config.limits.min_accuracy else "",
    }
    return {name: value for name, value in found.items() if value}


def _summary_cards(views: Sequence[RunView]) -> list[tuple[str, str, str]]:
    """The cards: what was found, in five figures."""
    searched = [r for v in views for r in v.search_records]
    members = [r for v in views for r in v.front if r.score and r.latency]
    done, good = len(searched), sum(is_feasible(r) for r in searched)
    cards = [("candidates", str(done), f"{good} feasible, {sum(r.status == 'failed' for r in searched)} failed")]
    if members:
        best = max(members, key=lambda r: r.score.accuracy if r.score else 0.0)
        fast = min(members, key=lambda r: r.latency.latency_ms if r.latency else 0.0)
        small = min(members, key=lambda r: r.size_bytes or 0)
        bend = members[knee(objective_values(members, ("accuracy", "latency")), [True, False])]
        cards += [
            ("most accurate", format_accuracy(best), f"{format_latency(best.latency)}, trial {best.trial}"),
            ("fastest", format_latency(fast.latency), f"{format_accuracy(fast)}, trial {fast.trial}"),
            ("knee", f"{format_accuracy(bend)}", f"{format_latency(bend.latency)}, trial {bend.trial}"),
            (
                "smallest file",
                f"{(small.size_bytes or 0) / 1e3:.3g} kB",
                f"{format_accuracy(small)}, trial {small.trial}",
            ),
        ]
    return cards


def _hypervolume_section(views: Sequence[RunView]) -> str:
    objectives = views[0].config.search.objectives
    if len({v.config.search.objectives for v in views}) > 1:
        return paper.section("Hypervolume", "The runs have different objectives, so their hypervolumes do not compare.")
    corner = reference_point([r for v in views for r in v.search_records], objectives)
    curves = {v.name: hypervolume_curve(v.records, objectives, ref_point=corner) for v in views}
    note = (
        "Share of the box between no accuracy at the largest feasible cost and full accuracy at no cost that the "
        "search front covers, after each finished candidate. Where it is flat, further search has stopped to pay."
    )
    plot = plots.step_plot(curves, x="finished candidates", y="hypervolume, share", name="hypervolume")
    return paper.section("Hypervolume", note, plot)


def _importance_section(views: Sequence[RunView]) -> str:
    many = len(views) > 1
    found = {
        f"{objective}, {v.name}" if many else objective: values
        for v in views
        for objective, values in v.importance.items()
        if values
    }
    if not found:
        return paper.section("What mattered", "Too few candidates to tell which genes mattered.")
    note = "How much a gene sets the better candidates apart, as a share of all genes (Optuna's PED-ANOVA)."
    return paper.section("What mattered", note, plots.bar_plot(found, x="importance", name="importance"))


def _per_class_section(view: RunView, *, show_run_name: bool) -> str:
    members = [r for r in view.front if r.score]
    if not members:
        return ""
    members = [view.baseline, *members] if view.baseline else members
    classes = list(view.data.get("classes") or (members[0].score.recall if members[0].score else ()))
    suffix = f" of {view.name}" if show_run_name else ""
    recall = paper.heatmap_table(
        "trial",
        [*classes, "balanced", "macro-F1"],
        [record_label(r) for r in members],
        [_recall_cells(r, classes) for r in members],
    )
    options = [(f"trial {record_label(r)}, {format_accuracy(r)}", _confusion_table(r, classes)) for r in members]
    return paper.side_by_side(
        paper.section(
            f"Recall by class{suffix}",
            f"Share of the faces with each label that a net names right, on {escape_html(members[0].accuracy_split)}.",
            recall,
        ),
        paper.section(
            f"Confusion{suffix}",
            "Rows are the annotators' labels, columns what the net says; faces counted, shaded by share of the row.",
            paper.select_box(f"confusion-{view.name}", options),
        ),
    )


def _recall_cells(r: Record, classes: Sequence[str]) -> list[tuple[str, float]]:
    if r.score is None:
        return []
    shares = [r.score.recall.get(name) for name in classes]
    cells = [("" if s is None else f"{s:.0%}", float("nan") if s is None else s) for s in shares]
    return [*cells, (f"{r.score.balanced_accuracy:.1%}", float("nan")), (f"{r.score.macro_f1:.3f}", float("nan"))]


def _confusion_table(r: Record, classes: Sequence[str]) -> str:
    if r.score is None:
        return ""
    cells = [[(str(n), n / max(1, sum(row))) for n in row] for row in r.score.confusion]
    return paper.heatmap_table("label", classes, classes, cells)


def _time_section(views: Sequence[RunView]) -> str:
    spent: dict[str, dict[str, float]] = {}
    for v in views:
        for phase in ("base", "search", "verified"):
            total: dict[str, float] = {}
            for r in (r for r in v.records if r.phase == phase):
                for name, seconds in r.seconds.items():
                    total[name] = total.get(name, 0.0) + seconds / 60
            if total:
                spent[f"{phase}, {v.name}" if len(views) > 1 else phase] = total
    if not spent:
        return paper.section("Where the time went", "No times were recorded.")
    minutes = sum(sum(total.values()) for total in spent.values())
    note = f"{minutes:.1f} minutes of work on candidates, by what was done; failed and infeasible ones included."
    return paper.section("Where the time went", note, plots.bar_plot(spent, x="minutes", name="time"))


def _provenance_section(views: Sequence[RunView]) -> str:
    first = views[0]
    example = first.front[len(first.front) // 2] if first.front else None
    lines = [f"<b>Data:</b> {_describe_data(first)}", *(escape_html(note) for note in first.data.get("notes", ()))]
    lines += [escape_html(line[0].upper() + line[1:]) for v in views for line in warm_start_lines(v.folder.path)]
    for latency, where in ((example.latency, "Target"), (example.host, "Host")) if example else ():
        if example and latency:
            text = escape_html(describe_latency(latency.to_dict()))
            lines.append(f"<b>{where} latency</b>, for example trial {example.trial}: {text}")
    if example and {"max_difference", "agreement", "n"} <= example.parity.keys():
        worst = max(r.parity.get("max_difference", 0.0) for v in views for r in v.front)
        lines.append(
            f"<b>Parity:</b> on each file PyTorch and ONNX Runtime differed by at most {worst:.2g} in probability."
        )
    lines.append(
        f"<b>Seed</b> {first.config.run.seed}; configuration in config.toml, every candidate in records.jsonl."
    )
    facts = [[escape_html(k), escape_html(v)] for k, v in first.environment.items()]
    more = (
        f"<details><summary>Versions and machine</summary>{paper.table(['what', 'found'], facts, wrap=[1])}</details>"
    )
    return paper.section("How the figures came about", "", paper.bullet_list(lines), more if facts else "")


def _describe_data(view: RunView) -> str:
    data = view.data
    counts = ", ".join(f"{data[s]:,} {s}" for s in ("train", "val", "test") if isinstance(data.get(s), int))
    digest = f"; digest {str(data['digest'])[:16]}" if data.get("digest") else ""
    split = f"; chosen by {escape_html(data['val_name'])}" if data.get("val_name") else ""
    drawn = ", synthetic" if view.is_synthetic and data["name"] != "synthetic" else ""
    return f"{escape_html(data['name'])}{drawn} ({counts}){split}{digest}"
