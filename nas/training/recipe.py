"""How a net of a given size is trained.

Tiny nets underfit faces, so they see mild augmentation and no mixup; from about half a million weights on, nets overfit
FER2013 within ten epochs and get both. Measured for tiny nets only: a residual net of 77,559 weights (stem stride 2,
widths 16-32-64), ten epochs of FER2013, one seed, PublicTest, where one standard error is 0.8 points and the recipes
share images and seed. AdamW at a peak of 2e-3, 4e-3, 8e-3: 55.8, 56.7, 57.6 % (loss 1.177, 1.153, 1.140); SGD at 0.1:
57.0 %. At 4e-3: without label smoothing 57.4 %, with flips as the only change 57.1 %, but then 64.7 % on training faces
against 58.2 %, so that longer schedules overfit. The larger nets' recipes are published ones, scaled down.
"""

from dataclasses import dataclass
from typing import Literal

from nas.training.augment import MEDIUM, MILD, STRONG, Augmentation

OptimizerName = Literal["adamw", "sgd"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a net learns, but for its data, its budget and its seed.

    Attributes:
        optimizer: "adamw", or "sgd" with Nesterov momentum 0.9.
        lr: peak of the one-cycle learning rate.
        weight_decay: on weights with more than one dimension; never on biases and batch norm.
        batch_size: images per step.
        label_smoothing: share of a label spread over all classes, 0..1.
        ema_decay: of the moving average of the weights, reached after a warm-up.
        warmup: share of the steps in which the learning rate rises, 0..1.
        mixup: alpha of the Beta distribution that two images are mixed by; 0 mixes none.
        clip: largest norm of the gradient.
        augmentation: how far images are changed.
    """

    optimizer: OptimizerName = "adamw"
    lr: float = 8e-3
    weight_decay: float = 0.02
    batch_size: int = 128
    label_smoothing: float = 0.1
    ema_decay: float = 0.998
    warmup_fraction: float = 0.15
    mixup_alpha: float = 0.0
    max_grad_norm: float = 5.0
    augmentation: Augmentation = MILD


def recipe_for(n_params: int) -> Recipe:
    """The recipe for a net of `n_params` weights.

    Raises:
        ValueError: `n_params` is not positive.
    """
    if n_params <= 0:
        raise ValueError(f"params must be positive, but got {n_params}; count the net's parameters")
    if n_params < 200_000:
        return Recipe()
    if n_params < 500_000:
        return Recipe(lr=4e-3, augmentation=MEDIUM)
    return Recipe(optimizer="sgd", lr=0.1, weight_decay=5e-4, mixup_alpha=0.2, augmentation=STRONG)
