"""Seeding: the numbers of `torch.manual_seed` within the block, and the state of before after it."""

import pytest
import torch

from nas.models.seeding import forked_rng


def test_the_block_draws_the_numbers_of_its_seed() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = torch.rand(5)
    with forked_rng(7):
        assert torch.equal(torch.rand(5), expected)


def test_the_state_is_restored_after_the_block_and_after_an_error() -> None:
    before = torch.random.get_rng_state()
    with forked_rng(1):
        torch.rand(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(RuntimeError), forked_rng(1):
        torch.rand(5).reshape(2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_inner_block_does_not_change_the_sequence_of_the_outer_one() -> None:
    with forked_rng(1):
        expected = torch.rand(6)
    with forked_rng(1):
        first = torch.rand(3)
        with forked_rng(2):
            torch.rand(100)
        assert torch.equal(torch.cat([first, torch.rand(3)]), expected)


def test_the_cpu_alone_starts_no_cuda() -> None:
    was_initialized = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with forked_rng(3):
        torch.rand(1)
    assert torch.cuda.is_initialized() == was_initialized  # type: ignore[no-untyped-call]


@pytest.mark.gpu
def test_cuda_is_seeded_and_restored() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    before = torch.cuda.get_rng_state()
    draws = []
    for _ in range(2):
        with forked_rng(4, device="cuda"):
            draws.append(torch.rand(5, device="cuda"))
    assert torch.equal(*draws)
    assert torch.equal(torch.cuda.get_rng_state(), before)
