"""The Jetson profiles against published TensorRT FP16 latencies at batch 1, board by board.

    python benchmarks/jetson_profiles.py --table jetson_latency.csv

The table's columns: device, model, precision, batch, latency_ms, runtime, source_repo. Rows of the publisher whose
figures the constants were fitted to are shown apart from all others, which were not used. An error is that of the
published figure relative to the prediction, as `relative_error` in the profiles is.
"""

import argparse
import csv
import statistics
from dataclasses import dataclass
from pathlib import Path

from published_nets import NETS

from nas.latency.roofline import predict
from nas.targets import target

FITTED_TO = "Nota-NetsPresso/netspresso-trainer"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published figure beside the profile's prediction, in ms."""

    board: str
    model: str
    source: str
    published_ms: float
    predicted_ms: float
    inside: bool

    @property
    def error(self) -> float:
        """Of the published figure, relative to the prediction."""
        return self.published_ms / self.predicted_ms - 1


def rows(table: Path) -> list[Row]:
    """The rows of the table whose net is known here."""
    found = []
    with table.open(newline="") as file:
        for entry in csv.DictReader(file):
            model = entry["model"].lower().removesuffix("_bn")
            plain = entry["runtime"] in {"tensorrt", "tensorrt(torch2trt)"} and entry["precision"] == "fp16"
            if not plain or model not in NETS or entry["batch"] != "1" or not entry["latency_ms"]:
                continue
            board = "jetson-" + entry["device"].replace("_", "-")
            predicted, published = predict(NETS[model](), target(board)), float(entry["latency_ms"])
            found.append(
                Row(
                    board=board,
                    model=entry["model"],
                    source=entry["source_repo"],
                    published_ms=published,
                    predicted_ms=predicted.latency_ms,
                    inside=predicted.low_ms <= published <= predicted.high_ms,
                )
            )
    return found


def main() -> None:
    """Print every row, then the errors of fitted and of held-out rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    found = rows(parser.parse_args().table)
    for r in found:
        print(f"{r.board:20} {r.model:20} {r.published_ms:8.2f} {r.predicted_ms:8.2f} {r.error:+7.0%}  {r.source}")
    for name, group in (
        ("fitted to", [r for r in found if r.source == FITTED_TO]),
        ("not used", [r for r in found if r.source != FITTED_TO]),
    ):
        errors = [abs(r.error) for r in group]
        if errors:
            print(
                f"{name}: {len(group)} rows, median error {statistics.median(errors):.0%}, "
                f"{sum(r.inside for r in group)} inside the interval"
            )


if __name__ == "__main__":
    main()
