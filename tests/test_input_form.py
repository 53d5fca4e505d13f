"""Input forms: words, dimensions, arrays, and what metadata may state."""

import json

import numpy as np
import pytest

from nas.input_form import (
    INPUT_FORM_PROPERTY,
    WORDS,
    InputForm,
    derived_form,
    max_side,
    read_input_form,
    requested_form,
)

NETWORK = (1, 48, 40)


@pytest.mark.parametrize(
    ("words", "text", "dims"),
    [
        ((), "float32 [N, 1, 48, 40], grey, pixel values 0..255", [0, 1, 48, 40]),
        (("uint8",), "uint8 [N, 1, 48, 40], grey, pixel values 0..255", [0, 1, 48, 40]),
        (("nhwc",), "float32 [N, 48, 40, 1], grey, pixel values 0..255", [0, 48, 40, 1]),
        (("rgb",), "float32 [N, 3, 48, 40], rgb, pixel values 0..255", [0, 3, 48, 40]),
        (WORDS, "uint8 [N, height, width, 3], rgb, pixel values 0..255, sides up to 4096 pixels", [0, 0, 0, 3]),
    ],
)
def test_words_give_a_form_that_its_metadata_state(words: tuple[str, ...], text: str, dims: list[int]) -> None:
    form = requested_form(words, NETWORK)
    assert form.describe() == text
    assert set(form.words) == set(words)
    assert form.is_plain == (not words)
    assert read_input_form({INPUT_FORM_PROPERTY: form.to_json()}, dims) == form


def test_rgb_changes_nothing_of_a_network_in_colour() -> None:
    assert requested_form(["rgb"], (3, 8, 8)).is_plain


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--input must be among uint8, any-size, nhwc, rgb, .* but got 'uint16'"):
        requested_form(["uint8", "uint16"], NETWORK)


def test_pictures_are_ordered_as_the_form_says() -> None:
    pictures = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    given = requested_form(["nhwc"], (3, 4, 5)).to_input(pictures)
    assert given.dtype == np.float32
    assert given.shape == (2, 4, 5, 3)
    assert given[1, 2, 3, 1] == pictures[1, 1, 2, 3]


def test_without_a_statement_there_is_no_form() -> None:
    assert read_input_form({"labels": "[]"}, [0, 1, 48, 48]) is None


STATED = json.loads(requested_form(WORDS, NETWORK).to_json())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("not json", "must be the JSON of one"),
        ("[]", "must be the JSON of one"),
        (json.dumps(STATED | {"colour": "infrared"}), "must be the JSON of one"),
        (json.dumps(STATED | {"network": 5}), "must be the JSON of one"),
        (json.dumps(STATED | {"layout": "NCHWN"}), "has a value that no form has"),
        (json.dumps(STATED | {"dtype": "float64"}), "has a value that no form has"),
        (json.dumps(STATED | {"network": [1, 48, -1]}), "has a value that no form has"),
        (json.dumps(STATED | {"network": [1, 48]}), "has a value that no form has"),
        (json.dumps(STATED | {"height": 48, "width": "wide"}), "has a value that no form has"),
        (json.dumps(STATED | {"layout": "NCHW"}), r"takes uint8 \[N, 3, height, width\].* but its input is"),
    ],
)
def test_a_statement_that_no_file_can_mean_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_input_form({INPUT_FORM_PROPERTY: text}, [0, 0, 0, 3])


@pytest.mark.parametrize(
    ("dims", "dtype", "layout"),
    [
        ([0, 1, 48, 48], "float32", "NCHW"),
        ([1, 3, 8, 6], "uint8", "NCHW"),
        ([0, 48, 48, 3], "float32", "NHWC"),
        ([0, 3, 0, 0], "float32", None),
        ([0, 7, 8, 9], "float32", None),
        ([0, 64], "float32", None),
        ([0, 1, 8, 8], "int64", None),
    ],
)
def test_a_form_is_derived_where_dimensions_tell_it(dims: list[int], dtype: str, layout: str | None) -> None:
    form = derived_form(dims, dtype)
    assert (form.layout if form else None) == layout


def test_sums_of_weights_stay_below_the_bound_of_the_longest_side() -> None:
    for side in (1, 8, 32, 48, 112, 512):
        longest = max_side(side)
        triangle = [max(0, 2 * longest - abs((2 * x + 1) * side - longest)) for x in range(longest)]  # of pixel 0
        middle = (side // 2) * 2 + 1
        centre = [max(0, 2 * longest - abs((2 * x + 1) * side - middle * longest)) for x in range(longest)]
        assert max(sum(triangle), sum(centre)) < 2**20
    assert InputForm(channels=1, size=(5, 9), network=(1, 5, 9)).max_side == 9
