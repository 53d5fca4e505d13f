"""Contract kit of the distillation methods, run over every member."""

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
METHODS: list[DistillationMethod] = [load("method", name) for name in names("method")]
pytestmark = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def random_ensemble(*weights: float) -> TeacherEnsemble:
    """Teachers with random logits and two random feature maps each."""
    rng = np.random.default_rng(0)

    def feature_map(relative_side: float, channels: int, side: int) -> FeatureMap:
        values = rng.random((FACES, channels, side, side)).astype(np.float16)
        return FeatureMap(relative_side=relative_side, values=values)

    teachers = [
        Teacher(
            logits=rng.normal(0, 2, (FACES, CLASSES)).astype(np.float32), weight=weight,
            feature_maps=(feature_map(0.5, 1, 8), feature_map(0.25, 1, 4)),
        )
        for weight in weights or (1.0,)
    ]  # fmt: skip
    return TeacherEnsemble(teachers=teachers, temperature=3.0, alpha=0.6)


def make_loss(method: DistillationMethod, net: nn.Module) -> DistillationLoss:
    distillation = Distillation(method=method, ensemble=random_ensemble())
    return distillation.make_loss(net, images(), n_images=FACES)


def images(n: int = 2) -> Tensor:
    return torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 255


def batch_loss(loss: DistillationLoss, net: nn.Module, rows: list[int]) -> Tensor:
    """The loss of a batch of images; an image's class is its row number modulo the number of classes."""
    indices = torch.tensor(rows)
    targets = functional.one_hot(indices % CLASSES, CLASSES).float()
    value: Tensor = loss.loss(net(images(FACES)[indices]), targets, loss.gather(indices, torch.zeros_like(indices)))
    return value


def count_hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


def test_name_is_the_file_name(method: DistillationMethod) -> None:
    assert load("method", method.name) is method


def test_loss_is_a_finite_scalar_with_gradients(method: DistillationMethod) -> None:
    net = random_net("plain", seed=0).net
    loss = make_loss(method, net)

    value = batch_loss(loss, net, [3, 0, 5])
    value.backward()  # type: ignore[no-untyped-call]

    assert value.shape == ()
    assert value.isfinite()
    gradients = [p.grad for p in (*net.parameters(), *loss.parameters())]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_loss_falls_along_its_gradient(method: DistillationMethod) -> None:
    net = random_net("plain", seed=1).net
    loss = make_loss(method, net)
    parameters, values = [*net.parameters(), *loss.parameters()], []
    for _ in range(3):
        value = batch_loss(loss, net, list(range(FACES)))
        values.append(float(value.detach()))
        gradients = torch.autograd.grad(value, parameters)
        length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient / length, alpha=1e-3)

    assert values[-1] < values[0]


def test_each_row_gets_its_own_teacher_outputs(method: DistillationMethod) -> None:
    net = random_net("plain", seed=0).net
    loss = make_loss(method, net)

    single = [float(batch_loss(loss, net, [row]).detach()) for row in (7, 2)]
    both = float(batch_loss(loss, net, [7, 2]).detach())

    assert single[0] != pytest.approx(single[1])
    assert both == pytest.approx(sum(single) / 2, rel=1e-4)


def test_weights_of_equal_teachers_add_up(method: DistillationMethod) -> None:
    net = random_net("plain", seed=0).net
    first, second = random_ensemble(1.0, 1.0).teachers

    def value(*weighted: tuple[Teacher, float]) -> float:
        teachers = [Teacher(logits=t.logits, weight=weight, feature_maps=t.feature_maps) for t, weight in weighted]
        torch.manual_seed(0)
        ensemble = TeacherEnsemble(teachers=teachers, temperature=3.0, alpha=0.6)
        loss = Distillation(method=method, ensemble=ensemble).make_loss(net, images(), n_images=FACES)
        for parameter in loss.parameters():
            nn.init.constant_(parameter, 0.1)
        total = float(batch_loss(loss, net, list(range(FACES))).detach())
        loss.close()
        return total

    expected = value((first, 0.75), (second, 0.25))
    assert value((first, 0.25), (first, 0.5), (second, 0.25)) == pytest.approx(expected, rel=1e-5)
    assert value((first, 0.25), (second, 0.75)) != pytest.approx(expected, rel=1e-5)


def test_close_removes_the_hooks(method: DistillationMethod) -> None:
    net = random_net("plain", seed=0).net
    hooks, training = count_hooks(net), net.training
    make_loss(method, net).close()

    assert count_hooks(net) == hooks
    assert net.training == training


def test_outputs_for_another_number_of_images_are_refused(method: DistillationMethod) -> None:
    distillation = Distillation(method=method, ensemble=random_ensemble())

    with pytest.raises(ConfigError, match="must cover all 13 training images, but there are 12 rows"):
        distillation.make_loss(random_net("plain", seed=0).net, images(), n_images=13)


def test_gradients_reach_cell_nets_and_traced_nets(method: DistillationMethod) -> None:
    makers: list[Callable[[], nn.Module]] = [
        lambda: random_net("darts", seed=2).net,
        lambda: torch.fx.symbolic_trace(random_net("plain", seed=2).net),
    ]
    for make in makers:
        net = make()
        loss = make_loss(method, net)
        parameters, value = [*net.parameters(), *loss.parameters()], batch_loss(loss, net, [0, 1])
        gradients = torch.autograd.grad(value, parameters)
        assert value.isfinite()
        assert all(g.isfinite().all() for g in gradients)
        nonzero = sum(bool(g.any()) for g in gradients)
        assert nonzero > len(parameters) / 2, "the loss reaches the whole net, not only its last layer"
