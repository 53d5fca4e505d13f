"""Distillation losses against closed forms and slow implementations in Python and numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from nas.distillation.losses import (
    attention_map,
    average_with_mirror,
    cross_entropy,
    decoupled_kl_divergence,
    kl_divergence,
    l2_normalise,
    teacher_bounded_error,
)

seeds = st.integers(0, 10_000)
temperatures = st.floats(0.5, 20)


def batch(seed: int, *, n: int = 5, k: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of student and teacher [n, k] as doubles, and labels [n]."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(n, k, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher, torch.randint(k, (n,), generator=generator)


def slow_divergence(student: list[float], teacher: list[float], temperature: float) -> float:
    """KL of one row, number by number."""

    def softened(logits: list[float]) -> list[float]:
        powers = [math.exp((z - max(logits)) / temperature) for z in logits]
        return [power / sum(powers) for power in powers]

    return sum(p * math.log(p / q) for p, q in zip(softened(teacher), softened(student), strict=True))


@settings(deadline=None)
@given(seeds, temperatures)
def test_divergence_is_the_sum_written_out(seed: int, temperature: float) -> None:
    student, teacher, _ = batch(seed)

    divergence = kl_divergence(student, (teacher / temperature).softmax(1), temperature)

    expected = [slow_divergence(s, t, temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    np.testing.assert_allclose(divergence.numpy(), expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(seeds)
def test_divergence_is_zero_for_equal_logits_and_positive_otherwise(seed: int) -> None:
    student, teacher, _ = batch(seed)

    assert torch.allclose(
        kl_divergence(student, student.softmax(1), 1.0), torch.zeros(5, dtype=torch.float64), atol=1e-12
    )
    assert (kl_divergence(student, teacher.softmax(1), 1.0) > 0).all()


@settings(deadline=None)
@given(seeds)
def test_divergence_from_one_hot_probabilities_is_the_cross_entropy(seed: int) -> None:
    student, _, labels = batch(seed)
    one_hot = functional.one_hot(labels, 7).double()

    expected = functional.cross_entropy(student, labels, reduction="none")

    torch.testing.assert_close(kl_divergence(student, one_hot, 1.0), expected)
    torch.testing.assert_close(cross_entropy(student, one_hot), expected)


@settings(deadline=None)
@given(seeds, temperatures)
def test_decoupled_parts_sum_to_the_divergence(seed: int, temperature: float) -> None:
    student, teacher, labels = batch(seed)
    probabilities = (teacher / temperature).softmax(1)

    target_part, non_target_part = decoupled_kl_divergence(student, probabilities, labels, temperature)

    weight = 1 - probabilities.gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(
        target_part + weight * non_target_part, kl_divergence(student, probabilities, temperature)
    )


@settings(deadline=None)
@given(seeds, temperatures)
def test_each_decoupled_part_is_a_divergence(seed: int, temperature: float) -> None:
    student, teacher, labels = (part.numpy() for part in batch(seed, n=1))
    p, q = (np.exp(z[0] / temperature) / np.exp(z[0] / temperature).sum() for z in (teacher, student))
    other = np.arange(7) != labels[0]
    binary = [(v[~other].sum(), v[other].sum()) for v in (p, q)]
    among = [v[other] / v[other].sum() for v in (p, q)]

    target_part, non_target_part = decoupled_kl_divergence(
        *map(torch.from_numpy, (student, p[None], labels)), temperature
    )

    expected = sum(a * math.log(a / b) for a, b in zip(*binary, strict=True))
    assert float(target_part) == pytest.approx(expected, abs=1e-9)
    assert float(non_target_part) == pytest.approx((among[0] * np.log(among[0] / among[1])).sum(), abs=1e-9)


def test_decoupled_parts_are_finite_for_a_one_hot_teacher() -> None:
    student = torch.tensor([[2.0, -1.0, 0.5]], requires_grad=True)
    one_hot = torch.tensor([[1.0, 0.0, 0.0]])
    target_part, non_target_part = decoupled_kl_divergence(student, one_hot, torch.tensor([0]), 1.0)

    (target_part + non_target_part).sum().backward()  # type: ignore[no-untyped-call]

    expected = functional.cross_entropy(student, torch.tensor([0])).detach()
    assert float(target_part.detach()) == pytest.approx(float(expected))
    assert student.grad is not None
    assert student.grad.isfinite().all()


@settings(max_examples=10, deadline=None)
@given(seeds, temperatures)
def test_gradients_equal_finite_differences(seed: int, temperature: float) -> None:
    student, teacher, labels = batch(seed, n=2, k=4)
    probabilities = (teacher / temperature).softmax(1)

    assert torch.autograd.gradcheck(lambda z: kl_divergence(z, probabilities, temperature), student.requires_grad_())
    assert torch.autograd.gradcheck(lambda z: decoupled_kl_divergence(z, probabilities, labels, temperature), student)


@settings(deadline=None)
@given(seeds)
def test_gradient_of_the_softened_loss_is_a_difference_of_probabilities(seed: int) -> None:
    student, teacher, _ = batch(seed)
    probabilities = (teacher / 4).softmax(1)

    (16 * kl_divergence(student.requires_grad_(), probabilities, 4.0)).sum().backward()  # type: ignore[no-untyped-call]

    assert student.grad is not None
    torch.testing.assert_close(student.grad, 4 * ((student / 4).softmax(1) - probabilities))  # Hinton et al., section 2


def test_errors_within_the_margin_are_0() -> None:
    student, teacher = torch.tensor([0.5, 1.05, 1.2, 3.0]), torch.tensor([1.0, 1.0, 1.0, 1.0])

    assert teacher_bounded_error(student, teacher, 0.1).tolist() == pytest.approx([0, 0, 1.2, 3.0])
    assert teacher_bounded_error(student, teacher, 0.0).tolist() == pytest.approx([0, 1.05, 1.2, 3.0])


def test_bounded_error_of_a_regression_has_the_gradient_of_the_squared_error() -> None:
    truth = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    student = torch.tensor([[0.1, 0.0], [0.6, 0.8]], requires_grad=True)
    teacher = torch.tensor([[0.3, 0.4], [0.3, 0.4]])

    error = teacher_bounded_error((student - truth).square().sum(1), (teacher - truth).square().sum(1), 0.0)
    error.sum().backward()  # type: ignore[no-untyped-call]

    assert error.tolist() == pytest.approx([0, 1.0])
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), [[0, 0], [1.2, 1.6]], rtol=1e-6)


def test_attention_is_the_mean_square_over_channels() -> None:
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))

    np.testing.assert_allclose(attention_map(maps)[:, 0].numpy(), (maps.numpy() ** 2).mean(1), rtol=1e-6)


def test_normalised_maps_have_length_1_and_zeros_stay_0() -> None:
    maps = torch.stack([torch.full((1, 2, 2), 3.0), torch.zeros(1, 2, 2)])

    assert l2_normalise(maps).tolist() == [[0.5] * 4, [0.0] * 4]


@settings(deadline=None)
@given(seeds)
def test_average_with_mirror_is_invariant_to_mirroring(seed: int) -> None:
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))

    torch.testing.assert_close(average_with_mirror(maps), average_with_mirror(maps.flip(-1)))
    torch.testing.assert_close(average_with_mirror(average_with_mirror(maps)), average_with_mirror(maps))
