"""What every lesson promises, run over all members in the folder."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.distillation.base import (
    Distillation,
    DistillationLoss,
    DistillationMethod,
    FeatureMap,
    Teacher,
    TeacherEnsemble,
)
from nas.errors import ConfigError
from nas.registry import load, names
from tests.random_nets import random_net

FACES, CLASSES = 12, 4
LESSONS: list[DistillationMethod] = [load("method", word) for word in names("method")]
pytestmark = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


def teaching_of(*weights: float, alpha: float = 0.6, temperature: float = 3.0, seed: int = 0) -> TeacherEnsemble:
    """Teachers with random answers and two random levels each."""
    rng = np.random.default_rng(seed)

    def level(scale: float, channels: int, side: int) -> FeatureMap:
        return FeatureMap(relative_side=scale, values=rng.random((FACES, channels, side, side)).astype(np.float16))

    teachers = [
        Teacher(
            logits=rng.normal(0, 2, (FACES, CLASSES)).astype(np.float32), weight=weight,
            feature_maps=(level(0.5, 1, 8), level(0.25, 1, 4)),
        )
        for weight in weights or (1.0,)
    ]  # fmt: skip
    return TeacherEnsemble(teachers=teachers, temperature=temperature, alpha=alpha)


def images(n: int = 2) -> Tensor:
    return torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 255


def step(pupil: DistillationLoss, net: nn.Module, rows: list[int]) -> Tensor:
    """The loss of some faces whose classes are their row's number."""
    at = torch.tensor(rows)
    logits = net(images(FACES)[at])
    loss: Tensor = pupil.loss(logits, functional.one_hot(at % CLASSES, CLASSES).float(), pupil.gather(at))
    return loss


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


def test_its_word_is_its_files_name(lesson: DistillationMethod) -> None:
    assert load("method", lesson.name) is lesson


def test_the_loss_is_a_number_that_the_net_can_follow(lesson: DistillationMethod) -> None:
    net = random_net("plain", seed=0).net
    pupil = Distillation(method=lesson, ensemble=teaching_of()).make_loss(net, images(), n_images=FACES)

    loss = step(pupil, net, [3, 0, 5])
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.shape == ()
    assert loss.isfinite()
    gradients = [p.grad for p in (*net.parameters(), *pupil.parameters())]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_the_loss_falls_when_it_is_followed(lesson: DistillationMethod) -> None:
    net = random_net("plain", seed=1).net
    pupil = Distillation(method=lesson, ensemble=teaching_of()).make_loss(net, images(), n_images=FACES)
    parameters, losses = [*net.parameters(), *pupil.parameters()], []
    for _ in range(3):
        loss = step(pupil, net, list(range(FACES)))
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, parameters)
        length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient / length, alpha=1e-3)

    assert losses[-1] < losses[0]


def test_rows_are_taught_what_belongs_to_them(lesson: DistillationMethod) -> None:
    net = random_net("plain", seed=0).net
    pupil = Distillation(method=lesson, ensemble=teaching_of()).make_loss(net, images(), n_images=FACES)

    one = [float(step(pupil, net, [row]).detach()) for row in (7, 2)]
    both = float(step(pupil, net, [7, 2]).detach())

    assert one[0] != pytest.approx(one[1])
    assert both == pytest.approx(sum(one) / 2, rel=1e-4)


def test_a_weight_counts_as_so_many_equal_teachers(lesson: DistillationMethod) -> None:
    net = random_net("plain", seed=0).net
    once, other = teaching_of(1.0, 1.0).teachers

    def loss(*teachers: tuple[Teacher, float]) -> float:
        held = [Teacher(logits=t.logits, weight=weight, feature_maps=t.feature_maps) for t, weight in teachers]
        torch.manual_seed(0)
        course = Distillation(method=lesson, ensemble=TeacherEnsemble(teachers=held, temperature=3.0, alpha=0.6))
        pupil = course.make_loss(net, images(), n_images=FACES)
        for part in pupil.parameters():
            nn.init.constant_(part, 0.1)
        found = float(step(pupil, net, list(range(FACES))).detach())
        pupil.close()
        return found

    assert loss((once, 0.75), (other, 0.25)) == pytest.approx(loss((once, 0.25), (once, 0.5), (other, 0.25)), rel=1e-5)
    assert loss((once, 0.75), (other, 0.25)) != pytest.approx(loss((once, 0.25), (other, 0.75)), rel=1e-5)


def test_the_net_is_let_go(lesson: DistillationMethod) -> None:
    net = random_net("plain", seed=0).net
    before, training = hooks(net), net.training
    pupil = Distillation(method=lesson, ensemble=teaching_of()).make_loss(net, images(), n_images=FACES)
    pupil.close()

    assert hooks(net) == before
    assert net.training == training


def test_teachers_of_other_faces_are_refused(lesson: DistillationMethod) -> None:
    course = Distillation(method=lesson, ensemble=teaching_of())

    with pytest.raises(ConfigError, match="must have answered all 13 training images, but there are 12 answers"):
        course.make_loss(random_net("plain", seed=0).net, images(), n_images=13)


def test_it_learns_in_every_space_and_from_a_traced_net(lesson: DistillationMethod) -> None:
    makers: list[Callable[[], nn.Module]] = [
        lambda: random_net("darts", seed=2).net,
        lambda: torch.fx.symbolic_trace(random_net("plain", seed=2).net),
    ]
    for make in makers:
        net = make()
        pupil = Distillation(method=lesson, ensemble=teaching_of()).make_loss(net, images(), n_images=FACES)
        parameters, loss = [*net.parameters(), *pupil.parameters()], step(pupil, net, [0, 1])
        gradients = torch.autograd.grad(loss, parameters)
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in gradients)
        moved = sum(bool(g.any()) for g in gradients)
        assert moved > len(parameters) / 2, "the loss reaches the net, not only its last layer"
