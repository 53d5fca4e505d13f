"""Contract of a distillation method: a training loss computed from the outputs of teachers on the training images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.distillation.views import ViewBank
from nas.errors import ConfigError

Floats = npt.NDArray[np.float32]
ALL_TEACHERS, NO_TEACHER = "all", "none"
"""Values of the teacher gene for the whole ensemble and for no distillation."""
_MIN_PROBABILITY = 1e-8
RequiredOutputs = Literal["logits", "attention", "features"]
"""Teacher outputs that a method needs: logits, or also the attention maps of all stages or one stage's features."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureMap:
    """Activations of one layer of a teacher for every training image.

    Attributes:
        relative_side: side of the layer's map as a share of the input's side, 0..1.
        values: [N, C, h, w] float16, pooled and averaged with their mirror images.
    """

    relative_side: float
    values: npt.NDArray[np.float16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """Outputs of one teacher for the training images.

    Attributes:
        logits: [N, K], in the order of the training images.
        weight: share of this teacher in the ensemble, 0..1.
        feature_maps: of its layers, shallow ones first; empty if the teacher has no layers or the method needs none.
        view_logits: [V, N, K] float16, for the views of the bank; None for a teacher without answers to them.
        is_calibrated: whether the logits are of calibrated votes, see `TeacherEnsemble`.
    """

    logits: Floats
    weight: float
    feature_maps: tuple[FeatureMap, ...] = ()
    view_logits: npt.NDArray[np.float16] | None = None
    is_calibrated: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherEnsemble:
    """Teachers, their weights, and the share of distillation in the loss.

    The ensemble averages probabilities at the temperature. For the divergence of Hinton et al. (2015) the gradient of
    that average is the weighted mean of the gradients of the single teachers, at the cost of one teacher.

    Calibrated votes are other evidence than networks are, and are combined with the networks' average p as a
    logarithmic pool (Genest and Zidek, "Combining probability distributions", Statistical Science 1(1), 1986):
    softmax(w log votes + (1 - w) log p), with the weight w of the votes. The powers are not fitted, though they could
    be, as those of the votes alone are: networks know the labels of the faces that they were trained on, which they
    do not of others, so that a regression on these faces trusts them too much, and hands each face its own label. On
    3,289 faces of FER2013's PublicTest without a copy in Training (votes of FER+, three networks; log-loss in nats,
    accuracy):

        networks alone / calibrated votes alone                                       0.936  68.0 % / 0.906  66.3 %
        arithmetic mean with the shares of the votes, as they are                     0.921  65.6 %
        arithmetic mean with the calibrated votes                                     0.858  69.2 %
        logarithmic pool, w = 0.3 / 0.5 / 0.7                                         0.849 / 0.835 (69.6 %) / 0.848
        cross-fitted regression on training faces, answers to unchanged faces         0.888  68.5 %
            and answers to a view of each                                             0.852  69.1 %
        the same regression cross-fitted on these faces: what is possible             0.810  70.5 %

    Attributes:
        teachers: at least one; their weights sum to 1.
        temperature: divisor of the logits; above 0.
        alpha: share of the teachers in the loss, 0..1; the labels have the rest.
        bank: the views that students see, and that teachers have answered; None for answers to unchanged images, while
            students see changed ones.
    """

    teachers: Sequence[Teacher]
    temperature: float
    alpha: float
    bank: ViewBank | None = None

    def __len__(self) -> int:
        return len(self.teachers[0].logits)

    def probabilities(self, temperature: float) -> Tensor:
        """Probabilities [V, N, K] float32 of the ensemble at a temperature; rows sum to 1; V is 1 without a bank."""
        return torch.stack([self._probabilities(temperature, v) for v in range(self.bank.n_views if self.bank else 1)])

    def _probabilities(self, temperature: float, view: int) -> Tensor:
        # Summed in float64, so that the average of several teachers is rounded to float32 once.
        logits = [
            t.logits if self.bank is None or t.view_logits is None else t.view_logits[view] for t in self.teachers
        ]
        rows = [torch.from_numpy(values).double().div(temperature).softmax(1) for values in logits]
        votes = [(t.weight, p) for t, p in zip(self.teachers, rows, strict=True) if t.is_calibrated]
        others = [(t.weight, p) for t, p in zip(self.teachers, rows, strict=True) if not t.is_calibrated]
        if not votes or not others:
            return _sum_weighted(votes or others).float()
        weight = sum(weight for weight, _ in votes)
        pooled = [(weight, _sum_weighted(votes) / weight), (1 - weight, _sum_weighted(others) / (1 - weight))]
        log_pool = _sum_weighted([(power, p.clamp_min(_MIN_PROBABILITY).log()) for power, p in pooled])
        return log_pool.softmax(1).float()


def _sum_weighted(parts: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Sum of weight times tensor, for at least one pair."""
    return torch.stack([weight * values for weight, values in parts]).sum(0)


class DistillationLoss(nn.Module, ABC):
    """Loss of one student in one training.

    Life: `gather` and `loss` are called for each batch, `close` once after the last step. The module's own parameters
    (projections, for example) are trained with the student and discarded afterwards.
    """

    @abstractmethod
    def gather(self, indices: Tensor, views: Tensor) -> tuple[Tensor, ...]:
        """Teacher outputs for rows of the training split.

        Args:
            indices: [B] row numbers.
            views: [B] number of the view of each; all 0 without a bank.

        Returns:
            Float tensors, each [B, ...]. The training loop mixes them in the same shares as mixed images.
        """

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, teacher_outputs: tuple[Tensor, ...]) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            logits: [B, K] of the student, float32.
            targets: [B, K] label probabilities, rows sum to 1.
            teacher_outputs: from `gather`, mixed as the images were.
        """

    def close(self) -> None:
        """Remove hooks from the student. Called once, after the last step."""


class DistillationMethod(ABC):
    """One way to distil teachers into a student. Stateless."""

    name: str
    required_outputs: RequiredOutputs = "logits"

    @abstractmethod
    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """The loss for one training of a student.

        Args:
            ensemble: the teachers with their outputs.
            net: the student in eval mode, on its device; it may carry hooks until `DistillationLoss.close`.
            images: a few images [B, C, H, W] on the same device, for a forward pass that finds the shapes of the maps.

        Raises:
            BuildError: the student has no feature maps, and the method needs them.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Distillation:
    """A distillation method with its teachers: everything that a training needs.

    Attributes:
        method: the method.
        ensemble: all teachers together.
        description: method, teachers and settings in one line, for records and file metadata.
        by_teacher: the same method with each teacher alone, by name; empty for a single teacher.
    """

    method: DistillationMethod
    ensemble: TeacherEnsemble
    description: str = ""
    by_teacher: "Mapping[str, Distillation]" = field(default_factory=dict)

    def for_teacher(self, name: str) -> "Distillation | None":
        """The distillation for a value of the teacher gene: a teacher's name, `all`, or `none` (None).

        Raises:
            ConfigError: there is no teacher of that name.
        """
        if name in (ALL_TEACHERS, NO_TEACHER):
            return self if name == ALL_TEACHERS else None
        if name not in self.by_teacher:
            known = ", ".join((ALL_TEACHERS, *self.by_teacher, NO_TEACHER))
            raise ConfigError(f"the teacher must be one of {known}, but got {name!r}; add it with --teacher")
        return self.by_teacher[name]

    def make_loss(self, net: nn.Module, images: Tensor, *, n_images: int) -> DistillationLoss:
        """The loss for one training of a student on a split of `n_images` images; see `DistillationMethod.make_loss`.

        Raises:
            ConfigError: the teachers' outputs are for another number of images.
            BuildError: the student has no feature maps, and the method needs them.
        """
        if len(self.ensemble) != n_images:
            raise ConfigError(
                f"the teachers' outputs must cover all {n_images} training images, but there are "
                f"{len(self.ensemble)} rows; compute them for the split that the student is trained on"
            )
        was_training = net.training
        loss = self.method.make_loss(self.ensemble, net.eval(), images).to(images.device)
        net.train(was_training)
        return loss
