"""A net of the space `plain` as a torch module, rebuilt from the ONNX file that a search wrote.

The file's convolutions hold their norms. Here each gets a norm again, with the statistics of training images, so that
the net computes the same and can be trained further.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from nas.models.seeding import forked_rng
from nas.registry import load
from search_spaces._leaf import Normalise

STAGES = ("stage1", "stage2", "stage3", "stage4")


def plain_net_of_file(
    path: Path, images: npt.NDArray[np.uint8], *, input_shape: tuple[int, int, int], classes: int
) -> nn.Module:
    """The network of a float file, in eval mode.

    Args:
        path: an ONNX file of the space `plain` with ReLUs, without attention.
        images: training images [N, C, H, W] for the statistics of the norms.
        input_shape: (C, H, W) of the images.
        classes: number of classes.
    """
    graph = onnx.load(path).graph
    weights = {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in graph.initializer}
    with forked_rng(0):
        net: nn.Module = load("space", "plain").build(
            _architecture(graph, weights, input_shape[1]), input_shape=input_shape, classes=classes
        )
    net.eval()
    std = next(module.std for module in net.modules() if isinstance(module, Normalise))
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d):
                # A writer moves the division of the pixels into the first convolution.
                module.weight.copy_(weights[f"{name}.weight"] * (std if name == "stem.conv" else 1.0))
            elif isinstance(module, nn.Linear):
                module.weight.copy_(weights[f"{name}.weight"])
                module.bias.copy_(weights[f"{name}.bias"])
            elif isinstance(module, nn.BatchNorm2d):
                module.running_var.fill_(1.0 - module.eps)  # type: ignore[union-attr]
                module.bias.copy_(weights[f"{name.removesuffix('bn')}conv.bias"])
    _set_statistics(net, torch.from_numpy(images.copy()).float())
    return net


def _architecture(graph: Any, weights: dict[str, Tensor], side: int) -> dict[str, Any]:
    """The architecture that the names and shapes of the file's tensors tell."""
    strides = {
        node.input[1]: next(a.ints[0] for a in node.attribute if a.name == "strides")
        for node in graph.node
        if node.op_type == "Conv"
    }
    body = []
    for stage in STAGES:
        dense = f"{stage}.block0.conv.weight"
        first = dense if dense in weights else f"{stage}.block0.body.first.conv.weight"
        if first in weights:
            body.append({
                "stage": stage, "width": len(weights[first]), "block": "dense" if first == dense else "residual",
                "depth": len({name.split(".")[1] for name in weights if name.startswith(f"{stage}.block")}),
                "down": "stride" if strides[first] == 2 else "none",
            })  # fmt: skip
    scales = next((tensor for name, tensor in weights.items() if name.endswith("resize.scales")), None)
    return {
        "stem_width": len(weights["stem.conv.weight"]), "stem_stride": int(strides["stem.conv.weight"]),
        "input_size": side if scales is None else round(side * float(scales[-1])), "activation": "relu",
        "attention": "none", "body": body,
    }  # fmt: skip


def _set_statistics(net: nn.Module, images: Tensor) -> None:
    """Give each norm the statistics of these images, with a scale and a shift that leave its output as it is."""
    seen: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def observe(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        axes = (0, 2, 3)
        seen[module] = inputs[0].mean(axes), inputs[0].var(axes, unbiased=False)  # type: ignore[index]

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(observe) for norm in norms]
    with torch.no_grad():
        net(images)
        for norm, (mean, variance) in seen.items():
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            norm.running_var.copy_(variance)  # type: ignore[union-attr]
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.add_(mean)
    for handle in handles:
        handle.remove()
