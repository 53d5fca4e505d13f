"""Distillation losses as functions of tensors, one value for each row of a batch."""

import torch
from torch import Tensor
from torch.nn import functional

_EPSILON = 1e-12


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum(targets log softmax(logits)) of each row, [N]; both [N, K], rows of targets sum to 1."""
    return -(targets * functional.log_softmax(logits, dim=1)).sum(1)


def kl_divergence(logits: Tensor, teacher_probabilities: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence KL(teacher || softmax(logits / T)) of each row, [N], without the factor T^2.

    Args:
        logits: [N, K] of the student.
        teacher_probabilities: [N, K] of the teacher at the same temperature; zeros are allowed.
        temperature: T.
    """
    log_q = functional.log_softmax(logits / temperature, dim=1)
    # xlogy is 0 at p = 0, where p * log(p) would be NaN.
    return (torch.xlogy(teacher_probabilities, teacher_probabilities) - teacher_probabilities * log_q).sum(1)


def decoupled_kl_divergence(
    logits: Tensor, teacher_probabilities: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The target-class and the non-target-class part of the divergence (Zhao et al. 2022, equation 7), each [N].

    With p the teacher's probability of the label, `kl_divergence` is the first part plus (1 - p) times the second.

    Args:
        logits: [N, K] of the student.
        teacher_probabilities: [N, K] of the teacher at the same temperature.
        labels: [N] classes.
        temperature: T.
    """
    log_q = functional.log_softmax(logits / temperature, dim=1)
    is_target = functional.one_hot(labels, logits.shape[1]).bool()
    # log(1 - q) from the other classes' log-probabilities: log1p(-q) loses all digits where q is near 1.
    log_q_target, log_q_rest = log_q[is_target], log_q.masked_fill(is_target, -torch.inf).logsumexp(1)
    p = teacher_probabilities[is_target]
    p_rest = 1 - p
    target_part = torch.xlogy(p, p) - p * log_q_target + torch.xlogy(p_rest, p_rest) - p_rest * log_q_rest
    # A teacher with p = 1 has no distribution among the other classes; the clamp makes its part 0 instead of NaN.
    p_among = (teacher_probabilities / p_rest.clamp_min(_EPSILON)[:, None]).masked_fill(is_target, 0.0)
    log_q_among = (log_q - log_q_rest[:, None]).masked_fill(is_target, 0.0)
    return target_part, (torch.xlogy(p_among, p_among) - p_among * log_q_among).sum(1)


def teacher_bounded_error(student_error: Tensor, teacher_error: Tensor, margin: float) -> Tensor:
    """The student's error where it exceeds the teacher's by more than the margin, else 0; any shape, errors >= 0.

    With cross entropies this bounds a classification; with squared errors summed over [N, D] targets, a regression.
    """
    return torch.where(student_error > teacher_error + margin, student_error, torch.zeros_like(student_error))


def attention_map(maps: Tensor) -> Tensor:
    """Spatial attention of a layer: mean over channels of the squared activations, [N, C, H, W] to [N, 1, H, W]."""
    return maps.square().mean(1, keepdim=True)


def l2_normalise(maps: Tensor) -> Tensor:
    """Each image's map [N, 1, H, W] scaled to length 1, as [N, H W]; a map of zeros stays zero."""
    return functional.normalize(maps.flatten(1), dim=1)


def average_with_mirror(maps: Tensor) -> Tensor:
    """The mean of each map [N, C, H, W] and its mirror image: the same for a map and for its mirror image."""
    return (maps + maps.flip(-1)) / 2
