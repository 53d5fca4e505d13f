"""Auxiliary head: where it sits, its loss against torch's, and that nothing of it is left."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.data.base import Split
from nas.errors import BuildError
from nas.models.model_source import make_model
from nas.training.auxiliary_head import AUXILIARY_WEIGHT, AuxiliaryHead
from nas.training.execution_format import ExecutionFormat
from nas.training.recipe import Recipe
from nas.training.training_run import TrainingRun
from tests.conftest import learnable_faces

IMAGES = 255 * torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def a_net(word: str = "plain_cnn:widths=(4,6,8),convs=(2,2,2)") -> nn.Module:
    torch.manual_seed(0)
    return make_model(word, input_shape=(1, 32, 32), classes=3)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("plain_cnn:widths=(4,6,8),convs=(2,2,2)", "stage2"),  # 4 of 6 convolutions, then the pool
        ("resnet8:width=4", "stage2"),  # 6 of 9 with the projections
        ("resnet10:width=4", "stage3"),  # 9 of 12, nearer than 6
    ],
)
def test_the_map_is_the_outermost_one_behind_two_thirds_of_the_convolutions(word: str, name: str) -> None:
    net, maps = a_net(word), []
    head = AuxiliaryHead(net, IMAGES, classes=3)
    net.get_submodule(name).register_forward_hook(lambda *args: maps.append(args[2]))
    net(IMAGES)
    targets = torch.eye(3)[[0, 1, 2, 0]]

    loss = head.loss(targets)

    expected = functional.cross_entropy(head.linear(maps[0].mean((2, 3))), torch.tensor([0, 1, 2, 0]))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    with pytest.raises(BuildError, match="must see a forward pass before its loss, but has seen none"):
        head.loss(targets)
    head.close()
    assert not any(module._forward_hooks for n, module in net.named_modules() if n != name)


def test_a_network_without_a_map_amid_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(
        BuildError, match="needs a map behind half to three quarters of the convolutions, but the network has 1 "
    ):
        AuxiliaryHead(net, IMAGES, classes=3)


def test_it_has_its_share_of_the_loss_and_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Tensor] = []
    own_loss = AuxiliaryHead.loss

    def record(head: AuxiliaryHead, targets: Tensor) -> Tensor:
        recorded.append(own_loss(head, targets))
        return recorded[-1]

    monkeypatch.setattr(AuxiliaryHead, "loss", record)
    faces: Split = learnable_faces(train=16, val=8).train
    targets = torch.eye(3)[torch.from_numpy(faces.labels)]
    losses: dict[bool, Tensor] = {}
    for with_head in (False, True):
        net = a_net("resnet8:width=4")
        recipe = Recipe(auxiliary_head=with_head, batch_size=16)
        torch.manual_seed(1)
        run = TrainingRun(
            net, faces.images, targets, recipe=recipe, execution=ExecutionFormat(threads=1), seed=0, compiled=False,
            distillation=None,
        )  # fmt: skip
        head = run.auxiliary_head
        assert (head is not None) == with_head
        before = None if head is None else head.linear.weight.detach().clone()
        losses[with_head], _ = run.step(1e-3, lambda _: None)
        run.close()
        assert not any(module._forward_hooks for module in net.modules())
    assert head is not None
    assert before is not None
    assert not torch.equal(before, head.linear.weight)
    expected = (1 - AUXILIARY_WEIGHT) * losses[False] + AUXILIARY_WEIGHT * recorded[0]
    assert float(losses[True]) == pytest.approx(float(expected.detach()), rel=1e-5)
