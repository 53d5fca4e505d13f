"""The nets of the benchmarks that train: each can be built and has the stated shape, without training it."""

import pytest
import torch

from benchmarks import distill, prune_or_scratch, qat
from benchmarks._compression_facts import PUBLISHED_INT8_SPEEDUPS
from benchmarks._compression_nets import FAMILIES
from nas.data.base import FaceData
from nas.data.loading import load_data
from nas.registry import load


@pytest.fixture(scope="module")
def data() -> FaceData:
    return load_data("synthetic", None)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_gives_a_logit_per_class(name: str, data: FaceData) -> None:
    net = FAMILIES[name].build(data).eval()
    assert net(torch.zeros(1, *data.input_shape)).shape == (1, len(data.classes))


@pytest.mark.parametrize(("name", "options", "_"), PUBLISHED_INT8_SPEEDUPS)
def test_every_net_of_a_claim_is_built(name: str, options: dict[str, int], _: float, data: FaceData) -> None:
    net = load("model", name).build(input_shape=data.input_shape, classes=len(data.classes), **options)
    assert sum(parameter.numel() for parameter in net.parameters()) > 0


@pytest.mark.parametrize("block", qat.NETS.values())
def test_blocks_of_the_quantised_nets(block: str) -> None:
    assert block in {stage["block"] for stage in qat.architecture_of(block)["body"]}


def test_students_have_the_stated_widths(data: FaceData) -> None:
    sizes = [sum(p.numel() for p in distill.build(data, widths=w).parameters()) for w in distill.STUDENTS.values()]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("index", prune_or_scratch.NETS.values())
def test_half_of_the_channels_are_removed(index: int) -> None:
    candidate = prune_or_scratch.half_width_candidate(index)
    assert all(2 * candidate.pruned[stage] == width for stage, width in candidate.widths.items())
