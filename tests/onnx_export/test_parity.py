"""Parity gate on files that are correct, changed or truncated, and on images at a tie of two classes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nas.errors import ParityError
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import check_parity, compute_parity, parity_tolerance, torch_probabilities
from nas.runtimes.backends.onnxruntime import RUNTIME
from tests.random_nets import SHAPE, exported, pictures, random_net


def test_a_correct_file_passes_the_gate(tmp_path: Path) -> None:
    net, images = random_net("darts", seed=5).net, pictures(16, seed=1)
    graph, file = fold(net, input_shape=SHAPE), exported(net, tmp_path)
    result = check_parity(graph, RUNTIME.load(file.path), images, path=file.path)
    assert result.max_difference <= 1e-4
    assert (result.agreement, result.n_images) == (1.0, 16)


def broken(path: Path, weight: str) -> Path:
    """A copy of the file with one number of one weight changed."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == weight:
            values = numpy_helper.to_array(tensor).copy()
            values.flat[0] += 5
            tensor.CopyFrom(numpy_helper.from_array(values, weight))
    copy = path.with_name("broken.onnx")
    onnx.save(model, copy)
    return copy


@pytest.mark.parametrize("which", [0, 0.5, -1])
def test_the_first_diverging_node_is_named(which: float, tmp_path: Path) -> None:
    net, images = random_net("plain", seed=6, activation="hard_swish").net, pictures(16, seed=1)
    graph, file = fold(net, input_shape=SHAPE), exported(net, tmp_path)
    layers = [n.name for n in onnx.load(file.path).graph.node if n.op_type in ("Conv", "Gemm")]
    culprit = layers[int(which * len(layers))]
    path = broken(file.path, f"{culprit}.weight")
    with pytest.raises(ParityError, match=rf"broken\.onnx within 0.001 .* first diverging node: {culprit}$"):
        check_parity(graph, RUNTIME.load(path), images, path=path, load=RUNTIME.load, max_difference=1e-3)
    with pytest.raises(ParityError, match="was not searched for"):
        check_parity(graph, RUNTIME.load(path), images, path=path, max_difference=1e-3)


def test_parity_needs_images_and_equal_shapes(tmp_path: Path) -> None:
    net = random_net("plain", seed=0).net
    graph, file = fold(net, input_shape=SHAPE), exported(net, tmp_path)
    session = RUNTIME.load(file.path)
    with pytest.raises(ParityError, match="must be checked on images, but got none"):
        compute_parity(graph, session, pictures(0, seed=0), path=file.path)

    class Cut:
        def predict(self, images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return session.predict(images)[:, :2]

        def close(self) -> None: ...

    with pytest.raises(ParityError, match=r"must give probabilities \(3, 4\), but gave \(3, 2\)"):
        compute_parity(graph, Cut(), pictures(3, seed=0), path=file.path)


@pytest.mark.parametrize(("lead", "clear"), [(0.01, 1.0), (0.03, 0.5)])
def test_a_tie_may_be_resolved_either_way(monkeypatch: pytest.MonkeyPatch, lead: float, clear: float) -> None:
    says = np.array([[0.5, 0.5 - lead, lead], [0.9, 0.05, 0.05]], dtype=np.float32)
    monkeypatch.setattr("nas.onnx_export.parity.torch_probabilities", lambda graph, images: says)

    class Swapped:
        def predict(self, images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return says[:, [1, 0, 2]] * [[1], [0]] + says * [[0], [1]]

        def close(self) -> None: ...

    net = random_net("plain", seed=0).net
    result = compute_parity(fold(net, input_shape=SHAPE), Swapped(), pictures(2, seed=0), path=Path("model.onnx"))
    assert (result.agreement, result.non_tie_agreement) == (0.5, clear)
    assert result.max_difference == pytest.approx(lead)


def test_batches_give_the_same_probabilities() -> None:
    graph = fold(random_net("plain", seed=0).net, input_shape=SHAPE)
    images = pictures(7, seed=0)
    np.testing.assert_allclose(
        torch_probabilities(graph, images, batch_size=3), torch_probabilities(graph, images), atol=1e-5
    )


def test_the_tolerance_grows_with_lower_precision() -> None:
    assert (
        parity_tolerance({"stem": 32})
        < parity_tolerance({"stem": 32, "head": 16})
        < parity_tolerance({"stem": 8, "head": 16})
    )
