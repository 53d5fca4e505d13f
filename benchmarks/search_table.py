"""How fast a sampler finds the front of a table of our own nets, trained on real faces and measured.

    python -m benchmarks.search_table --table benchmarks/data/fer2013_plain.csv --sampler NAME[,NAME...] \
        --trials 100 --seeds 8 --json OUT

The table is what benchmarks/fer_table.py makes of a run. It holds some points of a space, not all: whatever a sampler
proposes, the nearest row that was not asked is evaluated instead, the same for all samplers (benchmarks/_candidate_table.py). So
no trial repeats one. Prints and writes the share of the table's hypervolume after 25, 50, 100, ... trials; the
reference point is the lowest accuracy and the highest latency in the table. Accuracies are of one training each, with
its noise: what is found is the front of the table, not of the space. The samplers "screened..." may look up the
latency, the size, the parameters and the multiply-accumulates of what they would ask.
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


def bench(rows: _candidate_table.CandidateTable, options: Any) -> Benchmark:
    """The comparison that the flags ask for."""
    makers = sampler_factories(rows.space, **rows.sampler_context())
    trials = min(options.trials, len(rows.configurations))

    def answer(picked: Configuration) -> tuple[list[float], None]:
        return rows.values[rows.nearest([picked])[0]].tolist(), None

    def figures(name: str, seed: int) -> dict[str, Any]:
        sampler = _candidate_table.NearestRowSampler(makers[name](seed), rows)
        played = run_replay(sampler, rows.space, answer, trials=trials, limit_s=options.time_limit)
        shares = hypervolume_curve(rows.values[rows.nearest(played.configurations)], rows.hypervolume_share_of)
        return {
            "share": {str(b): shares[b - 1] for b in TRIAL_BUDGETS if b <= len(shares)},
            **played.summary,
            "curve": [round(share, 5) for share in shares],
        }

    return Benchmark(
        title=f"{len(rows.configurations)} rows: share of the table's hypervolume, mean of {options.seeds} seeds",
        facts={
            "table": options.table.name, "rows": len(rows.configurations), "genes": len(rows.space), "trials": trials,
            "accuracy": options.accuracy, "latency": options.latency, "reference": list(rows.ref_point),
            "hypervolume": rows.max_hypervolume,
        },
        samplers=list(makers),
        make=lambda name, seed: makers[name](seed),
        replay=figures,
        columns=((("seconds_per_trial",), "s/trial", "12.4f"),),
    )  # fmt: skip


def main() -> None:
    """Replay, print a table, write the JSON file if asked."""
    parser = make_parser(__doc__ or "", list(sampler_factories({})), trials=100, seeds=8)
    parser.add_argument("--table", type=Path, required=True, help="a CSV of benchmarks/fer_table.py")
    parser.add_argument("--accuracy", default="accuracy", help="column; more is better")
    parser.add_argument("--latency", default="latency_ms", help="column; less is better")
    options = parser.parse_args()
    rows = _candidate_table.read_table(options.table, options.accuracy, options.latency)
    options.trials = min(options.trials, len(rows.configurations))
    compare_samplers(bench(rows, options), options)


if __name__ == "__main__":
    main()
