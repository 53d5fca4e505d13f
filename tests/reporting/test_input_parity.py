"""Parity of input forms: what agrees passes, and the smallest disagreement is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nas.errors import ParityError
from nas.input_form import WORDS, requested_form
from nas.onnx_export.input_rewrite import with_input_form
from nas.reporting.input_parity import check_input_parity, parity_pictures
from tests.fake_models import a_classifier


@pytest.mark.parametrize(("words", "sizes"), [(("uint8",), 1), (WORDS, 9)])
def test_a_rewritten_file_sees_the_same_bytes(tmp_path: Path, words: tuple[str, ...], sizes: int) -> None:
    plain, changed = a_classifier(tmp_path / "plain.onnx"), tmp_path / "changed.onnx"
    form = requested_form(words, (1, 8, 8))
    onnx.save(with_input_form(onnx.load(plain), form), changed)
    parity = check_input_parity(plain, changed, form)
    assert len(parity.sizes) == sizes
    assert parity.n_images >= 32
    assert parity.n_pixels == 64 * parity.n_images
    assert (parity.differing_pixels, parity.agreement) == (0, 1.0)
    assert parity.max_difference <= 1e-6
    assert parity.to_dict()["versions"]["onnxruntime"]


@pytest.mark.parametrize(
    ("constant", "factor", "fault"),
    [
        ("input_form/grey.weights", 0.999, r"[1-9][0-9,]* of 2,304 pixels differ"),
        ("input_form/resize/height.half", 0.99, r"[1-9][0-9,]* of 2,304 pixels differ"),
        ("weights", 1.001, r" 0 of 2,304 pixels differ, probabilities differ by"),
    ],
)
def test_a_file_that_computes_something_else_is_refused(
    tmp_path: Path, constant: str, factor: float, fault: str
) -> None:
    plain, changed = a_classifier(tmp_path / "plain.onnx"), tmp_path / "changed.onnx"
    form = requested_form(WORDS, (1, 8, 8))
    model = with_input_form(onnx.load(plain), form)
    tensor = next(t for t in model.graph.initializer if t.name == constant)
    tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * factor).astype(np.float32), constant))
    onnx.save(model, changed)
    with pytest.raises(ParityError, match=fault):
        check_input_parity(plain, changed, form)


def test_pictures_are_the_same_each_time_and_of_the_forms_colour() -> None:
    form = requested_form(["any-size", "rgb"], (1, 8, 8))
    first, second = list(parity_pictures(form)), list(parity_pictures(form))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert {picture.shape[2] for picture in first} == {3}
    assert max(max(picture.shape[:2]) for picture in first) == 31 * 8
