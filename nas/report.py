"""The report of one run, or of several on the same data beside each other: one HTML file that needs no network.

A figure is never shown without where it comes from: latencies are marked measured or predicted, accuracies name their
split and interval, synthetic faces are said in the head, and the verified front stands beside the search front.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nas import _report_page as paper
from nas import _report_plots as plots
from nas._model_card import ETHICS, statement
from nas._report_page import text
from nas.config import SearchConfig
from nas.errors import ConfigError
from nas.front import (
    Fallen,
    bits_words,
    fallen,
    feasible,
    front,
    host_measurement,
    hypervolume_curve,
    latest,
    reference,
    search_front,
    values,
    verified_front,
)
from nas.measure import Measurement
from nas.pareto import knee
from nas.records import Record, RunFolder

NOTHING = "&mdash;"
AXES = (
    "latency on the target, ms",
    "latency on the machine of the search, ms (5th percentile)",
    "size of the file, kB",
)


@dataclass(frozen=True)
class _View:
    """One run, read once."""

    folder: RunFolder

    @cached_property
    def config(self) -> SearchConfig:
        return self.folder.config

    @cached_property
    def records(self) -> list[Record]:
        return self.folder.records()

    @cached_property
    def searched(self) -> list[Record]:
        return latest(self.records, "search")

    @cached_property
    def data(self) -> dict[str, Any]:
        return self._json("data.json") or {"name": self.config.dataset}

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._json("environment.json")

    @cached_property
    def importance(self) -> dict[str, dict[str, float]]:
        return self._json("importance.json")

    @cached_property
    def front(self) -> list[Record]:
        return front(self.records, self.config.objectives)

    @cached_property
    def search_front(self) -> list[Record]:
        return search_front(self.records, self.config.objectives)

    @cached_property
    def verified_front(self) -> list[Record]:
        return verified_front(self.records, self.config.objectives)

    @cached_property
    def fallen(self) -> list[Fallen]:
        return fallen(self.records, self.config.objectives)

    @property
    def name(self) -> str:
        return self.folder.path.name

    @property
    def synthetic(self) -> bool:
        return bool(self.data.get("synthetic", self.config.dataset == "synthetic"))

    def _json(self, name: str) -> dict[str, Any]:
        file = self.folder.path / name
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found


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
    views = [_View(folder) for folder in folders]
    _check_comparable(views)
    title = f"Pareto front: {', '.join(v.name for v in views)}"
    body = "".join(
        [
            paper.cards(_figures(views)),
            _front_section(views),
            "".join(_table_section(v, named=len(views) > 1) for v in views),
            paper.columns(_hypervolume_section(views), _importance_section(views)),
            "".join(_classes_section(v, named=len(views) > 1) for v in views),
            paper.columns(_time_section(views), _provenance_section(views)),
            paper.section("What this is, and what it is not", "", paper.listing([text(line) for line in ETHICS])),
            "<footer>Made from records.jsonl. Every figure was read off the ONNX file it stands beside.</footer>",
        ]
    )
    html = paper.page(title=title, header=_header(views), body=body, scripts=plots.script())
    return RunFolder(path.parent).write(path.name, html)


def _check_comparable(views: Sequence[_View]) -> None:
    if not views:
        raise ConfigError("a report needs at least one run, but got none")
    data = {v.data.get("digest") or v.data["name"]: v for v in views}
    if len(data) > 1:
        names = "; ".join(f"{v.name} has {v.data['name']} ({str(key)[:12]})" for key, v in data.items())
        raise ConfigError(f"runs in one report must be of the same data, but {names}; make a report of each")


def _header(views: Sequence[_View]) -> str:
    first = views[0]
    c = first.config
    title = "Pareto front of facial-expression models" if len(views) == 1 else f"{len(views)} runs beside each other"
    facts = [
        ("run", ", ".join(v.name for v in views)),
        ("target", ", ".join(dict.fromkeys(v.config.target for v in views))),
        ("space", ", ".join(dict.fromkeys(v.config.space for v in views))),
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


def _figures(views: Sequence[_View]) -> list[tuple[str, str, str]]:
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
            ("most accurate", _percent(best), f"{_ms(best.latency)}, trial {best.trial}"),
            ("fastest", _ms(fast.latency), f"{_percent(fast)}, trial {fast.trial}"),
            ("knee", f"{_percent(bend)}", f"{_ms(bend.latency)}, trial {bend.trial}"),
            ("smallest file", f"{(small.size_bytes or 0) / 1e3:.3g} kB", f"{_percent(small)}, trial {small.trial}"),
        ]
    return cards


def _front_section(views: Sequence[_View]) -> str:
    layers = [layer for i, v in enumerate(views) for layer in _layers(v, i, named=len(views) > 1)]
    c = views[0].config
    limits = (c.max_latency, 100 * c.min_accuracy if c.min_accuracy else None) if len(views) == 1 else (None, None)
    if not any(v.front for v in views):
        return paper.section("The front", "No candidate is complete yet.")
    errors = [share for v in views for r in v.front if (share := _relative_error(r.latency))]
    note = (
        "Up and to the left is better. Filled circles are measured, open diamonds predicted; a solid line joins the "
        "front that was trained in full and measured again, a dotted one the front as the search left it, and thin "
        "dotted lines show where full training took each member. Ticks at the bottom are candidates that broke a "
        "limit before any training. Dashed lines are the limits asked for."
    )
    if errors:
        note += f" A predicted latency may be off by about {max(errors):.0%}; switch the intervals on to see it."
    return paper.section("The front", note, plots.front(layers, AXES, limits=limits))


def _relative_error(m: Measurement | None) -> float | None:
    """Half-width of a predicted latency's interval, as a share of it."""
    return m.high_ms / m.latency_ms - 1 if m and m.kind == "predicted" and m.latency_ms else None


