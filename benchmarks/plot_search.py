"""A plot of searches: share of the hypervolume against evaluations, with a panel per JSON file.

    python -m benchmarks.plot_search tx2.json nano.json synthetic.json --titles "Jetson TX2" "Jetson Nano" "60 genes" \\
        --out docs/search.svg

The files are those of search_nb201, search_synthetic and search_table. Lines are means over seeds. Bands range from the
second lowest to the second highest seed, or from the lowest to the highest with fewer than five seeds. The vertical
axis is logarithmic in one minus the share, so that 0.9, 0.99 and 0.999 are equally far apart. The SVG is written
directly, without a plotting package.
"""

import argparse
import json
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

COLOURS = {
    "screened": "#0b6e69", "tpe-multivariate": "#c2570c", "tpe": "#dca06a", "nsga2-20": "#4357ad", "nsga2": "#9aa6d8",
    "gp": "#a3387a", "local-search": "#6b7f1d", "random": "#8593a3",
}  # fmt: skip
OTHER = "#1b2430"
INK, GRID = "#1b2430", "#e1e5ea"
FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,sans-serif'
WIDTH, HEIGHT, LEFT, TOP, GAP, BOTTOM = 320, 300, 62, 40, 50, 96
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
EVALUATIONS = (10, 20, 50, 100, 200, 300, 500, 1000)
FIRST = 10
"""First evaluation on the axis; before it samplers propose random or space-filling points."""


def picture(files: Sequence[dict[str, Any]], titles: Sequence[str], names: Sequence[str] | None = None) -> str:
    """The plot as SVG.

    Args:
        files: content of the JSON files; samplers without curves are left out.
        titles: one per file.
        names: samplers to plot; None for all but the ablations of the default one.
    """
    plotted = [n for n in dict.fromkeys(n for f in files for n in f["samplers"]) if _is_shown(n, names)]
    plotted.sort(key=lambda n: list(COLOURS).index(n) if n in COLOURS else len(COLOURS))
    width = LEFT + len(files) * (WIDTH + GAP)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + BOTTOM}" '
            f'font-family=\'{FONT}\' font-size="12" fill="{INK}">'
        ),
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for i, (file, title) in enumerate(zip(files, titles, strict=True)):
        parts += _panel(file, title, plotted, left=LEFT + i * (WIDTH + GAP), named=i == 0)
    return "\n".join([*parts, *_legend(plotted, width), "</svg>", ""])


def _is_shown(name: str, names: Sequence[str] | None) -> bool:
    return name in names if names else not name.startswith("screened-")


def _panel(file: dict[str, Any], title: str, shown: Sequence[str], *, left: float, named: bool) -> list[str]:
    curves = {n: _curves(file["samplers"][n]) for n in shown if n in file["samplers"]}
    curves = {n: c for n, c in curves.items() if c.shape[1] > FIRST}
    if not curves:
        raise SystemExit(f"the file for {title!r} must hold replays of more than {FIRST} trials, but holds none")
    last = max(c.shape[1] for c in curves.values())
    floor = min(float(c[:, FIRST - 1].mean()) for c in curves.values())
    top = min(0.9995, max(float(c.mean(axis=0).max()) for c in curves.values()) + 2e-4)

    def x(n: Floats) -> Floats:
        return left + WIDTH * np.log(n / FIRST) / np.log(last / FIRST)

    def y(share: Floats) -> Floats:
        low, high = -np.log(1 - floor), -np.log(1 - top)
        return TOP + HEIGHT * (1 - (-np.log(1 - np.clip(share, floor, top)) - low) / (high - low))

    parts = [
        f'<text x="{left + WIDTH / 2}" y="{TOP - 14}" text-anchor="middle" font-weight="600">{escape(title)}</text>'
    ]
    for share in (s for s in SHARES if floor <= s <= top):
        at = float(y(np.array(share)))
        parts.append(f'<path d="M{left} {at:.1f}h{WIDTH}" stroke="{GRID}"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end" font-size="10">{share:g}</text>')
    for n in (n for n in EVALUATIONS if FIRST <= n <= last):
        at = float(x(np.array(n, dtype=float)))
        parts.append(f'<path d="M{at:.1f} {TOP}v{HEIGHT}" stroke="{GRID}"/>')
        parts.append(f'<text x="{at:.1f}" y="{TOP + HEIGHT + 15}" text-anchor="middle" font-size="10">{n}</text>')
    for name, curve in reversed(curves.items()):
        parts += _line(name, curve, x, y)
    label = f'x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 33}" text-anchor="middle"'
    parts.append(f"<text {label}>evaluations</text>")
    if named:
        parts.append(f'<text transform="translate(16 {TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
                     "share of the true hypervolume</text>")  # fmt: skip
    return parts


