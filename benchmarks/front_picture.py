"""Picture of a table of `benchmarks.baselines`: accuracy on unseen faces against latency, CPU and Jetson side by side.

    python -m benchmarks.baselines FOLDER --data fer2013.csv --baseline mini_xception.onnx --json rows.json
    python -m benchmarks.front_picture rows.json --out docs/front.svg

The left half has the latencies of the table, measured on this CPU. The right half has predictions for a Jetson Orin
Nano from the same files, with their 95 % intervals. The line joins the models that no other model beats in both.
"""

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from nas.latency.costs import compute_costs
from nas.latency.predicted.predict import predict_latency
from nas.targets.catalog import load_target

WIDTH, HEIGHT, MARGIN, TOP = 460, 380, 62, 64
OWN, PUBLISHED, INK, GRID = "#0b6e69", "#c2570c", "#1b2430", "#dde3e9"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model: its latency with the ends of its interval in ms, and its accuracy in per cent."""

    name: str
    is_published: bool
    ms: float
    low: float
    high: float
    accuracy: float


def main() -> None:
    """Read the rows and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="JSON of benchmarks.baselines")
    parser.add_argument("--target", default="jetson")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = json.loads(args.rows.read_text())
    profile = load_target(args.target)
    measured, predicted = [], []
    for row in rows:
        name = row["model"].replace("/model-int8", ", INT8").replace("/model", ", FP32")
        name = re.sub(r"_\d+$", "", name).removeprefix("oarriaga_")
        about = {"name": name, "is_published": row["published"], "accuracy": 100 * row["unseen"]}
        measured.append(Point(ms=row["p5_ms"], low=row["p5_ms"], high=row["latency_ms"], **about))
        latency = predict_latency(compute_costs(Path(row["path"])), profile)
        predicted.append(Point(ms=latency.latency_ms, low=latency.low_ms, high=latency.high_ms, **about))
    body = half(measured, 0, "this CPU, one thread, measured (5th percentile to median)")
    body += half(predicted, WIDTH, f"{profile.title.partition(' (')[0]}, predicted (95 % interval)")
    args.out.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT}" '
        f'font-family="system-ui,sans-serif" font-size="11" fill="{INK}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{body}</svg>\n'
    )


def half(points: Sequence[Point], left: float, title: str) -> str:
    """One plot as SVG."""
    lows, highs = min(p.low for p in points) * 0.8, max(p.high for p in points) * 1.25
    bottom, top = min(p.accuracy for p in points) - 0.5, max(p.accuracy for p in points) + 0.7

    def x(ms: float) -> float:
        return left + MARGIN + (WIDTH - MARGIN - 16) * math.log(ms / lows) / math.log(highs / lows)

    def y(accuracy: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - MARGIN - TOP) * (accuracy - bottom) / (top - bottom)

    parts = [f'<text x="{left + MARGIN}" y="24" font-size="13" font-weight="600">{escape(title)}</text>']
    parts.append(f'<text x="{left + MARGIN}" y="{TOP - 8}">accuracy on unseen faces of PublicTest</text>')
    for ms in (m * 10.0**e for e in range(-3, 3) for m in (1, 2, 5)):
        if lows <= ms <= highs:
            parts.append(f'<path d="M{x(ms):.1f} {TOP}V{HEIGHT - MARGIN}" stroke="{GRID}"/>')
            parts.append(f'<text x="{x(ms):.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{ms:g}</text>')
    for accuracy in range(math.ceil(bottom), math.floor(top) + 1):
        parts.append(f'<path d="M{left + MARGIN} {y(accuracy):.1f}H{left + WIDTH - 16}" stroke="{GRID}"/>')
        parts.append(f'<text x="{left + MARGIN - 8}" y="{y(accuracy) + 4:.1f}" text-anchor="end">{accuracy} %</text>')
    parts.append(f'<text x="{left + WIDTH / 2 + 20}" y="{HEIGHT - 22}" text-anchor="middle">latency, ms</text>')
    best = front(points)
    steps = "".join(f"{'M' if i == 0 else 'L'}{x(p.ms):.1f} {y(p.accuracy):.1f}" for i, p in enumerate(best))
    parts.append(f'<path d="{steps}" fill="none" stroke="{OWN}" stroke-dasharray="4 3"/>')
    for p in points:
        colour = PUBLISHED if p.is_published else OWN
        at_x, at_y = x(p.ms), y(p.accuracy)
        parts.append(f'<path d="M{x(p.low):.1f} {at_y:.1f}H{x(p.high):.1f}" stroke="{colour}" stroke-opacity=".35"/>')
        parts.append(f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="4.5" fill="{colour}"/>')
        is_right = at_x > left + WIDTH * 0.78
        is_below = "INT8" in p.name or p == next((q for q in points if q.is_published), None)
        anchor, offset = ("end", -8) if is_right else ("start", 8)
        parts.append(
            f'<text x="{at_x + offset:.1f}" y="{at_y + (14 if is_below else -7):.1f}" text-anchor="{anchor}" '
            f'fill="{colour}">{escape(p.name)}</text>'
        )
    return "".join(parts)


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both, fastest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ms, -p.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


if __name__ == "__main__":
    main()
