"""Training through the rounding: what learns, what stays, and that the frozen graph computes what its file does."""

from pathlib import Path

import pytest
import torch
from torch import fx, nn

from nas._fold import module_nodes, module_of
from nas.compressors._learned import freeze, learn
from nas.compressors.quantize import COMPRESSOR
from nas.data._base import Split
from nas.execution import Execution
from nas.export import export, fold, parity
from nas.recipe import Recipe
from nas.runtimes.onnxruntime import RUNTIME
from nas.train import train
from tests.random_nets import CLASSES, SHAPE, SPACES, context_of, labels_of, pictures, trained_net

FORMS = [Execution(), Execution(memory_format="channels_last", precision="bf16")]


def quantised(word: str, **options: int) -> fx.GraphModule:
    found = trained_net(word, seed=1, attention="se")
    bits = dict.fromkeys(found.units, 8) | options
    return COMPRESSOR.on_graph(fold(found.net, input_shape=SHAPE), context_of(bits))


def outputs(graph: nn.Module, *, count: int = 64) -> torch.Tensor:
    with torch.no_grad():
        return graph(torch.from_numpy(pictures(count, seed=5)).float())


def fit(net: nn.Module, *, execution: Execution = FORMS[0], lr: float = 1e-3) -> None:
    images = pictures(256, seed=1)
    recipe = Recipe(lr=lr, batch_size=32)
    train(
        net,
        Split(images=images, labels=labels_of(images)),
        classes=4,
        epochs=2,
        recipe=recipe,
        execution=execution,
        seed=0,
    )


@pytest.mark.parametrize("word", SPACES)
@pytest.mark.parametrize("steps", [False, True])
def test_before_a_step_the_trainable_form_computes_what_the_frozen_one_does(word: str, steps: bool) -> None:
    graph = quantised(word)
    before = outputs(graph)
    learn(graph, steps=steps)
    with torch.no_grad():
        assert torch.allclose(outputs(graph), before, atol=0.05)  # sums round otherwise: a value may change its level
        assert (outputs(graph).argmax(1) == before.argmax(1)).float().mean() >= 0.98
    freeze(graph)
    assert torch.allclose(outputs(graph), before, atol=0.02)


@pytest.mark.parametrize("word", SPACES)
@pytest.mark.parametrize("form", FORMS, ids=["fp32", "bf16"])
@pytest.mark.parametrize("steps", [False, True])
def test_what_was_learned_is_what_the_file_computes(word: str, form: Execution, steps: bool, tmp_path: Path) -> None:
    graph = quantised(word)
    learn(graph, steps=steps)
    weights = [p.detach().clone() for p in graph.parameters()]
    fit(graph, execution=form)
    assert all(not torch.equal(a, b) for a, b in zip(weights, graph.parameters(), strict=True) if a.ndim > 1)
    freeze(graph)
    kinds = {type(module_of(graph, node)).__name__ for node in module_nodes(graph)}
    assert not [kind for kind in kinds if kind.startswith("Learned")]
    file = export(graph, tmp_path / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    result = parity(graph, RUNTIME.load(file.path), pictures(200, seed=3), path=file.path)
    assert result.clear_agreement >= 0.99
    assert result.max_difference <= 0.05
