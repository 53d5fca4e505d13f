"""Caches of tensors in the modules of a net, as of attention biases by device: filled, they hide how they are computed.

A dictionary of tensors that is no parameter and no buffer is such a cache. It outlasts a change of the weights that it
was computed from, so nothing that this package does to a net may leave one filled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

_OWN_DICTS = frozenset(vars(nn.Module()))
"""Attributes of every module: parameters, buffers, children and hooks."""


def clear_caches(net: nn.Module) -> None:
    """Empty the caches of a net, in place."""
    for cache in _dictionaries(net):
        if cache and all(isinstance(value, Tensor) for value in cache.values()):
            cache.clear()


@contextmanager
def caches_left_alone(net: nn.Module) -> Iterator[None]:
    """Caches are empty within the block; what the forward pass stores in modules is undone after it.

    Constants that torch.fx puts into the net stay.
    """
    contents = [(content, dict(content)) for content in _dictionaries(net)]
    attributes = {module: dict(vars(module)) for module in net.modules()}
    clear_caches(net)
    try:
        yield
    finally:
        for dictionary, content in contents:
            dictionary.clear()
            dictionary.update(content)
        for module, own in attributes.items():
            made = {k: v for k, v in vars(module).items() if k.startswith("_tensor_constant")}
            vars(module).clear()
            vars(module).update(own | made)


def _dictionaries(net: nn.Module) -> list[dict[Any, Any]]:
    own = (item for module in net.modules() for item in vars(module).items())
    return [value for name, value in own if type(value) is dict and name not in _OWN_DICTS]
