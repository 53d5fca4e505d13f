"""Sample efficiency of samplers on a table of our own nets, trained on real faces and measured.

    python -m benchmarks.search_table --table benchmarks/data/fer2013_plain.csv --sampler NAME[,NAME...] \\
        --trials 100 --seeds 8 --json OUT

The table, written by benchmarks/fer_table.py, holds some points of a space. A proposal is therefore replaced by the
nearest row that was not evaluated yet, for all samplers alike (benchmarks/_candidate_table.py), so there are no
duplicates. Printed and written is the share of the table's hypervolume after 25, 50, 100, ... trials. The reference
point is the lowest accuracy and the highest latency in the table. Accuracies include the noise of one training each, so
the front is that of the table, not of the space. The samplers "screened..." may look up latency, size, parameters and
multiply-accumulates before they propose.
"""

from pathlib import Path
from typing import Any

from benchmarks import _candidate_table
from benchmarks._replays import (
    TRIAL_BUDGETS,
    Benchmark,
    Configuration,
    compare_samplers,
    hypervolume_curve,
    make_parser,
    run_replay,
)
from benchmarks._samplers import sampler_factories


def make_benchmark(rows: _candidate_table.CandidateTable, options: Any) -> Benchmark:
    """The comparison for these options."""
    factories = sampler_factories(rows.space, **rows.sampler_context())
    trials = min(options.trials, len(rows.configurations))

    def evaluate(configuration: Configuration) -> tuple[list[float], None]:
        return rows.values[rows.nearest([configuration])[0]].tolist(), None

    def figures(name: str, seed: int) -> dict[str, Any]:
        sampler = _candidate_table.NearestRowSampler(factories[name](seed), rows)
        search = run_replay(sampler, rows.space, evaluate, trials=trials, limit_s=options.time_limit)
        shares = hypervolume_curve(rows.values[rows.nearest(search.configurations)], rows.hypervolume_share_of)
        return {
            "share": {str(b): shares[b - 1] for b in TRIAL_BUDGETS if b <= len(shares)},
            **search.summary,
            "curve": [round(share, 5) for share in shares],
        }

    return Benchmark(
        title=f"{len(rows.configurations)} rows: share of the table's hypervolume, mean of {options.seeds} seeds",
        facts={
            "table": options.table.name, "rows": len(rows.configurations), "genes": len(rows.space), "trials": trials,
            "accuracy": options.accuracy, "latency": options.latency, "reference": list(rows.ref_point),
            "hypervolume": rows.max_hypervolume,
        },
        samplers=list(factories),
        make=lambda name, seed: factories[name](seed),
        replay=figures,
        columns=((("seconds_per_trial",), "s/trial", "12.4f"),),
    )  # fmt: skip


def main() -> None:
    """Run the replays, print the table, and write the JSON file if requested."""
    parser = make_parser(__doc__ or "", list(sampler_factories({})), trials=100, seeds=8)
    parser.add_argument("--table", type=Path, required=True, help="CSV file written by benchmarks/fer_table.py")
    parser.add_argument("--accuracy", default="accuracy", help="column of accuracy, maximised")
    parser.add_argument("--latency", default="latency_ms", help="column of latency, minimised")
    options = parser.parse_args()
    rows = _candidate_table.read_table(options.table, options.accuracy, options.latency)
    options.trials = min(options.trials, len(rows.configurations))
    compare_samplers(make_benchmark(rows, options), options)


if __name__ == "__main__":
    main()
