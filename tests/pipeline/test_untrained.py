"""Drafts: nothing is left behind, and nothing built that need not be."""

from collections.abc import Callable
from typing import Any

import pytest

import nas.evaluation.untrained
import nas.training.model_builder
from nas.errors import ExportError
from nas.pipeline import Evaluator
from tests.tiny_evaluator import Make, small


def test_drafts_leave_no_file_behind(make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = make()
    draft = evaluator.evaluate_untrained(small())
    assert draft.size_bytes > draft.costs.params > 0
    assert draft.host_latency is None

    def fails(*_: Any, **__: Any) -> None:
        raise ExportError("no")

    monkeypatch.setattr(nas.evaluation.untrained, "compute_costs", fails)
    with pytest.raises(ExportError, match="no"):
        evaluator.evaluate_untrained(small())
    assert list((evaluator.folder.path / "models").iterdir()) == []


@pytest.mark.parametrize(("limits", "built"), [({}, 2), ({"max_size": 1e3}, 1), ({"max_latency": 1e-4}, 1)])
def test_the_float_twin_of_what_breaks_a_limit_is_not_even_built(
    make: Make, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], built: int
) -> None:
    evaluator, graphs = make(target="cpu", **limits), []
    graph = nas.training.model_builder.ModelBuilder.compress_graph

    def counted(*arguments: Any, **more: Any) -> Any:
        graphs.append(more)
        return graph(*arguments, **more)

    monkeypatch.setattr(nas.training.model_builder.ModelBuilder, "compress_graph", counted)
    draft = evaluator.evaluate_untrained(small(bits_of_stage1=8))
    assert [more["shapes_only"] for more in graphs] == [True] * built
    assert (draft.int8_speedup is not None) == (built == 2)
