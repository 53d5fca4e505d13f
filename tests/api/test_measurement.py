"""The input of files that are to be measured."""

from pathlib import Path

import onnx
import pytest

from nas.api.measurement import read_input_shape
from nas.errors import ConfigError
from nas.input_form import requested_form
from nas.onnx_export.input_rewrite import with_input_form
from tests.fake_models import a_classifier


def test_a_file_of_any_size_is_measured_at_the_size_of_its_network(tmp_path: Path) -> None:
    path = a_classifier(tmp_path / "m.onnx", shape=(1, 8, 6))
    assert read_input_shape(path) == (1, 8, 6)
    form = requested_form(["any-size", "nhwc", "rgb"], (1, 8, 6))
    onnx.save(with_input_form(onnx.load(path), form), path)
    assert read_input_shape(path) == (8, 6, 3)


def test_an_open_size_without_a_form_is_refused(tmp_path: Path) -> None:
    path = a_classifier(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, path)
    with pytest.raises(ConfigError, match=r"fixed C, H and W .* but has \[0, 1, 0, 8\]"):
        read_input_shape(path)
