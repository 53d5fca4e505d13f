"""Contract of the zero-cost proxies, and the parts that several of them share."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nas.models.seeding import forked_rng

PREPROCESSING = "prepare"
"""Name of the child module that turns pixels into the input of the rest of a network."""


class Proxy(ABC):
    """A score of an untrained network; a larger one should mean a higher accuracy after training.

    Proxies tell poor networks from usable ones but hardly rank good networks, and they grow with a network's size:
    Krishnakumar et al. 2022, https://arxiv.org/abs/2210.03230.

    Promises:
    - The network and the random state of the process stay as they are.
    - The same network and images give the same score.
    - A network of this project's spaces takes less than a second.
    """

    name: str

    @abstractmethod
    def score(self, model: nn.Module, images: Tensor) -> float:
        """The score; larger is better.

        Args:
            model: on the CPU, with fresh weights; from pixels [N, C, H, W] to logits [N, classes].
            images: [N, C, H, W] raw pixels as float32, N at least 2.

        Returns:
            -inf where the network carries no information, as defined by each proxy.
        """


@contextmanager
def scratch_copy(model: nn.Module, *, training: bool) -> Iterator[nn.Module]:
    """A copy of the network that may be changed, with gradients enabled; the random state is restored afterwards."""
    with forked_rng(0), torch.enable_grad():
        yield copy.deepcopy(model).train(training)
