"""How a net of a given size is trained.

Tiny nets underfit faces, so they see mild augmentation and no mixup; from about half a million weights on, nets overfit
FER2013 within ten epochs and get both.
"""

from dataclasses import dataclass
from typing import Literal

from nas.augment import MEDIUM, MILD, STRONG, Augmentation

Optimizer = Literal["adamw", "sgd"]


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

    optimizer: Optimizer = "adamw"
    lr: float = 4e-3
    weight_decay: float = 0.02
    batch_size: int = 128
    label_smoothing: float = 0.1
    ema_decay: float = 0.998
    warmup: float = 0.15
    mixup: float = 0.0
    clip: float = 5.0
    augmentation: Augmentation = MILD


def recipe_for(params: int) -> Recipe:
    """The recipe for a net of `params` weights.

    Raises:
        ValueError: `params` is not positive.
    """
    if params <= 0:
        raise ValueError(f"params must be positive, but got {params}; count the net's parameters")
    if params < 200_000:
        return Recipe()
    if params < 500_000:
        return Recipe(augmentation=MEDIUM)
    return Recipe(optimizer="sgd", lr=0.1, weight_decay=5e-4, mixup=0.2, augmentation=STRONG)
