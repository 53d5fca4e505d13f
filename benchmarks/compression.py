"""What compression does to nets of six families: accuracy, bytes, weights and latency, each read off the ONNX file.

    python -m benchmarks.compression --data fer2013.csv [--nets plain residual] [--rows ptq qat] [--epochs 1.0]
        [--cache runs/compression-bench] [--teacher residual] [--json OUT.json] [--markdown] [--no-facts] [--time-again]

Each family's net is trained once (`--epochs` scales all trainings), then every row compresses those weights; rows that
train do so for a quarter of the net's epochs, and `longer` is the float net with as many more, for a fair comparison.
Accuracy is that of the file in ONNX Runtime on the selection split; speed-ups are against the float file, both timed
side by side on one thread, with their 95 % interval and by the 5th percentile. The teacher is the most accurate net.
Trained nets and finished rows are kept below --cache, so a second call goes on; `--time-again` times all files anew,
which an idle machine is worth. At the end, what is known from the literature and from earlier measurements, each with
whether it holds here.
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
    "net", "form", "accuracy %", "points", "worst class", "kB", "packed kB", "non-zero", "MMAC", "ms", "times as fast",
    "by p5",
)  # fmt: skip
WIDTH = 180
"""Columns of the table when it is written to a file."""


def table(lines: Sequence[Sequence[str]]) -> Table:
    """For a terminal."""
    found = Table(show_edge=False, pad_edge=False)
    for i, head in enumerate(HEADS):
        found.add_column(head, justify="right" if i > 1 else "left", no_wrap=True)
    for cells in lines:
        found.add_row(*cells)
    return found


def cells_of(row: Row, before: Row) -> list[str]:
    """A row as text; differences in points and factors against the float file of the same net."""
    return [
        row["net"], row["what"], f"{100 * row['accuracy']:.2f}",
        f"{100 * (row['accuracy'] - before['accuracy']):+.2f}", worst_class(row["recall"], before["recall"]),
        f"{row['size_bytes'] / 1e3:.0f}", f"{row['packed_bytes'] / 1e3:.0f}", f"{row['nonzero_params']:,}",
        f"{row['macs'] / 1e6:.2f}", f"{row['latency_ms']:.3f}",
        f"{row['speedup']:.2f} ({row['speedup_low']:.2f}-{row['speedup_high']:.2f})", f"{row['speedup_p5']:.2f}",
    ]  # fmt: skip


def worst_class(recall: Mapping[str, float], before: Mapping[str, float]) -> str:
    """The class whose recall changed for the worst, in points: rare classes suffer first."""
    name = min(before, key=lambda each: recall.get(each, 0.0) - before[each])
    return f"{name} {100 * (recall.get(name, 0.0) - before[name]):+.1f}"


def remark(row: Row, before: Row) -> str:
    """What a reader has to know about a row besides its figures; may be empty."""
    if "accuracy" not in row:
        return str(row["reason"])
    same = COMPRESSION_VARIANTS[row["row"]].compressor == "low_rank" and row["params"] == before["params"]
    return str(row.get("parity") or ("no layer is predicted to gain, so none changed" if same else ""))


def line(row: Row) -> str:
    """A row in words, for the log."""
    begin = f"{row['net']}, {row['what']}: "
    if "accuracy" not in row:
        return begin + str(row["reason"])
    return begin + f"{row['accuracy']:.2%}, {row['speedup_p5']:.2f} times as fast"


def say(text: str) -> None:
    """Tell what is being done, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Train, compress, measure, print a table and the facts, write the JSON file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--target", default="cpu", help="a target that is measured on this machine")
    parser.add_argument("--nets", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--rows", nargs="+", choices=COMPRESSION_VARIANTS, default=list(COMPRESSION_VARIANTS))
    parser.add_argument("--epochs", type=float, default=1.0, help="factor on the epochs of all trainings")
    parser.add_argument("--teacher", choices=FAMILIES, help="a net instead of the most accurate one")
    parser.add_argument("--cache", type=Path, default=Path("runs/compression-bench"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of training")
    parser.add_argument("--no-facts", action="store_true")
    parser.add_argument("--time-again", action="store_true", help="time the files of finished rows anew")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    data, profile = load_data(args.dataset, args.data), load_target(args.target)
    runtime = load("runtime", profile.runtime)
    words = list(dict.fromkeys([*args.nets, *([args.teacher] if args.teacher else [])]))
    nets = {
        word: TrainedNet(word, data, epoch_scale=args.epochs, cache_dir=args.cache, log=say).load_or_train()
        for word in words
    }
    plain = {
        w: CompressionBenchmark(net, profile, runtime, cache_dir=args.cache, teacher=None).row(FP32)
        for w, net in nets.items()
    }
    best = args.teacher or max(nets, key=lambda word: float(plain[word]["accuracy"]))
    rows: list[Row] = []
    for word in args.nets:
        teacher = nets[best] if word != best else None
        bench = CompressionBenchmark(nets[word], profile, runtime, cache_dir=args.cache, teacher=teacher)
        for form in args.rows:
            rows.append(bench.retime(form) if args.time_again else bench.row(form))
            say(line(rows[-1]))
    lines = [cells_of(row, plain[row["net"]]) for row in rows if "accuracy" in row]
    if args.markdown:
        print("\n".join(f"| {' | '.join(cells)} |" for cells in (HEADS, ["---"] * len(HEADS), *lines)))
    else:
        console.print(table(lines))
    for row in rows:
        if remark(row, plain[row["net"]]):
            console.print(f"{row['net']}, {row['what']}: {remark(row, plain[row['net']])}", markup=False)
    told = f"{data.val_name}, {len(data.val):,} faces{', synthetic' if data.synthetic else ''}"
    error = 50 / len(data.val) ** 0.5
    console.print(
        f"accuracy: {told}, one standard error at most {error:.1f} points; latency: {profile.title}; teacher: {best}"
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
