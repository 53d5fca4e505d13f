"""Random candidates as untrained files."""

from pathlib import Path

import onnx
import pytest

from nas.targets.calibration_sample import CalibrationCandidates
from nas.targets.catalog import load_target
from nas.targets.random_candidates import with_uniform_bits


@pytest.mark.parametrize("shape", [(1, 48, 48), (3, 50, 44)])
def test_int8_network_is_exported(shape: tuple[int, int, int], tmp_path: Path) -> None:
    nets = CalibrationCandidates(profile=load_target("cpu"), spaces=("plain",), input_shape=shape)
    (candidate,) = nets.draw(1, seed=0)
    path, counted = nets.export(with_uniform_bits(candidate, 8), tmp_path)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(path).graph.node}
    assert any(kernel.bits == 8 and kernel.macs for kernel in counted.kernels)
