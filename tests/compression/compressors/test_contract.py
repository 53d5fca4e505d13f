"""Contract of the compressors, run over every member of the family."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.candidate import Candidate, pruned_width
from nas.compression.base import CompressionContext, Compressor
from nas.compression.pipeline import CompressionPipeline
from nas.errors import MissingPackageError
from nas.latency.costs import packed_bytes
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import check_parity, parity_tolerance
from nas.runtimes.backends.onnxruntime import RUNTIME
from nas.targets.catalog import load_targets
from search_spaces._base import Choice, Value
from tests.random_nets import CLASSES, SHAPE, SPACES, RandomNet, context_of, pictures, random_net, trained_net

COMPRESSORS = [registry.load("compressor", name) for name in registry.names("compressor")]
PROFILES = tuple(load_targets().values())
MULTIPLE = 8
STAGE_GENES = ("sparsity", "zeros", "rank")
"""Kinds of genes that stem and head do not have; further kinds may name any unit."""
UNIT_GENES = ("sparsity", "bits", "zeros", "rank")
"""Kinds of genes that always name a unit."""


def missing(compressor: Compressor) -> str:
    """Why the member cannot be used on this machine; empty if it can."""
    try:
        compressor.choices((), everything())
    except MissingPackageError as error:
        return str(error)
    return ""


def everything() -> HardwareProfile:
    """The profile that allows the most genes."""
    return max(PROFILES, key=lambda p: (len(p.precisions), float(p.facts.get("compute_capability", 0))))


MISSING = {compressor.name: missing(compressor) for compressor in COMPRESSORS}
pytestmark = pytest.mark.parametrize(
    "compressor",
    [
        pytest.param(c, id=c.name, marks=pytest.mark.skipif(bool(MISSING[c.name]), reason=MISSING[c.name]))
        for c in COMPRESSORS
    ],
)


def neutral(compressor: Compressor, choice: Choice) -> Value:
    """The value that leaves the net unchanged, from the member's first initial setting."""
    return compressor.initial_settings(("stage1", "stage2", "stage3", "stage4"), everything())[0][choice.name]


def by_strength(compressor: Compressor, choice: Choice) -> list[Value]:
    """The options from the neutral one, which stands at an end, to the strongest; words have no order: only the neutral
    one."""
    start = neutral(compressor, choice)
    options = list(choice.options)
    if isinstance(start, str):
        return [start]
    return options if options[0] == start else options[::-1]


def context_for(compressor: Compressor, sample: RandomNet, genes: dict[str, Value]) -> CompressionContext:
    """A context with pictures for the candidate of these genes; genes that are not given are neutral."""
    widths = sample.widths
    plain = context_of(
        {unit: int(genes.get(f"bits.{unit}", 32)) for unit in sample.units},
        space=sample.space.name,
        architecture=sample.architecture,
        widths=widths,
        pruned={s: pruned_width(w, float(genes.get(f"sparsity.{s}", 0)), MULTIPLE) for s, w in widths.items()},
    )
    candidate = replace(plain.candidate, settings=compressor.effective_settings(genes, plain.candidate))
    return replace(plain, candidate=candidate)


def compressed(compressor: Compressor, sample: RandomNet, genes: dict[str, Value]) -> tuple[fx.GraphModule, Candidate]:
    """The compressed graph of a net under these genes, and its candidate."""
    context = context_for(compressor, sample, genes)
    net = copy.deepcopy(sample.net)
    if context.candidate.is_pruned:
        net = sample.with_widths(context.candidate.pruned)
        compressor.prune(sample.net, net, context)
    net = compressor.restructure(net, context).eval()
    with compressor.training(net, context) as before_step:
        for progress in (0.0, 0.5, 1.0):
            before_step(progress)
    return compressor.rewrite_graph(fold(net, input_shape=SHAPE), context), context.candidate


