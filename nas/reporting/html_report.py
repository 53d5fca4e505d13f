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
from nas.reporting.forecast_section import outlook_section, seeds_section
from nas.reporting.front_section import front_section, table_section
from nas.reporting.model_card import ETHICS, statement
from nas.reporting.page import text
from nas.reporting.recall_section import recall_section
from nas.reporting.run_view import View, label, ms, percent
from nas.results.front import (
    feasible,
    hypervolume_curve,
    reference,
    values,
)
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.warm_start_log import begun_with


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
    views = [View(folder) for folder in folders]
    _check_comparable(views)
    title = f"Pareto front: {', '.join(v.name for v in views)}"
    body = "".join(
        [
            paper.cards(_figures(views)),
            front_section(views),
            "".join(table_section(v, named=len(views) > 1) for v in views),
            "".join(seeds_section(v, named=len(views) > 1) for v in views),
            "".join(recall_section(v, named=len(views) > 1) for v in views),
            paper.columns(_hypervolume_section(views), _importance_section(views)),
            "".join(outlook_section(v, named=len(views) > 1) for v in views),
            "".join(_classes_section(v, named=len(views) > 1) for v in views),
            paper.columns(_time_section(views), _provenance_section(views)),
            paper.section("What this is, and what it is not", "", paper.listing([text(line) for line in ETHICS])),
            "<footer>Made from records.jsonl. Every figure was read off the ONNX file it stands beside.</footer>",
        ]
    )
    html = paper.page(title=title, header=_header(views), body=body, scripts=plots.script())
    return RunFolder(path.parent).write(path.name, html)


def _check_comparable(views: Sequence[View]) -> None:
    if not views:
        raise ConfigError("a report needs at least one run, but got none")
    data = {v.data.get("digest") or v.data["name"]: v for v in views}
    if len(data) > 1:
        names = "; ".join(f"{v.name} has {v.data['name']} ({str(key)[:12]})" for key, v in data.items())
        raise ConfigError(f"runs in one report must be of the same data, but {names}; make a report of each")


def _header(views: Sequence[View]) -> str:
    first = views[0]
    c = first.config
    title = "Pareto front of facial-expression models" if len(views) == 1 else f"{len(views)} runs beside each other"
    facts = [
        ("run", ", ".join(v.name for v in views)),
        ("target", ", ".join(dict.fromkeys(v.config.target for v in views))),
        ("model" if c.model else "space", ", ".join(dict.fromkeys(v.config.subject for v in views))),
        ("data", f"{first.data['name']}"),
        ("objectives", ", ".join(c.objectives)),
        ("sampler", ", ".join(dict.fromkeys(v.config.sampler for v in views))),
        *[(name.replace("_", " "), str(value)) for name, value in _limits(c).items()],
    ]
    kinds = {r.latency.kind for v in views for r in v.front if r.latency}
    return (
        f"<h1>{title}</h1><p>{text(', '.join(str(v.folder.path) for v in views))}</p>{paper.chips(facts)}"
        + (
            '<div class="warn"><b>Synthetic faces.</b> The faces of this run are drawn by code. Its accuracies compare '
            "nets with each other; they say nothing about real faces.</div>"
            if first.synthetic
            else ""
        )
        + (
            '<div class="warn"><b>Predicted latency.</b> No such device was at hand: target latencies are computed '
            "from its profile, not measured. What was measured on the machine of the search stands beside them.</div>"
            if "predicted" in kinds
            else ""
        )
    )


def _limits(config: SearchConfig) -> dict[str, str]:
    found = {
        "max_latency": f"{config.max_latency:g} ms" if config.max_latency else "",
        "max_size": f"{config.max_size / 1e3:g} kB" if config.max_size else "",
        "min_accuracy": f"{config.min_accuracy:.1%}" if config.min_accuracy else "",
    }
    return {name: value for name, value in found.items() if value}


def _figures(views: Sequence[View]) -> list[tuple[str, str, str]]:
    """The cards: what was found, in five figures."""
    searched = [r for v in views for r in v.searched]
    members = [r for v in views for r in v.front if r.score and r.latency]
    done, good = len(searched), sum(feasible(r) for r in searched)
    cards = [("candidates", str(done), f"{good} feasible, {sum(r.status == 'failed' for r in searched)} failed")]
    if members:
        best = max(members, key=lambda r: r.score.accuracy if r.score else 0.0)
        fast = min(members, key=lambda r: r.latency.latency_ms if r.latency else 0.0)
        small = min(members, key=lambda r: r.size_bytes or 0)
        bend = members[knee(values(members, ("accuracy", "latency")), [True, False])]
        cards += [
            ("most accurate", percent(best), f"{ms(best.latency)}, trial {best.trial}"),
            ("fastest", ms(fast.latency), f"{percent(fast)}, trial {fast.trial}"),
            ("knee", f"{percent(bend)}", f"{ms(bend.latency)}, trial {bend.trial}"),
            ("smallest file", f"{(small.size_bytes or 0) / 1e3:.3g} kB", f"{percent(small)}, trial {small.trial}"),
        ]
    return cards


