"""Seeding of torch for one block of code: the random state of the process is the same before and after.

Whoever calls this package from a notebook owns the global generators of torch, numpy and Python. Layers take their
initial weights, and dropout its masks, from torch's global generators, so a seed can reach them only through those.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def forked_rng(seed: int, *, device: str = "cpu") -> Iterator[None]:
    """Seed torch's global generators within the block, and restore their state afterwards, on errors too.

    Blocks nest: the outer one continues its own sequence after the inner one. The generator of the CPU gives the same
    numbers as after `torch.manual_seed(seed)`.

    Args:
        seed: at least 0, below 2**64.
        device: "cuda" where the block computes on CUDA; its generators are forked too wherever CUDA is in use already.
    """
    # Reading the state of a CUDA generator creates the CUDA context, which takes seconds and hundreds of MiB. Code that
    # runs on the CPU must not pay for that, and CUDA has no state to spoil before its context exists.
    uses_cuda = device == "cuda" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if uses_cuda else []):
        # torch.manual_seed would also queue this seed for CUDA, and so outlast the block where CUDA starts later.
        torch.default_generator.manual_seed(seed)
        if uses_cuda:
            torch.cuda.manual_seed_all(seed)
        yield