def _layers(view: _View, index: int, *, named: bool) -> list[plots.Layer]:
    main = plots.COLOURS[index % len(plots.COLOURS)]
    second = main if named else "#4357ad"
    suffix = f", {view.name}" if named else ""
    on_front = {r.key for r in view.search_front}
    verified = {r.key: r for r in latest(view.records, "verified") if r.status == "complete"}
    moved = [p for r in view.search_front if r.key in verified for p in (r, verified[r.key])]
    fell = {f.verified.key for f in view.fallen}
    groups = (
        ("broke a limit, never trained", "untrained", plots.PALE, [
            r for r in view.searched if r.status == "infeasible" and not r.score and r.latency
        ]),
        ("broke a limit", "infeasible", plots.PALE, [r for r in view.searched if r.score and not feasible(r)]),
        ("dominated", "dominated", plots.GREY, [r for r in view.searched if feasible(r) and r.key not in on_front]),
        ("moved", "moved", plots.GREY, moved),
        ("search front", "search", second, view.search_front),
        ("fell off", "dominated", "#b4441a", [r for k, r in verified.items() if k in fell]),
        ("verified front", "verified", main, view.verified_front),
    )  # fmt: skip
    return [
        plots.Layer(name=name + suffix, role=role, colour=colour, points=tuple(_point(r) for r in members))
        for name, role, colour, members in groups
        if members
    ]


def _point(r: Record) -> plots.Point:
    host = host_measurement(r)
    size = r.size_bytes / 1e3 if r.size_bytes else None
    at_host = (host.p5_ms or host.latency_ms) if host else None
    return plots.Point(
        x=(
            (r.latency.latency_ms, r.latency.low_ms, r.latency.high_ms) if r.latency else None,
            (at_host, at_host, at_host) if at_host else None,
            (size, size, size) if size else None,
        ),
        y=100 * r.score.accuracy if r.score else None,
        y_low=100 * r.score.low if r.score else None,
        y_high=100 * r.score.high if r.score else None,
        kind=r.latency.kind if r.latency else "",
        hover=_hover(r),
    )


def _hover(r: Record) -> str:
    lines = [f"<b>trial {r.trial}</b> {text(r.candidate.space)}, {r.phase}"]
    if r.score:
        lines.append(f"{r.score.accuracy:.1%} [{r.score.low:.1%}, {r.score.high:.1%}] {text(r.accuracy_split)}")
    if r.latency:
        lines.append(f"{r.latency.latency_ms:.3g} ms {r.latency.kind}, {text(r.latency.device)}")
    if host := host_measurement(r):
        lines.append(f"{host.p5_ms or host.latency_ms:.3g} ms measured, {text(host.device)}")
    if r.params and r.macs:
        lines.append(f"{r.params:,} weights, {r.macs / 1e6:.2f} MMAC, {(r.size_bytes or 0) / 1e3:.1f} kB")
    lines.append(f"sparsity {r.candidate.sparsity:.0%}, {text(bits_words(r.candidate.bits))}")
    lines.append(f"{r.epochs:.1f} epochs")
    return "<br>".join([*lines, *([text(r.reason)] if r.reason else [])])