def size_of(graph: fx.GraphModule, folder: Path) -> tuple[int, int]:
    """Bytes of the exported file, and of the packed file."""
    file = export_onnx(graph, folder / "model.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    return file.size_bytes, packed_bytes(file.path)


def genes_of(compressor: Compressor, sample: RandomNet) -> list[Choice]:
    """The member's genes that name a unit of this net, or no unit."""
    return [
        choice
        for choice in compressor.choices(sample.space.stages, everything())
        if "." not in choice.name or choice.name.split(".")[1] in sample.units
    ]


def test_a_member_is_named_after_its_file(compressor: Compressor) -> None:
    assert registry.load("compressor", compressor.name) is compressor


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_genes_are_readable_by_a_candidate_and_fit_the_device(compressor: Compressor, profile: HardwareProfile) -> None:
    stages = ("stage1", "stage2")
    seeds = compressor.initial_settings(stages, profile)
    for choice in compressor.choices(stages, profile):
        kind, dot, unit = choice.name.partition(".")
        units = stages if kind in STAGE_GENES else ("stem", *stages, "head")
        assert unit in units if dot else kind not in UNIT_GENES
        assert len(choice.options) > 1, "a gene needs at least two options"
        assert seeds[0][choice.name] in choice.options
        if not isinstance(seeds[0][choice.name], str):
            assert list(choice.options) == sorted(choice.options)  # type: ignore[type-var]
            assert seeds[0][choice.name] in (choice.options[0], choice.options[-1])
        if kind == "sparsity":
            assert seeds[0][choice.name] == 0
        if kind == "bits":
            assert seeds[0][choice.name] == choice.options[-1]
            assert set(choice.options) <= set(profile.precisions)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_initial_settings_use_only_own_genes(compressor: Compressor, profile: HardwareProfile) -> None:
    stages = ("stage1", "stage2")
    options = {choice.name: choice.options for choice in compressor.choices(stages, profile)}
    for seed in compressor.initial_settings(stages, profile):
        assert all(value in options[gene] for gene, value in seed.items())


def test_members_do_not_share_genes(compressor: Compressor) -> None:
    own = {choice.name for choice in compressor.choices(("stage1",), everything())}
    for other in (c for c in COMPRESSORS if not MISSING[c.name]):
        assert other is compressor or not own & {c.name for c in other.choices(("stage1",), everything())}


@pytest.mark.parametrize("space_name", SPACES)
def test_the_neutral_setting_changes_nothing(compressor: Compressor, space_name: str, tmp_path: Path) -> None:
    sample = random_net(space_name, seed=1)
    before = fold(sample.net, input_shape=SHAPE)
    after, candidate = compressed(compressor, sample, {})
    assert not candidate.is_pruned
    pixels = torch.from_numpy(pictures(4, seed=3)).float()
    with torch.no_grad():
        assert torch.equal(before(pixels), after(pixels))
    assert size_of(before, tmp_path / "a") == size_of(after, tmp_path / "b")


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("attention", ["se", "eca"])
def test_every_setting_exports_and_agrees_with_torch(
    compressor: Compressor, space_name: str, attention: str, tmp_path: Path
) -> None:
    sample, rng = trained_net(space_name, seed=1, attention=attention), np.random.default_rng(0)
    choices = genes_of(compressor, sample)
    for _ in range(3):
        genes = {choice.name: choice.options[rng.integers(len(choice.options))] for choice in choices}
        graph, candidate = compressed(compressor, sample, genes)
        file = export_onnx(graph, tmp_path / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
        limit = parity_tolerance(candidate.bits)
        check_parity(graph, RUNTIME.load(file.path), pictures(200, seed=11), path=file.path, max_difference=limit)


@pytest.mark.parametrize("space_name", SPACES)
def test_a_stronger_setting_never_makes_the_file_larger(
    compressor: Compressor, space_name: str, tmp_path: Path
) -> None:
    sample = random_net(space_name, seed=2)
    scales = {choice.name: by_strength(compressor, choice) for choice in genes_of(compressor, sample)}
    sizes, packed = [], []
    for step in range(max(len(options) for options in scales.values())):
        setting = {name: options[min(step, len(options) - 1)] for name, options in scales.items()}
        size, small = size_of(compressed(compressor, sample, setting)[0], tmp_path)
        sizes.append(size)
        packed.append(small)
    assert sizes == sorted(sizes, reverse=True), sizes
    assert packed == sorted(packed, reverse=True), packed
    assert packed[-1] < packed[0] or all(len(options) == 1 for options in scales.values())


def test_decoded_candidates_can_be_compressed(compressor: Compressor) -> None:
    space = registry.load("space", "plain")
    profile = everything()
    own = compressor.choices(space.stages, profile)
    picked = {choice.name: choice.options[0] for choice in space.choices(channel_multiple=8)}
    picked |= {
        choice.name: max(choice.options, key=lambda option: option != neutral(compressor, choice)) for choice in own
    }
    compression = CompressionPipeline(compressors=[compressor], profile=profile)
    candidate = compression.decode(space, picked)
    net = space.build(candidate.architecture, input_shape=SHAPE, classes=4, widths=candidate.pruned).eval()
    wide = space.build(candidate.architecture, input_shape=SHAPE, classes=4).eval()
    context = replace(context_of(images=8), candidate=candidate, profile=profile)
    compression.prune(wide, net, context)
    graph = compression.compress_graph(compression.restructure(net, context).eval(), context)
    with torch.no_grad():
        assert graph(torch.from_numpy(pictures(2, seed=1)).float()).shape == (2, 4)
