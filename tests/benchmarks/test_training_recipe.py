"""The recipe benchmark: its paired interval against McNemar's formula, and the words for the training options."""

import numpy as np
import pytest

from benchmarks.training_recipe import changed, paired_gain
from nas.training.recipe import Recipe


def test_the_interval_is_that_of_mcnemars_counts() -> None:
    # 50 faces right in both, 20 in the first alone, 30 in the second alone, 100 in none.
    before = np.repeat([1.0, 1.0, 0.0, 0.0], [50, 20, 30, 100])
    after = np.repeat([1.0, 0.0, 1.0, 0.0], [50, 20, 30, 100])

    gain, half_width = paired_gain(before, after)

    assert gain == pytest.approx((30 - 20) / 200)
    assert half_width == pytest.approx(1.96 * np.sqrt(30 + 20 - (30 - 20) ** 2 / 200) / 200)


def test_words_of_training_options() -> None:
    recipe = changed(Recipe(), ["alone", "branches", "auxiliary", "crops"])

    assert (recipe.branches, recipe.auxiliary_head, recipe.augmentation.min_crop) == (True, True, 42 / 48)
    assert changed(Recipe(), ["alone"]) == Recipe()
