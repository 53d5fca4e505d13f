"""What a lesson is: a loss that a net learns from its teachers' answers to the training images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.errors import ConfigError

Floats = npt.NDArray[np.float32]
ALL_TEACHERS, NO_TEACHER = "all", "none"
"""Words for all teachers together, and for none of them."""
RequiredOutputs = Literal["logits", "attention", "features"]
"""What a lesson needs of its teachers: answers, attention maps of their stages too, or features of their middle."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureMap:
    """What one layer of a teacher holds of every training image.

    Attributes:
        scale: the layer's side as a share of the input's, 0..1.
        values: [N, C, h, w] float16, pooled and averaged with their mirror images.
    """

    relative_side: float
    values: npt.NDArray[np.float16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """One teacher's answers.

    Attributes:
        logits: [N, K] for the training images, in order.
        weight: share of this teacher among all, 0..1.
        levels: of its layers, shallow ones first; empty where it has none or none are needed.
    """

    logits: Floats
    weight: float
    feature_maps: tuple[FeatureMap, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherEnsemble:
    """What all teachers say, and how much it counts.

    Several teachers are averaged as probabilities at the temperature: for the divergence of Hinton et al. that has the
    gradient of the weighted mean of the teachers' losses, and it costs what one teacher costs.

    Attributes:
        teachers: at least one; their weights sum to 1.
        temperature: logits are divided by it; above 0.
        alpha: share of the teachers in the loss, 0..1; the labels have the rest.
    """

    teachers: Sequence[Teacher]
    temperature: float
    alpha: float

    def __len__(self) -> int:
        return len(self.teachers[0].logits)

    def probabilities(self, temperature: float) -> Tensor:
        """The teachers' probabilities [N, K] float32 at a temperature; rows sum to 1."""
        parts = [t.weight * torch.from_numpy(t.logits).double().div(temperature).softmax(1) for t in self.teachers]
        return torch.stack(parts).sum(0).float()


class DistillationLoss(nn.Module, ABC):
    """One net's learning in one training. Its parameters, if it has any, are trained along and then forgotten."""

    @abstractmethod
    def gather(self, indices: Tensor) -> tuple[Tensor, ...]:
        """What was taught of these rows of the split [B], each [B, ...] float; mixed images mix it in equal shares."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, teacher_outputs: tuple[Tensor, ...]) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            logits: [B, K] of the net, float32.
            targets: [B, K] shares of the labels, rows sum to 1.
            teacher_outputs: from `gather`, mixed as the images were.
        """

    def close(self) -> None:
        """Let go of the net. Called once, after the last step."""


class DistillationMethod(ABC):
    """One way to learn from teachers. Stateless."""

    name: str
    required_outputs: RequiredOutputs = "logits"

    @abstractmethod
    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """What `net` learns with in one training.

        Args:
            ensemble: the teachers' answers.
            net: in eval mode, on its device; it may be hooked until `DistillationLoss.close`.
            images: a few [B, C, H, W] on the same device, to look at the net's maps with.

        Raises:
            BuildError: the net has no maps that the lesson needs.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Distillation:
    """A lesson with its teachers: all that a training needs to know.

    Attributes:
        lesson: how to learn.
        teaching: from whom.
        about: the same in words, for records and files.
        apart: the same lesson from each teacher alone, by name, where there are several.
    """

    method: DistillationMethod
    ensemble: TeacherEnsemble
    description: str = ""
    by_teacher: "Mapping[str, Distillation]" = field(default_factory=dict)

    def for_teacher(self, name: str) -> "Distillation | None":
        """The course of one teacher, of `all` of them, or None for `none`.

        Raises:
            ConfigError: there is no teacher of that name.
        """
        if name in (ALL_TEACHERS, NO_TEACHER):
            return self if name == ALL_TEACHERS else None
        if name not in self.by_teacher:
            known = ", ".join((ALL_TEACHERS, *self.by_teacher, NO_TEACHER))
            raise ConfigError(f"the teacher must be one of {known}, but got {name!r}; give it with --teacher")
        return self.by_teacher[name]

    def make_loss(self, net: nn.Module, images: Tensor, *, n_images: int) -> DistillationLoss:
        """What `net` learns with in one training on a split of so many faces.

        Raises:
            ConfigError: the teachers' answers are for another number of faces.
            BuildError: the net has no maps that the lesson needs.
        """
        if len(self.ensemble) != n_images:
            raise ConfigError(
                f"the teachers must have answered all {n_images} training images, but there are {len(self.ensemble)} "
                "answers; make them for the split that is learned from"
            )
        training = net.training
        pupil = self.method.make_loss(self.ensemble, net.eval(), images).to(images.device)
        net.train(training)
        return pupil
