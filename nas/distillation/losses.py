"""The mathematics of the lessons: losses per row, on tensors only."""

import torch
from torch import Tensor
from torch.nn import functional

_EPSILON = 1e-12


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum(targets log softmax(logits)) of each row, [N]; both [N, K], rows of targets sum to 1."""
    return -(targets * functional.log_softmax(logits, dim=1)).sum(1)


def kl_divergence(logits: Tensor, teacher_probabilities: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence KL(shares || softmax(logits / T)) of each row, [N], without the factor T^2.

    Args:
        logits: [N, K] of the student.
        teacher_probabilities: [N, K] probabilities of the teacher at the same temperature; zeros are fine.
        temperature: T.
    """
    spoken = functional.log_softmax(logits / temperature, dim=1)
    return (torch.xlogy(teacher_probabilities, teacher_probabilities) - teacher_probabilities * spoken).sum(1)


def decoupled_kl_divergence(
    logits: Tensor, teacher_probabilities: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The two parts of the divergence: about the label against the rest, and among the rest, each [N].

    With p the teacher's probability of the label, `divergence` is the first plus (1 - p) times the second.

    Args:
        logits: [N, K] of the student.
        teacher_probabilities: [N, K] probabilities of the teacher at the same temperature.
        labels: [N] classes.
        temperature: T.
    """
    spoken = functional.log_softmax(logits / temperature, dim=1)
    here = functional.one_hot(labels, logits.shape[1]).bool()
    said, rest = spoken[here], spoken.masked_fill(here, -torch.inf).logsumexp(1)
    p = teacher_probabilities[here]
    others = 1 - p
    target = torch.xlogy(p, p) - p * said + torch.xlogy(others, others) - others * rest
    among = (teacher_probabilities / others.clamp_min(_EPSILON)[:, None]).masked_fill(here, 0.0)
    relative = (spoken - rest[:, None]).masked_fill(here, 0.0)
    return target, (torch.xlogy(among, among) - among * relative).sum(1)


def teacher_bounded_error(student_error: Tensor, teacher_error: Tensor, margin: float) -> Tensor:
    """The student's error where it exceeds the teacher's by more than the margin, else 0; any shape, errors >= 0.

    With cross entropies this bounds a classification; with squared errors summed over [N, D] targets, a regression.
    """
    return torch.where(student_error > teacher_error + margin, student_error, torch.zeros_like(student_error))


def attention_map(maps: Tensor) -> Tensor:
    """Where a layer looks: the mean over channels of the squared activations, [N, C, H, W] to [N, 1, H, W]."""
    return maps.square().mean(1, keepdim=True)


def l2_normalise(maps: Tensor) -> Tensor:
    """Each image's map [N, 1, H, W] scaled to length 1, as [N, H W]; a map of zeros stays zero."""
    return functional.normalize(maps.flatten(1), dim=1)


def average_with_mirror(maps: Tensor) -> Tensor:
    """The mean of each map [N, C, H, W] and its mirror image: equal for a face and for the same face mirrored."""
    return (maps + maps.flip(-1)) / 2
