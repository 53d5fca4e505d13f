"""Auxiliary head: a second classifier at two thirds of a network's depth, for training only.

After Szegedy et al., "Going deeper with convolutions", CVPR 2015 (https://arxiv.org/abs/1409.4842), section 5: its loss
is added to the network's with a weight of 0.3, and it is discarded afterwards. Different here: one head instead of two,
global average pooling and one linear layer, and the network's own loss has the rest of the weight.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nas.distillation.losses import cross_entropy
from nas.errors import BuildError

AUXILIARY_WEIGHT = 0.3
"""Share of the auxiliary head in the loss."""
DEPTH = 2 / 3
"""Share of the convolutions that lie before the head, as nearly as the ends of blocks and stages allow."""
MIN_DEPTH, MAX_DEPTH = 1 / 2, 3 / 4


class AuxiliaryHead(nn.Module):
    """Classifier of a map amid a network, which a hook records in each forward pass until `close`.

    Its map is the output of a module that ends behind a half to three quarters of the convolutions: of the outermost of
    those the one that is nearest to `DEPTH`, the later of two.
    """

    def __init__(self, net: nn.Module, images: Tensor, *, classes: int) -> None:
        """Find the map by a forward pass.

        Args:
            net: in eval mode; a forward hook stays on it until `close`.
            images: [N, C, H, W], on the network's device.
            classes: number of logits.

        Raises:
            BuildError: the network has no map there.
        """
        super().__init__()
        module, channels = _module_amid(net, images)
        self.linear = nn.Linear(channels, classes).to(images.device)
        self._map: Tensor | None = None
        self._handle = module.register_forward_hook(self._record)

    def _record(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self._map = output

    def loss(self, targets: Tensor) -> Tensor:
        """Mean cross entropy of the map of the last forward pass with targets [N, classes], a scalar."""
        if self._map is None:
            raise BuildError("an auxiliary head must see a forward pass before its loss, but has seen none")
        logits: Tensor = self.linear(self._map.float().mean((2, 3)))
        self._map = None
        return cross_entropy(logits, targets).mean()

    def close(self) -> None:
        """Remove the hook from the network."""
        self._handle.remove()
        self._map = None


def _module_amid(net: nn.Module, images: Tensor) -> tuple[nn.Module, int]:
    """The module whose map the head reads, and the channels of the map."""
    ends: list[tuple[int, int, nn.Module, int]] = []  # convolutions so far, depth of the name, module, channels
    n_convs = 0

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            nonlocal n_convs
            n_convs += isinstance(module, nn.Conv2d)
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] > 1:
                ends.append((n_convs, name.count("."), module, output.shape[1]))

        return hook

    handles = [module.register_forward_hook(hook_for(name)) for name, module in net.named_modules() if name]
    with torch.no_grad():
        net(images)
    for handle in handles:
        handle.remove()
    amid = [end for end in ends if MIN_DEPTH * n_convs <= end[0] <= MAX_DEPTH * n_convs]
    if not amid:
        raise BuildError(
            "an auxiliary head needs a map behind half to three quarters of the convolutions, but the network has "
            f"{n_convs} convolutions and none there; train it without"
        )
    depth = min(end[1] for end in amid)
    outermost = [end for end in amid if end[1] == depth]
    _, _, module, channels = min(reversed(outermost), key=lambda end: abs(end[0] - DEPTH * n_convs))
    return module, channels
