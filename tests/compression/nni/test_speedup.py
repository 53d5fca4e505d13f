"""NNI's patched ModelSpeedup removes the same channels as structured pruning."""

import copy

import pytest
import torch
from torch import Tensor, nn

from nas.compression.compressors.prune_structured import transfer_channels
from nas.compression.nni import adapter
from nas.compression.pruning.group_importance import bind_criterion
from nas.onnx_export.folding import trace
from tests.random_nets import SHAPE, context_of, pictures, trained_net


class Chain(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU()
        self.second = nn.Conv2d(width, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.first(x)))
        logits: Tensor = self.linear(self.flatten(self.pool(self.act(self.second(x)))))
        return logits


def shortened(net: nn.Module, layers: list[str], example: dict[str, Tensor]) -> nn.Module:
    pruner = adapter.import_pruning().L1NormPruner(net, [{"op_names": layers, "sparse_ratio": 0.5}])
    _, masks = pruner.compress()
    pruner.unwrap_model()
    sped_up: nn.Module = adapter.import_speedup()(net, example, masks).speedup_model()
    return sped_up.eval()  # NNI leaves replaced batch norms in training mode


def test_speedup_removes_the_same_channels_as_structured_pruning() -> None:
    torch.manual_seed(0)
    wide, slim = Chain(16), Chain(8).eval()
    images = torch.from_numpy(pictures(16, seed=3)).float()
    wide(images)  # gives the norms running statistics that are not the defaults
    wide.eval()
    transfer_channels(wide, slim, input_shape=SHAPE, score=bind_criterion("nni_l1", wide, context_of()))

    sped_up = shortened(copy.deepcopy(wide), ["first"], {"x": images})

    assert sped_up.get_submodule("second").in_channels == 8
    assert {k: v.shape for k, v in sped_up.state_dict().items()} == {k: v.shape for k, v in slim.state_dict().items()}
    with torch.no_grad():
        torch.testing.assert_close(sped_up(images), slim(images))
        assert all(
            torch.equal(tensor, slim.state_dict()[name])
            for name, tensor in sped_up.state_dict().items()
            if "tracked" not in name
        )
        assert not torch.allclose(sped_up(images), wide(images))


@pytest.mark.parametrize("attention", ["none", "se"])
def test_speedup_shrinks_traced_nets(attention: str) -> None:
    net = trace(copy.deepcopy(trained_net("plain", seed=1, attention=attention).net)).eval()
    names = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and n.startswith("stage")]
    images = torch.from_numpy(pictures(4, seed=3)).float()
    before = sum(p.numel() for p in net.parameters())

    sped_up = shortened(net, names, {"image": images})

    assert sum(p.numel() for p in sped_up.parameters()) < 0.7 * before
    with torch.no_grad():
        assert sped_up(images).shape == (4, 4)
        assert sped_up(images).isfinite().all()
