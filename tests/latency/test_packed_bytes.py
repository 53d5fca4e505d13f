"""Packed size of a model: equal for file and model, near gzip's, and falling with zeros."""

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nas.latency.costs import packed_bytes


def model_of(weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph([], "weights", [], [], [numpy_helper.from_array(weights, "weight")])
    return helper.make_model(graph)


def test_a_model_packs_as_its_file_does(tmp_path: Path) -> None:
    model = model_of(np.random.default_rng(0).normal(size=10_000).astype(np.float32))
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString(deterministic=True))
    assert packed_bytes(file) == packed_bytes(model)


def test_it_equals_the_body_of_a_gzip_file(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(model_of(np.arange(5_000, dtype=np.float32)).SerializeToString())
    zlib_frame, gzip_frame = 6, 18
    assert packed_bytes(file) - zlib_frame == len(gzip.compress(file.read_bytes(), 9)) - gzip_frame


def test_sizes_fall_with_zeros_but_stay_above_their_entropy() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=50_000).astype(np.float32)
    sizes = []
    for share in (0.0, 0.5, 0.75, 0.9):
        kept = np.where(rng.random(weights.size) < share, np.float32(0), weights)
        sizes.append(packed_bytes(model_of(kept)))
        assert sizes[-1] > (1 - share) * weights.size * 24 / 8  # the mantissa of a random number has nothing to pack
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.25 * sizes[0]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        packed_bytes(tmp_path / "absent.onnx")
