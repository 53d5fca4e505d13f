"""How well a search foresees costs: sums are foreseen, what is not a sum is foreseen badly and known to be."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.cost_model import LEAST, guesses, main
from tests.searcher.acquisition.test_surrogate import Bench

RNG = np.random.default_rng(0)
COLUMNS = RNG.integers(1, 40, (90, 5)).astype(np.float64)
TRAITS = np.log2(COLUMNS[:, :3])
PRICES = np.array([3.0, 0.2, 1.0, 0.05, 0.4])


def test_what_is_a_sum_of_the_columns_is_foreseen_though_the_prices_were_rough() -> None:
    errors, deviations = guesses(COLUMNS, TRAITS, COLUMNS @ PRICES, PRICES**0.8)
    assert len(errors) == len(deviations) == len(COLUMNS) - LEAST
    assert np.abs(errors[40:]).mean() < 0.02
    assert (np.abs(errors) <= 2 * deviations).mean() > 0.9


def test_what_follows_from_nothing_has_errors_of_its_own_spread_and_says_so() -> None:
    noise = np.random.default_rng(1).normal(0, 0.3, len(COLUMNS))
    errors, deviations = guesses(COLUMNS, TRAITS, (COLUMNS @ PRICES) * np.exp(noise), PRICES)
    assert errors[40:].std() == pytest.approx(0.3, rel=0.3)
    assert deviations[40:].mean() == pytest.approx(0.3, rel=0.3)


def test_each_run_and_cost_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, rng = Bench(tmp_path), np.random.default_rng(2)
    for number in range(40):
        bench.folder.append(bench.record(number, bench.pick(rng)))
    bench.folder.write("data.json", '{"classes": ["angry", "happy"]}')
    monkeypatch.setattr("sys.argv", ["foresight", str(bench.folder.path)])
    main()
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["run", "cost", "drafted"]
    for line, cost in zip(lines, ("latency", "size"), strict=True):
        assert line.split()[:3] == [bench.folder.path.name, cost, "40"]
        assert float(line.split()[3].rstrip("%")) < 25
