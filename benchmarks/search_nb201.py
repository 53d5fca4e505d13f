"""How fast a sampler finds the front of a NAS-Bench-201 table whose true front is known.

    python -m benchmarks.search_nb201 --table FILE --accuracy c10_test_200 --proxy-accuracy c10_val_12 \
        --latency jetson_tx2_fp32_ms --sampler NAME[,NAME...] --trials 300 --seeds 8 --json OUT

Prints and writes, for each sampler, the mean over seeds (and each seed) of the share of the true hypervolume after 25,
50, 100, 200 and 300 evaluations. The reference point is (lowest value of the accuracy column, highest value of the
latency column) among connected cells that have both; volumes are on the columns' own scales. An evaluation is a trial:
repeats and cells without a path count. `share_distinct` counts each distinct cell once, as a search does that answers
repeats from its records. `regret` is the best accuracy under a limit that the table has, less the best found so far, in
the column's unit; the limits are the 10, 25 and 50 % quantiles of the latency of connected cells; printed are those
after 100 evaluations. The columns are told to the sampler as they are, without noise; a cell without a path is told as
infeasible. Seconds are the processor's.

The samplers "screened..." may look latency and connectedness up before they ask, as a search does that measures
untrained nets; "screened-blind" may not.

With `--proxy-accuracy` every replay is also made with a first look: the proxy accuracy, for 12/200 of the cost of a
full training, decides who is trained in full, see benchmarks/_low_fidelity.py. `with_looks` and `without_looks` tell what
was reached for its cost in full trainings, and the cost of 0.95, 0.98 and 0.99 of the true hypervolume.
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
"""Evaluations after which the regrets in the printed table are taken; the file has those of every budget."""


def scores(table: _nb201.Nb201Table, asked: list[int]) -> dict[str, Any]:
    """Figures of one replay of these cells, as the module's docstring says."""
    budgets = [b for b in TRIAL_BUDGETS if b <= len(asked)]
    distinct = list(dict.fromkeys(asked))
    limits = np.quantile(table.values[table.feasible, 1], QUANTILES)
    shares = hypervolume_curve(table.values[asked], table.hypervolume_share_of)
    return {
        "share": {str(b): shares[b - 1] for b in budgets},
        "share_distinct": {str(b): table.hypervolume_share(distinct[:b]) for b in budgets if b <= len(distinct)},
        "regret": {
            f"{q:.0%}": {str(b): regret(table, asked[:b], x) for b in budgets}
            for q, x in zip(QUANTILES, limits.tolist(), strict=True)
        },
        "infeasible": float(np.mean(~table.feasible[asked])),
        "curve": [round(share, 5) for share in shares],
    }


def regret(table: _nb201.Nb201Table, asked: list[int], limit: float) -> float:
    """Best accuracy within the limit less the best asked; the whole range if none asked is within."""
    within = np.where(table.values[:, 1] <= limit, table.values[:, 0], np.nan)
    found = within[asked]
    best = np.nanmax(found) if np.isfinite(found).any() else table.ref_point[0]
    return float(np.nanmax(within) - best)


def bench(table: _nb201.Nb201Table, options: argparse.Namespace) -> Benchmark:
    """The comparison that the flags ask for."""
    makers = sampler_factories(_nb201.SPACE, **_nb201.sampler_context(table))

    def answer(picked: Configuration) -> tuple[Sequence[float], bool]:
        cell = _nb201.cell_index(picked)
        feasible = bool(table.feasible[cell])
        return (table.values[cell].tolist() if feasible else table.ref_point), feasible

    def figures(name: str, seed: int) -> dict[str, Any]:
        played = run_replay(makers[name](seed), _nb201.SPACE, answer, trials=options.trials, limit_s=options.time_limit)
        asked = [_nb201.cell_index(p) for p in played.configurations]
        trained = [cell if table.feasible[cell] else None for cell in asked]
        paid = np.cumsum([cell is not None for cell in trained]).tolist()
        found = {
            **scores(table, asked),
            **played.summary,
            "without_looks": _low_fidelity.summarize(table, paid, trained),
        }
        if options.proxy_accuracy:
            limits = {"trials": 2 * options.trials, "limit_s": options.time_limit}
            found["with_looks"] = _low_fidelity.run_search(table, makers[name](seed), **limits)
        return found

    return Benchmark(
        title=f"{options.accuracy} and {options.latency}: share of the true hypervolume, mean of {options.seeds} seeds",
        facts={
            "table": options.table.name, "accuracy": options.accuracy, "proxy_accuracy": options.proxy_accuracy,
            "latency": options.latency, "trials": options.trials, "reference": list(table.ref_point),
            "hypervolume": table.max_hypervolume,
        },
        samplers=list(makers),
        make=lambda name, seed: makers[name](seed),
        replay=figures,
        columns=(
            (("duplicates",), "repeats", "9.1%"),
            (("seconds_per_trial",), "s/trial", "10.4f"),
            *((("regret", f"{q:.0%}", str(REGRET_AT)), f"regret {q:.0%}", "12.3f") for q in QUANTILES),
            (("without_looks", "cost_to_reach", "0.98"), "cost of 0.98", "14.1f"),
            (("with_looks", "cost_to_reach", "0.98"), "with looks", "14.1f"),
        ),
    )  # fmt: skip


def main() -> None:
    """Replay, print a table, write the JSON file if asked."""
    parser = make_parser(__doc__, list(sampler_factories(_nb201.SPACE)), trials=300, seeds=8)
    parser.add_argument("--table", type=Path, required=True, help="a .csv or .csv.gz, see benchmarks/_nb201.py")
    parser.add_argument("--accuracy", required=True, help="column; more is better")
    parser.add_argument("--proxy-accuracy", help="column of a cheaper accuracy")
    parser.add_argument("--latency", required=True, help="column; less is better")
    options = parser.parse_args()
    table = _nb201.read_table(options.table, options.accuracy, options.latency, options.proxy_accuracy)
    compare_samplers(bench(table, options), options)


if __name__ == "__main__":
    main()
