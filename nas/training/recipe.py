"""Training recipe for a network of a given size.

Tiny networks underfit facial expressions, so they get mild augmentation and no mixup. From about half a million weights
on, networks overfit FER2013 within ten epochs, and get strong augmentation and mixup.

Only the recipe for tiny networks was tuned: a residual network of 77,559 weights (stem stride 2, widths 16-32-64), ten
epochs of FER2013, one seed, accuracy on PublicTest, where one standard error is 0.8 points; all runs share images and
seed.

    AdamW, peak 2e-3                                   55.8 %, loss 1.177
    AdamW, peak 4e-3                                   56.7 %, loss 1.153
    AdamW, peak 8e-3                                   57.6 %, loss 1.140
    SGD, peak 0.1                                      57.0 %
    AdamW, peak 4e-3, without label smoothing          57.4 %
    AdamW, peak 4e-3, flips as the only augmentation   57.1 %

The last one reaches 64.7 % on training images against 58.2 % with the full augmentation, so that longer schedules would
overfit. The recipes for larger networks are published ones, scaled down.

Long trainings on labels alone get one step more of augmentation, and large networks dropout before the head. One seed
each: a network of 417,000 weights with the recipe of short trainings has 61.5 / 63.0 / 64.3 / 64.9 / 65.1 % after 20 /
30 / 40 / 60 / 69 epochs, while its accuracy on training images goes to 81 %; one of 2.8 million weights with this
recipe for large networks has 68.4 % after 58 epochs. The steps between were not measured.

With teachers and their views (`nas.distillation.views`) a network underfits instead: it diverges from the teachers on
faces that it has never seen no more than on training faces (seen at 56,000 to 945,000 weights, 36 to 90 epochs). So all
sizes have AdamW, no mixup, whose mixed answers are not the teachers' answers to the mixed image, and batches of 64, for
more steps. Plain chains of 3x3 convolutions, 12 epochs, 14 views, one seed:

    58,295 weights, batches of 128, temperature 2, share of the teachers 1    60.0 %
        weight decay 0.002 / twice the rate                                   60.3 % / 60.3 %
        temperature 1                                                         60.7 %
        share 0.9 / with temperature 1                                        60.3 % / 61.0 %
        batches of 64 / 32                                                    61.6 % / 60.7 %
        batches of 64, temperature 1                                          61.9 %
        and the last 30 % of the steps on unchanged images                    61.7 %
    944,823 weights, 12 epochs of AdamW without mixup                         65.0 %
        45 epochs of SGD with mixup 0.2, the recipe on labels alone           66.8 %
        80 epochs of AdamW, batches of 64, temperature 1                      68.0 %

Options that no recipe turns on, because no gain was shown. A plain chain of 58,503 weights, 8 epochs, batches of 128,
one seed; percentage points of PublicTest with the 95 % interval paired over its faces, and processor time:

    labels alone                                                   56.2 %
        branches of 3x3 convolutions, `nas.training.branches`      +0.7 +- 1.2    1.8 times
        random crops in the place of shifts and zooms              +0.8 +- 1.3    1.1 times
        auxiliary head, `nas.training.auxiliary_head`              -0.8 +- 1.2    1.2 times
    calibrated votes, temperature 1, share 0.9                     +1.5 +- 1.3    1.0 times
"""

from dataclasses import dataclass, field
from typing import Literal

from nas.data.augment import MEDIUM, MILD, STRONG, Augmentation

LONG_EPOCHS = 40.0
"""Epochs from which on networks overfit the recipe of short trainings, where no teacher regularises them."""
DISTILLED_BATCH_SIZE = 64
"""Images per step where teachers take part."""
OptimizerName = Literal["adamw", "sgd"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hyperparameters of a training, other than data, epochs and seed.

    Attributes:
        optimizer: "adamw", or "sgd" with Nesterov momentum 0.9.
        lr: peak of the one-cycle learning rate.
        weight_decay: on weights with more than one dimension; never on biases and batch norm.
        batch_size: images per step.
        label_smoothing: share of a label that is spread over all classes, 0..1.
        ema_decay: decay of the moving average of the weights, reached after a warm-up.
        warmup_fraction: share of the steps in which the learning rate rises, 0..1.
        mixup_alpha: alpha of the Beta distribution of mixup (https://arxiv.org/abs/1710.09412); 0 turns it off.
        head_dropout: probability that an input of the last linear layer is left out of a step.
        max_grad_norm: norm to which the gradient is clipped.
        augmentation: strength of the augmentation.
        auxiliary_head: add a classifier amid the network to the loss, see `nas.training.auxiliary_head`.
        branches: train dense 3x3 convolutions with parallel branches, see `nas.training.branches`.
    """

    optimizer: OptimizerName = "adamw"
    lr: float = 8e-3
    weight_decay: float = 0.02
    batch_size: int = 128
    label_smoothing: float = 0.1
    ema_decay: float = 0.998
    warmup_fraction: float = 0.15
    mixup_alpha: float = 0.0
    head_dropout: float = 0.0
    max_grad_norm: float = 5.0
    augmentation: Augmentation = MILD
    # Not in the repr, which identifies stored states: those from before the fields stay of use.
    auxiliary_head: bool = field(default=False, repr=False)
    branches: bool = field(default=False, repr=False)


def recipe_for(n_params: int, *, epochs: float = 3.0, is_distilled: bool = False) -> Recipe:
    """The recipe for a network of `n_params` weights.

    Args:
        n_params: its weights.
        epochs: that it trains for in all.
        is_distilled: whether teachers take part.

    Raises:
        ValueError: `n_params` is not positive.
    """
    if n_params <= 0:
        raise ValueError(f"n_params must be positive, but got {n_params}; count the parameters of the network")
    if is_distilled:
        return _distilled_recipe(n_params)
    is_long = epochs >= LONG_EPOCHS
    if n_params < 200_000:
        return Recipe(augmentation=MEDIUM if is_long else MILD)
    if n_params < 500_000:
        return Recipe(lr=4e-3, augmentation=STRONG if is_long else MEDIUM)
    dropout = 0.2 if is_long else 0.0
    return Recipe(
        optimizer="sgd", lr=0.1, weight_decay=5e-4, mixup_alpha=0.2, augmentation=STRONG, head_dropout=dropout
    )


def _distilled_recipe(n_params: int) -> Recipe:
    if n_params < 200_000:
        return Recipe(batch_size=DISTILLED_BATCH_SIZE)
    return Recipe(lr=4e-3, batch_size=DISTILLED_BATCH_SIZE, augmentation=MEDIUM)
