import pytest

from nas.data.augment import MILD, STRONG
from nas.training.recipe import recipe_for


def test_small_networks_have_mild_augmentation_and_no_mixup() -> None:
    tiny, large = recipe_for(60_000), recipe_for(2_000_000)
    assert (tiny.mixup_alpha, tiny.augmentation, tiny.augmentation.erase_probability) == (0, MILD, 0)
    assert large.mixup_alpha > 0
    assert large.augmentation == STRONG
    assert recipe_for(499_999).mixup_alpha == 0
    assert recipe_for(500_000).mixup_alpha > 0


def test_params_must_be_positive() -> None:
    with pytest.raises(ValueError, match="n_params must be positive"):
        recipe_for(0)


def test_long_trainings_on_labels_alone_are_regularised_more() -> None:
    for size in (60_000, 300_000, 2_000_000):
        short, long = recipe_for(size, epochs=3), recipe_for(size, epochs=60)
        assert (long.augmentation.scale, long.head_dropout) > (short.augmentation.scale, short.head_dropout)


def test_trainings_with_teachers_take_more_steps_and_are_regularised_less() -> None:
    for size in (60_000, 300_000, 2_000_000):
        recipe = recipe_for(size, epochs=60, is_distilled=True)
        assert recipe == recipe_for(size, epochs=3, is_distilled=True)
        assert recipe.batch_size < recipe_for(size).batch_size
        assert (recipe.optimizer, recipe.mixup_alpha, recipe.head_dropout) == ("adamw", 0, 0)
