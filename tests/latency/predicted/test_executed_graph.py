"""Executed nodes as kernels: rules on hand-made nodes, and the sums of a real file against its own graph."""

from dataclasses import replace
from pathlib import Path

import pytest

from nas.latency.costs import compute_costs
from nas.latency.predicted.executed_graph import executed_costs, kernel_from_node
from nas.runtimes.base import ExecutedNode
from nas.runtimes.reference_network import INPUT_SHAPE, reference_path
from nas.targets.catalog import load_target

CONV = ExecutedNode(
    name="c", op_type="nchwc.Conv", fused_activation="HardSwish", input_shape=(1, 32, 12, 12),
    output_shape=(1, 64, 6, 6), weight_shape=(64, 32, 3, 3), output_bits=32, input_bytes=18432, weight_bytes=73728,
    output_bytes=9216,
)  # fmt: skip


def test_a_convolution_has_the_macs_that_it_executes() -> None:
    found = kernel_from_node(CONV)
    assert (found.kind, found.bits, found.operators) == ("conv", 32, ("nchwc.Conv", "HardSwish"))
    assert found.macs == 64 * 6 * 6 * 32 * 9
    assert (found.in_channels, found.out_channels, found.groups) == (32, 64, 1)


@pytest.mark.parametrize(
    ("changed", "kind", "macs", "bits"),
    [
        ({"weight_shape": (64, 32, 1, 1)}, "pointwise", 64 * 36 * 32, 32),
        ({"weight_shape": (32, 1, 3, 3), "output_shape": (1, 32, 6, 6)}, "depthwise", 32 * 36 * 9, 32),
        ({"weight_shape": (64, 8, 3, 3)}, "grouped", 64 * 36 * 8 * 9, 32),
        ({"op_type": "Conv"}, "unblocked", 64 * 36 * 32 * 9, 32),
        (
            {"op_type": "QLinearConv", "is_channels_last": True, "input_shape": (1, 12, 12, 32), "output_bits": 8},
            "conv", 64 * 36 * 32 * 9, 8,
        ),
        (
            {"op_type": "Gemm", "input_shape": (1, 64), "output_shape": (1, 7), "weight_shape": (7, 64)},
            "linear", 448, 32,
        ),
        ({"op_type": "nchwc.ReorderOutput", "weight_shape": ()}, "reorder", 0, 32),
        ({"op_type": "QuantizeLinear", "weight_shape": (), "output_bits": 8}, "convert", 0, 8),
        ({"op_type": "QLinearAdd", "weight_shape": (), "output_bits": 8}, "elementwise", 0, 8),
        ({"op_type": "SomethingNew", "weight_shape": (), "output_bits": 64}, "elementwise", 0, 32),
    ],
)  # fmt: skip
def test_every_node_has_a_kind(changed: dict[str, object], kind: str, macs: int, bits: int) -> None:
    found = kernel_from_node(replace(CONV, **changed))
    assert (found.kind, found.macs, found.bits) == (kind, macs, bits)


def test_the_executed_macs_of_a_real_file_are_those_of_its_graph() -> None:
    counted = compute_costs(reference_path())
    found = executed_costs(reference_path(), counted, load_target("cpu"), input_shape=INPUT_SHAPE)
    assert found.macs >= counted.macs  # channels may be padded to a block, never left out
    assert found.macs <= 1.4 * counted.macs
    assert found.params == counted.params
    assert sum(k.macs > 0 for k in found.kernels) == 4
    assert all(k.profiled_us is not None and k.profiled_us >= 0 for k in found.kernels)
    assert len({k.name for k in found.kernels}) == len(found.kernels)  # however often it was run


def test_a_remote_device_keeps_the_fused_graph() -> None:
    counted = compute_costs(reference_path())
    assert executed_costs(Path("absent.onnx"), counted, load_target("jetson"), input_shape=INPUT_SHAPE) is counted
