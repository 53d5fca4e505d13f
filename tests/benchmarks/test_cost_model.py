"""Costs predicted before a net is built: sums of the columns exactly, anything else with the right uncertainty."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.cost_model import N_INITIAL, main, predict_costs
from tests.searcher.acquisition.test_surrogate import Bench

RNG = np.random.default_rng(0)
COLUMNS = RNG.integers(1, 40, (90, 5)).astype(np.float64)
FEATURES = np.log2(COLUMNS[:, :3])
COEFFICIENTS = np.array([3.0, 0.2, 1.0, 0.05, 0.4])


def test_sums_of_the_columns_are_predicted_from_rough_initial_coefficients() -> None:
    errors, deviations = predict_costs(COLUMNS, FEATURES, COLUMNS @ COEFFICIENTS, COEFFICIENTS**0.8)
    assert len(errors) == len(deviations) == len(COLUMNS) - N_INITIAL
    assert np.abs(errors[40:]).mean() < 0.02
    assert (np.abs(errors) <= 2 * deviations).mean() > 0.9


def test_predicted_deviation_matches_the_noise_of_the_costs() -> None:
    noise = np.random.default_rng(1).normal(0, 0.3, len(COLUMNS))
    errors, deviations = predict_costs(COLUMNS, FEATURES, (COLUMNS @ COEFFICIENTS) * np.exp(noise), COEFFICIENTS)
    assert errors[40:].std() == pytest.approx(0.3, rel=0.3)
    assert deviations[40:].mean() == pytest.approx(0.3, rel=0.3)


def test_one_line_per_run_and_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, rng = Bench(tmp_path), np.random.default_rng(2)
    for number in range(40):
        bench.folder.append(bench.record(number, bench.some_params(rng)))
    bench.folder.write("data.json", '{"classes": ["angry", "happy"]}')
    monkeypatch.setattr("sys.argv", ["cost_model", str(bench.folder.path)])
    main()
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["run", "cost", "exported"]
    for line, cost in zip(lines, ("latency", "size"), strict=True):
        assert line.split()[:3] == [bench.folder.path.name, cost, "40"]
        assert float(line.split()[3].rstrip("%")) < 25
