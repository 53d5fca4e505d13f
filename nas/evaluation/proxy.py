"""What a zero-cost proxy is, and the parts that several share."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PREPROCESSING = "prepare"
"""The child of a net that turns pixels into what the rest reads."""


class Proxy(ABC):
    """A number read off a net that was never trained; more should mean more accurate after training.

    Proxies tell bad nets from usable ones but hardly tell good nets apart, and they grow with a net's size:
    Krishnakumar et al. 2022, https://arxiv.org/abs/2210.03230.

    Promises: the net and the random state are left as they were; the same net and images give the same number; nets of
    our spaces take less than a second.
    """

    name: str

    @abstractmethod
    def score(self, model: nn.Module, images: Tensor) -> float:
        """The number; -inf where the net says nothing.

        Args:
            model: on the CPU, with fresh weights; from pixels [N, C, H, W] to logits [N, classes].
            images: [N, C, H, W] raw pixels as float32, N at least 2.
        """


@contextmanager
def scratch_copy(model: nn.Module, *, training: bool) -> Iterator[nn.Module]:
    """A copy of the net that may be changed, with gradients on; the random state is put back afterwards."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        yield copy.deepcopy(model).train(training)
