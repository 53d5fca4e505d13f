"""Verdict on faults of torch that nas.training.cpu_kernels works around."""

import pytest
import torch

FAULTY_VERSION = "2.13."
"""Torch with the faults; a CPU may still not show them."""


def check_still_faulty(shows_fault: bool, observation: str) -> None:
    """Fail where a torch later than the faulty one shows no fault any more; skip where this CPU does not show it."""
    if shows_fault:
        return
    cpu = torch.backends.cpu.get_cpu_capability()
    if torch.__version__.startswith(FAULTY_VERSION):
        pytest.skip(f"this CPU ({cpu}) does not show the fault of torch {torch.__version__}: {observation}")
    pytest.fail(f"torch is mended: delete the workaround; torch {torch.__version__} on {cpu}: {observation}")