def _hypervolume_section(views: Sequence[View]) -> str:
    objectives = views[0].config.objectives
    if len({v.config.objectives for v in views}) > 1:
        return paper.section("Hypervolume", "The runs have different objectives, so their hypervolumes do not compare.")
    corner = reference([r for v in views for r in v.searched], objectives)
    curves = {v.name: hypervolume_curve(v.records, objectives, corner=corner) for v in views}
    note = (
        "Share of the box between no accuracy at the largest feasible cost and full accuracy at no cost that the "
        "search front covers, after each finished candidate. Where it is flat, further search has stopped to pay."
    )
    plot = plots.lines(curves, x="finished candidates", y="hypervolume, share", name="hypervolume")
    return paper.section("Hypervolume", note, plot)


def _importance_section(views: Sequence[View]) -> str:
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
    return paper.section("What mattered", note, plots.bars(found, x="importance", name="importance"))


def _classes_section(view: View, *, named: bool) -> str:
    members = [r for r in view.front if r.score]
    if not members:
        return ""
    members = [view.base, *members] if view.base else members
    classes = list(view.data.get("classes") or (members[0].score.recall if members[0].score else ()))
    suffix = f" of {view.name}" if named else ""
    recall = paper.heat(
        "trial",
        [*classes, "balanced", "macro-F1"],
        [label(r) for r in members],
        [_recall_cells(r, classes) for r in members],
    )
    options = [(f"trial {label(r)}, {percent(r)}", _confusion(r, classes)) for r in members]
    return paper.columns(
        paper.section(
            f"Recall by class{suffix}",
            f"Share of the faces with each label that a net names right, on {text(members[0].accuracy_split)}.",
            recall,
        ),
        paper.section(
            f"Confusion{suffix}",
            "Rows are the annotators' labels, columns what the net says; faces counted, shaded by share of the row.",
            paper.choose(f"confusion-{view.name}", options),
        ),
    )


def _recall_cells(r: Record, classes: Sequence[str]) -> list[tuple[str, float]]:
    if r.score is None:
        return []
    shares = [r.score.recall.get(name) for name in classes]
    cells = [("" if s is None else f"{s:.0%}", float("nan") if s is None else s) for s in shares]
    return [*cells, (f"{r.score.balanced_accuracy:.1%}", float("nan")), (f"{r.score.macro_f1:.3f}", float("nan"))]


def _confusion(r: Record, classes: Sequence[str]) -> str:
    if r.score is None:
        return ""
    cells = [[(str(n), n / max(1, sum(row))) for n in row] for row in r.score.confusion]
    return paper.heat("label", classes, classes, cells)


def _time_section(views: Sequence[View]) -> str:
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
    return paper.section("Where the time went", note, plots.bars(spent, x="minutes", name="time"))


def _provenance_section(views: Sequence[View]) -> str:
    first = views[0]
    example = first.front[len(first.front) // 2] if first.front else None
    lines = [f"<b>Data:</b> {_data_words(first)}", *(text(note) for note in first.data.get("notes", ()))]
    lines += [text(line[0].upper() + line[1:]) for v in views for line in begun_with(v.folder.path)]
    for m, where in ((example.latency, "Target"), (example.host, "Host")) if example else ():
        if m:
            lines.append(f"<b>{where} latency</b>, for example trial {example.trial}: {text(statement(m.to_dict()))}")  # type: ignore[union-attr]
    if example and {"max_difference", "agreement", "n"} <= example.parity.keys():
        worst = max(r.parity.get("max_difference", 0.0) for v in views for r in v.front)
        lines.append(
            f"<b>Parity:</b> on each file PyTorch and ONNX Runtime differed by at most {worst:.2g} in probability."
        )
    lines.append(f"<b>Seed</b> {first.config.seed}; configuration in config.toml, every candidate in records.jsonl.")
    facts = [[text(k), text(v)] for k, v in first.environment.items()]
    more = (
        f"<details><summary>Versions and machine</summary>{paper.table(['what', 'found'], facts, wrap=[1])}</details>"
    )
    return paper.section("How the figures came about", "", paper.listing(lines), more if facts else "")


def _data_words(view: View) -> str:
    data = view.data
    counts = ", ".join(f"{data[s]:,} {s}" for s in ("train", "val", "test") if isinstance(data.get(s), int))
    digest = f"; digest {str(data['digest'])[:16]}" if data.get("digest") else ""
    split = f"; chosen by {text(data['val_name'])}" if data.get("val_name") else ""
    drawn = ", synthetic" if view.synthetic and data["name"] != "synthetic" else ""
    return f"{text(data['name'])}{drawn} ({counts}){split}{digest}"
