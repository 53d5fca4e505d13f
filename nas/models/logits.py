"""Logits among what a net returns: a tensor, or one item of a tuple, a dictionary or an object such as a dataclass.

Nets for training with several losses return features, attention maps or auxiliary logits beside the logits.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import BuildError
from nas.onnx_export.tensor_caches import caches_left_alone

logger = logging.getLogger(__name__)

LOGITS_NAMES = ("logits", "out", "output", "pred", "main")
"""Names that logits have in dictionaries and objects, in order of preference."""
Place = tuple[int | str, ...]
"""Way to an item: indices of sequences, keys of mappings and names of attributes."""


class LogitsOf(nn.Module):
    """A net that returns one item of what the inner net returns.

    Args:
        net: the inner net.
        place: of the item.
    """

    def __init__(self, net: nn.Module, place: Place) -> None:
        super().__init__()
        self.logits_of, self.place = net, place

    def forward(self, image: Tensor) -> Any:
        """The logits, [N, classes]."""
        value = self.logits_of(image)
        for step in self.place:
            value = dict(_items(value))[step]
        return value


def find_logits(net: nn.Module, input_shape: tuple[int, int, int], *, classes: int) -> Place | None:
    """The place of the logits in what a net returns for images; None where it returns one tensor.

    Of several tensors [N, classes] those named in `LOGITS_NAMES` come first, then the first of a tuple; the choice is
    logged.

    Args:
        net: a net in eval mode.
        input_shape: (C, H, W) of the images that reach it.
        classes: number of logits.

    Raises:
        BuildError: no tensor has this shape, or several do and nothing tells them apart.
    """
    try:
        with torch.no_grad(), caches_left_alone(net):
            result = net(torch.zeros(2, *input_shape))
    except Exception:  # tracing names the layer that fails
        return None
    if isinstance(result, Tensor):
        return None
    fitting = [place for place, tensor in _tensors(result) if tensor.shape == (2, classes)]
    if not fitting:
        got = ", ".join(f"[N{''.join(f', {n}' for n in t.shape[1:])}]" for _, t in _tensors(result))
        raise BuildError(
            f"a net must return logits [N, {classes}], one for each class of the data, but returns a "
            f"{type(result).__name__} of {got or 'no tensors'}"
        )
    place = _preferred(fitting)
    if place is None:
        raise BuildError(
            f"a net must return logits [N, {classes}], but returns several tensors of this shape: "
            f"{', '.join(map(_shown, fitting))}; return one, or name it 'logits'"
        )
    others = f", of {len(fitting)} tensors of its shape" if len(fitting) > 1 else ""
    logger.warning(
        "the model returns a %s; its logits are taken from %s%s", type(result).__name__, _shown(place), others
    )
    return place


def _preferred(fitting: list[Place]) -> Place | None:
    if len(fitting) == 1:
        return fitting[0]
    for name in LOGITS_NAMES:
        if (place := next((p for p in fitting if p == (name,)), None)) is not None:
            return place
    return (0,) if (0,) in fitting else None


def _tensors(value: Any, place: Place = ()) -> Iterator[tuple[Place, Tensor]]:
    if isinstance(value, Tensor):
        yield place, value
        return
    for step, item in _items(value):
        yield from _tensors(item, (*place, step))


def _items(value: Any) -> list[tuple[int | str, Any]]:
    """Items of a container; none of other objects."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return list(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in fields(value)]
    return list(vars(value).items()) if type(value).__module__ != "builtins" and hasattr(value, "__dict__") else []


def _shown(place: Place) -> str:
    return "".join(f"[{step!r}]" for step in place)
