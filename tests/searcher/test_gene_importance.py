"""Gene importance, of trials whose good values depend on one gene only."""

from pathlib import Path

import pytest

from tests.fake_runs import some_record
from tests.fake_studies import a_study


def test_importance_is_empty_with_few_trials_and_then_highest_for_the_gene_that_matters(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    assert study.importance() == {}
    for number in range(24):
        ask = study.ask()
        wide, pools = ask.picked["width"] == 24, ask.picked["operation"] == "pool"
        # Good values depend on the width alone, the worst ones on the pooling.
        accuracy, latency = 0.9 if wide else 0.5 - 0.3 * pools, 1.0 if wide else 2.0 + 5 * pools
        study.tell(ask, some_record(number, accuracy, latency))
    found = study.importance()
    assert set(found) == {"accuracy", "latency"}
    for shares in found.values():
        assert shares["width"] > 0.9
        assert sum(shares.values()) == pytest.approx(1)
