"""Contract of every runtime: numpy's results on a small file, bound runs, closed sessions, clear errors."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from nas import registry
from nas.errors import MeasureError
from nas.runtimes.base import Backend, Runtime, Session

CLASSES = 3
WEIGHTS = np.random.default_rng(0).normal(0, 0.01, (1 * 4 * 4, CLASSES)).astype(np.float32)


@pytest.fixture(params=registry.names("runtime"))
def runtime(request: pytest.FixtureRequest) -> Runtime:
    member: Backend = registry.load("runtime", request.param)
    assert member.name == request.param
    if reason := member.unavailable_reason():
        pytest.skip(reason)
    assert isinstance(member, Runtime)
    return member


@pytest.fixture(params=["N", 1])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of softmax(pixels @ WEIGHTS), with an open batch or for one image."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [request.param, 1, 4, 4])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [request.param, CLASSES])
    graph = helper.make_graph(nodes, "linear", [image], [output], [numpy_helper.from_array(WEIGHTS, "weights")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    save(made, tmp_path / "linear.onnx")
    return tmp_path / "linear.onnx"


@pytest.fixture
def session(runtime: Runtime, model: Path) -> Session:
    return runtime.load(model)


@pytest.mark.parametrize("count", [1, 300])
def test_probabilities_equal_those_of_numpy(session: Session, count: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    logits = images.reshape(count, -1).astype(np.float64) @ WEIGHTS
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = session.predict(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_bound_run_can_be_repeated_and_does_not_change_predictions(session: Session) -> None:
    images = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    before = session.predict(images)
    run = session.bound_run(images)
    for _ in range(3):
        run()
    np.testing.assert_array_equal(session.predict(images), before)


def test_images_of_another_size_are_refused(session: Session) -> None:
    with pytest.raises(MeasureError, match="must fit the input"):
        session.bound_run(np.zeros((1, 1, 5, 5), np.uint8))


def test_a_closed_session_is_an_error(session: Session) -> None:
    session.close()
    with pytest.raises(MeasureError, match="must be open"):
        session.predict(np.zeros((1, 1, 4, 4), np.uint8))


def test_a_file_that_is_no_onnx_file_is_refused_in_one_line(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(MeasureError, match=r"bad\.onnx") as caught:
        runtime.load(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


def test_versions_are_reported(runtime: Runtime) -> None:
    assert runtime.versions()
    assert all(runtime.versions().values())