def _curves(sampler: dict[str, Any]) -> Floats:
    """Curves [runs, trials], cut to the shortest."""
    curves = [run.get("curve", []) for run in sampler["runs"]]
    length = min((len(c) for c in curves), default=0)
    return np.array([c[:length] for c in curves], dtype=np.float64).reshape(len(curves), length)


def _line(name: str, curves: Floats, x: Any, y: Any) -> list[str]:
    colour = COLOURS.get(name, OTHER)
    trim = 1 if len(curves) >= 5 else 0
    ordered = np.sort(curves, axis=0)[:, FIRST - 1 :]
    low, high, mean = ordered[trim], ordered[len(curves) - 1 - trim], ordered.mean(axis=0)
    at = x(np.arange(FIRST, curves.shape[1] + 1, dtype=np.float64))
    keep = _steps(at)
    band = [*zip(at[keep], y(high)[keep], strict=True), *reversed(list(zip(at[keep], y(low)[keep], strict=True)))]
    wide = 2.6 if name == "screened" else 1.4
    return [
        f'<polygon points="{_points(band)}" fill="{colour}" opacity="0.11"/>',
        (
            f'<polyline points="{_points(list(zip(at[keep], y(mean)[keep], strict=True)))}" fill="none" '
            f'stroke="{colour}" stroke-width="{wide}" stroke-linejoin="round"/>'
        ),
    ]


def _steps(at: Floats) -> list[int]:
    """Indices at least two pixels apart, with the first and the last, since closer points look the same."""
    indices = [0]
    for i in range(1, len(at)):
        if at[i] - at[indices[-1]] >= 2:
            indices.append(i)
    return indices if indices[-1] == len(at) - 1 else [*indices, len(at) - 1]


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _legend(names: Sequence[str], width: float) -> list[str]:
    widths = [34 + 7.2 * len(n) for n in names]
    rows: list[list[int]] = [[]]
    for i in range(len(names)):
        if sum(widths[k] for k in [*rows[-1], i]) > width - 20:
            rows.append([])
        rows[-1].append(i)
    parts = []
    for r, row in enumerate(rows):
        starts = np.cumsum([(width - sum(widths[k] for k in row)) / 2, *(widths[k] for k in row)])
        down = TOP + HEIGHT + 58 + 20 * r
        for k, (left, _) in zip(row, pairwise(starts.tolist()), strict=True):
            colour = COLOURS.get(names[k], OTHER)
            parts.append(f'<path d="M{left:.0f} {down}h20" stroke="{colour}" stroke-width="3"/>')
            parts.append(f'<text x="{left + 25:.0f}" y="{down + 4}">{escape(names[k])}</text>')
    return parts


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="JSON files")
    parser.add_argument("--titles", nargs="+", help="one per file; the file names by default")
    parser.add_argument("--samplers", help="comma-separated; all but the ablations screened-... by default")
    parser.add_argument("--out", type=Path, required=True, help="the SVG to write")
    options = parser.parse_args()
    titles = options.titles or [file.stem for file in options.files]
    if len(titles) != len(options.files):
        parser.error(f"--titles must give one title per file ({len(options.files)}), but got {len(titles)}")
    for file in options.files:
        if not file.exists():
            parser.error(f"{file} must be a file that a search benchmark wrote with --json, but there is none")
    files = [json.loads(file.read_text()) for file in options.files]
    names = options.samplers.split(",") if options.samplers else None
    options.out.write_text(picture(files, titles, names))
    print(f"{options.out}: {len(files)} panels")


if __name__ == "__main__":
    main()