def _table_section(view: _View, *, named: bool) -> str:
    before = {r.key: r for r in view.searched}
    head = [
        "trial", "accuracy", "in the search", "latency on the target", "host, p5", "file", "MMAC", "removed", "epochs",
        "take it",
    ]  # fmt: skip
    body = [_table_row(view, r, before.get(r.key)) for r in view.front]
    which = "Verified front" if view.verified_front else "Search front"
    note = (
        "Trained in full and measured again after the search. An interval holds with 95 %."
        if view.verified_front
        else "Not verified yet: these candidates were chosen by the very scores shown, so expect some to fall back."
    )
    fell = [f"trial {f.search.trial} ({_percent(f.search)} in the search): {text(f.reason)}" for f in view.fallen]
    told = f"<p><b>Fell off the front when trained in full:</b></p>{paper.listing(fell)}" if fell else ""
    if view.verified_front and not fell:
        told = "<p>Nobody who was verified fell off the front.</p>"
    waiting = len({r.key for r in view.search_front} - {r.key for r in latest(view.records, "verified")})
    if view.verified_front and waiting:
        told += f"<p>{waiting} further members of the search front were not trained in full.</p>"
    return paper.section(
        f"{which}{f' of {view.name}' if named else ''}", note, paper.table(head, body, wrap=[3, 9]), told
    )


def _table_row(view: _View, r: Record, before: Record | None) -> list[str]:
    score, latency, host = r.score, r.latency, host_measurement(r)
    at_target, at_host = NOTHING, NOTHING
    if latency:
        span = f"<small>{latency.low_ms:.3g} to {latency.high_ms:.3g}; {text(latency.device)}</small>"
        at_target = f"<b>{_ms(latency)}</b> {paper.kind_tag(latency.kind)}{span}"
    if host:
        at_host = f"{host.p5_ms or host.latency_ms:.3g} ms<small>median {host.latency_ms:.3g}</small>"
    return [
        f"<b>{r.trial}</b><small>{r.key[:8]}</small>",
        f"<b>{_percent(r)}</b><small>{score.low:.1%} to {score.high:.1%}</small>" if score else NOTHING,
        _percent(before) if before and before is not r else NOTHING,
        at_target,
        at_host,
        f"{(r.size_bytes or 0) / 1e3:.1f} kB<small>{r.params or 0:,} weights</small>",
        f"{(r.macs or 0) / 1e6:.2f}",
        f"{r.candidate.sparsity:.0%} of channels<small>{text(bits_words(r.candidate.bits))}</small>",
        f"{r.epochs:.1f}",
        paper.command(f"nas export {view.folder.path} --trial {r.trial}"),
    ]


def _hypervolume_section(views: Sequence[_View]) -> str:
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


def _importance_section(views: Sequence[_View]) -> str:
    many = len(views) > 1
    found = {
        f"{objective}, {v.name}" if many else objective: values
        for v in views
        for objective, values in v.importance.items()
        if values
    }
    if not found:
        return paper.section("What mattered", "Too few candidates to tell which genes mattered.")
    note = "Share of the variance of each objective that a gene explains among the candidates (Optuna's PED-ANOVA)."
    return paper.section("What mattered", note, plots.bars(found, x="importance", name="importance"))


def _classes_section(view: _View, *, named: bool) -> str:
    members = [r for r in view.front if r.score]
    if not members:
        return ""
    classes = list(view.data.get("classes") or (members[0].score.recall if members[0].score else ()))
    suffix = f" of {view.name}" if named else ""
    recall = paper.heat(
        "trial",
        [*classes, "balanced", "macro-F1"],
        [str(r.trial) for r in members],
        [_recall_cells(r, classes) for r in members],
    )
    options = [(f"trial {r.trial}, {_percent(r)}", _confusion(r, classes)) for r in members]
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


def _time_section(views: Sequence[_View]) -> str:
    spent: dict[str, dict[str, float]] = {}
    for v in views:
        for phase in ("search", "verified"):
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


def _provenance_section(views: Sequence[_View]) -> str:
    first = views[0]
    example = first.front[len(first.front) // 2] if first.front else None
    lines = [f"<b>Data:</b> {_data_words(first)}", *(text(note) for note in first.data.get("notes", ()))]
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


def _data_words(view: _View) -> str:
    data = view.data
    counts = ", ".join(f"{data[s]:,} {s}" for s in ("train", "val", "test") if isinstance(data.get(s), int))
    digest = f"; digest {str(data['digest'])[:16]}" if data.get("digest") else ""
    split = f"; chosen by {text(data['val_name'])}" if data.get("val_name") else ""
    drawn = ", synthetic" if view.synthetic and data["name"] != "synthetic" else ""
    return f"{text(data['name'])}{drawn} ({counts}){split}{digest}"


def _percent(r: Record) -> str:
    return f"{r.score.accuracy:.1%}" if r.score else "no accuracy"


def _ms(m: Measurement | None) -> str:
    return f"{m.latency_ms:.3g} ms" if m else "no latency"
