"""Sample efficiency of samplers on a NAS-Bench-201 table, whose true front is known.

    python -m benchmarks.search_nb201 --table FILE --accuracy c10_test_200 --proxy-accuracy c10_val_12 \\
        --latency jetson_tx2_fp32_ms --sampler NAME[,NAME...] --trials 300 --seeds 8 --json OUT

Printed and written are, for each sampler, means over seeds (the file also has each seed) of:

- the share of the true hypervolume after 25, 50, 100, 200 and 300 evaluations. The reference point is the lowest
  accuracy and the highest latency among connected cells that have both; volumes are on the columns' own scales;
- `share_distinct`, the same with each distinct cell counted once, as in a search that answers duplicates from its
  records. Elsewhere every trial is an evaluation, also a duplicate or a cell without a path;
- `regret`, the best accuracy in the table under a latency limit less the best found so far, in the column's unit. The
  limits are the 10, 25 and 50 % quantiles of the latency of connected cells; printed are those after 100 evaluations;
- processor seconds per trial.

The sampler receives the columns' values without noise; a cell without a path is infeasible. The samplers "screened..."
may look up latency and connectedness before they propose a cell, as in a search that measures untrained nets;
"screened-blind" may not.

With `--proxy-accuracy` every search is also run with a low-fidelity rung: the proxy accuracy, at 12/200 of the cost of
a full training, decides which candidates are promoted, see benchmarks/_low_fidelity.py. `with_looks` and
`without_looks` state the cost, in full trainings, of 0.95, 0.98 and 0.99 of the true hypervolume with and without the
rung.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _low_fidelity, _nb201
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

QUANTILES = (0.10, 0.25, 0.50)
REGRET_AT = 100
"""Number of evaluations of the printed regrets; the file has those of every budget."""


def scores(table: _nb201.Nb201Table, cells: list[int]) -> dict[str, Any]:
    """Figures of one replay that evaluated these cells; see the module."""
    budgets = [b for b in TRIAL_BUDGETS if b <= len(cells)]
    distinct = list(dict.fromkeys(cells))
    limits = np.quantile(table.values[table.feasible, 1], QUANTILES)
    shares = hypervolume_curve(table.values[cells], table.hypervolume_share_of)
    return {
        "share": {str(b): shares[b - 1] for b in budgets},
        "share_distinct": {str(b): table.hypervolume_share(distinct[:b]) for b in budgets if b <= len(distinct)},
        "regret": {
            f"{q:.0%}": {str(b): regret(table, cells[:b], x) for b in budgets}
            for q, x in zip(QUANTILES, limits.tolist(), strict=True)
        },
        "infeasible": float(np.mean(~table.feasible[cells])),
        "curve": [round(share, 5) for share in shares],
    }


def regret(table: _nb201.Nb201Table, cells: list[int], limit: float) -> float:
    """Best accuracy within the limit less the best evaluated; the whole range if none evaluated is within it."""
    within = np.where(table.values[:, 1] <= limit, table.values[:, 0], np.nan)
    evaluated = within[cells]
    best = np.nanmax(evaluated) if np.isfinite(evaluated).any() else table.ref_point[0]
    return float(np.nanmax(within) - best)


def make_benchmark(table: _nb201.Nb201Table, options: argparse.Namespace) -> Benchmark:
    """The comparison for these options."""
    factories = sampler_factories(_nb201.SPACE, **_nb201.sampler_context(table))

    def evaluate(configuration: Configuration) -> tuple[Sequence[float], bool]:
        cell = _nb201.cell_index(configuration)
        feasible = bool(table.feasible[cell])
        return (table.values[cell].tolist() if feasible else table.ref_point), feasible

    def figures(name: str, seed: int) -> dict[str, Any]:
        search = run_replay(
            factories[name](seed), _nb201.SPACE, evaluate, trials=options.trials, limit_s=options.time_limit
        )
        cells = [_nb201.cell_index(p) for p in search.configurations]
        trained = [cell if table.feasible[cell] else None for cell in cells]
        costs = np.cumsum([cell is not None for cell in trained]).tolist()
        result = {
            **scores(table, cells),
            **search.summary,
            "without_looks": _low_fidelity.summarize(table, costs, trained),
        }
        if options.proxy_accuracy:
            limits = {"trials": 2 * options.trials, "limit_s": options.time_limit}
            result["with_looks"] = _low_fidelity.run_search(table, factories[name](seed), **limits)
        return result

    return Benchmark(
        title=f"{options.accuracy} and {options.latency}: share of the true hypervolume, mean of {options.seeds} seeds",
        facts={
            "table": options.table.name, "accuracy": options.accuracy, "proxy_accuracy": options.proxy_accuracy,
            "latency": options.latency, "trials": options.trials, "reference": list(table.ref_point),
            "hypervolume": table.max_hypervolume,
        },
        samplers=list(factories),
        make=lambda name, seed: factories[name](seed),
        replay=figures,
        columns=(
            (("duplicates",), "duplicates", "11.1%"),
            (("seconds_per_trial",), "s/trial", "10.4f"),
            *((("regret", f"{q:.0%}", str(REGRET_AT)), f"regret {q:.0%}", "12.3f") for q in QUANTILES),
            (("without_looks", "cost_to_reach", "0.98"), "cost of 0.98", "14.1f"),
            (("with_looks", "cost_to_reach", "0.98"), "with a rung", "14.1f"),
        ),
    )  # fmt: skip


def main() -> None:
    """Run the replays, print the table, and write the JSON file if requested."""
    parser = make_parser(__doc__, list(sampler_factories(_nb201.SPACE)), trials=300, seeds=8)
    parser.add_argument(
        "--table", type=Path, required=True, help="CSV file (.csv or .csv.gz), see benchmarks/_nb201.py"
    )
    parser.add_argument("--accuracy", required=True, help="column of accuracy, maximised")
    parser.add_argument("--proxy-accuracy", help="column of low-fidelity accuracy")
    parser.add_argument("--latency", required=True, help="column of latency, minimised")
    options = parser.parse_args()
    table = _nb201.read_table(options.table, options.accuracy, options.latency, options.proxy_accuracy)
    compare_samplers(make_benchmark(table, options), options)


if __name__ == "__main__":
    main()
