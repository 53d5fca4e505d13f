"""Compression of nets of six families: accuracy, bytes, weights and latency, each read off the ONNX file.

    python -m benchmarks.compression --data fer2013.csv [--nets plain residual] [--rows ptq qat] [--epochs 1.0]
        [--cache runs/compression-bench] [--teacher residual] [--json OUT.json] [--markdown] [--no-facts] [--time-again]

Each family's net is trained once (`--epochs` scales all trainings), and every row compresses those weights. Rows with
fine-tuning train for another quarter of the net's epochs. The row `longer` trains the FP32 net as much, which makes the
comparison fair.

- Accuracy is that of the file in ONNX Runtime on the selection split.
- Speed-ups are against the FP32 file, timed side by side on one thread: by medians with a 95 % interval, and by the 5th
  percentile.
- The teacher is the most accurate net, unless `--teacher` names another.
- Trained nets and finished rows are cached below --cache, so a second call resumes. `--time-again` times all files
  again, for instance once the machine is idle.

At the end, claims from the literature and from earlier measurements are printed, each with whether it holds here.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks._compression_facts import check_facts
from benchmarks._compression_nets import FAMILIES, TrainedNet
from benchmarks._compression_rows import COMPRESSION_VARIANTS, FP32, CompressionBenchmark
from nas.data.loading import load_data
from nas.registry import load
from nas.targets.catalog import load_target

Row = dict[str, Any]
HEADS = (
    "net", "form", "accuracy %", "points", "worst class", "kB", "packed kB", "non-zero", "MMAC", "ms", "speed-up",
    "by p5",
)  # fmt: skip
WIDTH = 180
"""Width in characters of a table that is not printed to a terminal."""


def table(lines: Sequence[Sequence[str]]) -> Table:
    """The table for a terminal."""
    terminal_table = Table(show_edge=False, pad_edge=False)
    for i, head in enumerate(HEADS):
        terminal_table.add_column(head, justify="right" if i > 1 else "left", no_wrap=True)
    for cells in lines:
        terminal_table.add_row(*cells)
    return terminal_table


def cells_of(row: Row, fp32_row: Row) -> list[str]:
    """The cells of a row; points and factors are against the FP32 file of the same net."""
    return [
        row["net"], row["what"], f"{100 * row['accuracy']:.2f}",
        f"{100 * (row['accuracy'] - fp32_row['accuracy']):+.2f}", worst_class(row["recall"], fp32_row["recall"]),
        f"{row['size_bytes'] / 1e3:.0f}", f"{row['packed_bytes'] / 1e3:.0f}", f"{row['nonzero_params']:,}",
        f"{row['macs'] / 1e6:.2f}", f"{row['latency_ms']:.3f}",
        f"{row['speedup']:.2f} ({row['speedup_low']:.2f}-{row['speedup_high']:.2f})", f"{row['speedup_p5']:.2f}",
    ]  # fmt: skip


def worst_class(recall: Mapping[str, float], fp32_recall: Mapping[str, float]) -> str:
    """The class whose recall fell most, with the difference in points; rare classes suffer first."""
    name = min(fp32_recall, key=lambda label: recall.get(label, 0.0) - fp32_recall[label])
    return f"{name} {100 * (recall.get(name, 0.0) - fp32_recall[name]):+.1f}"


def remark(row: Row, fp32_row: Row) -> str:
    """A note on a row beside its figures, often empty."""
    if "accuracy" not in row:
        return str(row["reason"])
    unchanged = COMPRESSION_VARIANTS[row["row"]].compressor == "low_rank" and row["params"] == fp32_row["params"]
    return str(row.get("parity") or ("no layer is predicted to gain, so none changed" if unchanged else ""))


def line(row: Row) -> str:
    """A row in words, for the log."""
    prefix = f"{row['net']}, {row['what']}: "
    if "accuracy" not in row:
        return prefix + str(row["reason"])
    return prefix + f"{row['accuracy']:.2%}, {row['speedup_p5']:.2f} times as fast"


def say(text: str) -> None:
    """Print progress to stderr, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Train, compress, measure, print the table and the claims, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--target", default="cpu", help="a target whose runtime runs on this machine")
    parser.add_argument("--nets", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--rows", nargs="+", choices=COMPRESSION_VARIANTS, default=list(COMPRESSION_VARIANTS))
    parser.add_argument("--epochs", type=float, default=1.0, help="factor on the epochs of all trainings")
    parser.add_argument("--teacher", choices=FAMILIES, help="teacher; the most accurate net by default")
    parser.add_argument("--cache", type=Path, default=Path("runs/compression-bench"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads for training")
    parser.add_argument("--no-facts", action="store_true")
    parser.add_argument("--time-again", action="store_true", help="time the files of finished rows again")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    data, profile = load_data(args.dataset, args.data), load_target(args.target)
    runtime = load("runtime", profile.runtime)
    names = list(dict.fromkeys([*args.nets, *([args.teacher] if args.teacher else [])]))
    nets = {
        name: TrainedNet(name, data, epoch_scale=args.epochs, cache_dir=args.cache, log=say).load_or_train()
        for name in names
    }
    fp32_rows = {
        name: CompressionBenchmark(net, profile, runtime, cache_dir=args.cache, teacher=None).row(FP32)
        for name, net in nets.items()
    }
    best = args.teacher or max(nets, key=lambda name: float(fp32_rows[name]["accuracy"]))
    rows: list[Row] = []
    for name in args.nets:
        teacher = nets[best] if name != best else None
        benchmark = CompressionBenchmark(nets[name], profile, runtime, cache_dir=args.cache, teacher=teacher)
        for variant in args.rows:
            rows.append(benchmark.retime(variant) if args.time_again else benchmark.row(variant))
            say(line(rows[-1]))
    lines = [cells_of(row, fp32_rows[row["net"]]) for row in rows if "accuracy" in row]
    if args.markdown:
        print("\n".join(f"| {' | '.join(cells)} |" for cells in (HEADS, ["---"] * len(HEADS), *lines)))
    else:
        console.print(table(lines))
    for row in rows:
        if remark(row, fp32_rows[row["net"]]):
            console.print(f"{row['net']}, {row['what']}: {remark(row, fp32_rows[row['net']])}", markup=False)
    split = f"{data.val_name}, {len(data.val):,} faces{', synthetic' if data.synthetic else ''}"
    error = 50 / len(data.val) ** 0.5
    console.print(
        f"accuracy: {split}, one standard error at most {error:.1f} points; latency: {profile.title}; teacher: {best}"
    )
    checked = [] if args.no_facts else check_facts(rows, data, profile, runtime)
    for fact in checked:
        verdict = "[green]holds[/green]" if fact.holds else "[red]does not[/red]"
        console.print(f"{verdict}: {fact.claim} ({fact.source}): {fact.figure}")
    if args.json:
        known = [fact.__dict__ for fact in checked]
        args.json.write_text(json.dumps({"rows": rows, "facts": known, "teacher": best}, indent=1))


if __name__ == "__main__":
    main()
