"""Checks of a file before post-training work."""

from pathlib import Path

import onnx
import pytest

from nas.errors import ConfigError
from nas.input_form import requested_form
from nas.onnx_export.input_rewrite import with_input_form
from nas.post_training.onnx_checks import check_input
from tests.fake_models import a_classifier


def test_a_file_of_another_input_form_is_refused_and_the_plain_one_taken(tmp_path: Path) -> None:
    path = a_classifier(tmp_path / "m.onnx")
    check_input(path)
    form = requested_form(["uint8", "nhwc"], (1, 8, 8))
    onnx.save(with_input_form(onnx.load(path), form), path)
    with pytest.raises(ConfigError, match="was exported with --input uint8,nhwc; give the file from before"):
        check_input(path)
