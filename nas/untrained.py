"""Random candidates as untrained files: a file's latency does not depend on its weights, so nothing has to be trained.

What a calibration and the benchmarks of the latency models time.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate, decode
from nas.compressors._base import Compressor
from nas.costs import Costs, costs
from nas.export import export, fold
from search_spaces._base import DisconnectedError, SearchSpace, Value

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CALIBRATION_IMAGES = 4  # noise: the ranges of the activations change no latency


def draw(
    space: SearchSpace, compressors: Sequence[Compressor], profile: HardwareProfile, generator: random.Random
) -> Candidate:
    """A candidate with every gene of the space and of the compressors drawn evenly; nets without a path are redrawn."""
    genes = list(space.choices(channel_multiple=profile.channel_multiple))
    genes += [gene for member in compressors for gene in member.choices(space.stages, profile)]
    while True:
        picked: Mapping[str, Value] = {gene.name: generator.choice(gene.options) for gene in genes}
        try:
            return decode(space, picked, channel_multiple=profile.channel_multiple, precisions=profile.precisions)
        except DisconnectedError:
            continue


def with_bits(candidate: Candidate, bits: int) -> Candidate:
    """The same net with every unit at one bit-width."""
    return replace(candidate, bits=dict.fromkeys(candidate.bits, bits))


def write_untrained(
    candidate: Candidate,
    path: Path,
    *,
    space: SearchSpace,
    compressors: Sequence[Compressor],
    profile: HardwareProfile,
    input_shape: tuple[int, int, int],
) -> Costs:
    """Build, prune the shape, quantise and export a candidate with fresh weights; returns what its file costs.

    Raises:
        CandidateError: it cannot be built or exported.
    """
    torch.manual_seed(0)
    net = space.build(
        candidate.architecture, input_shape=input_shape, classes=len(CLASSES), widths=candidate.pruned
    ).eval()
    images = np.random.default_rng(0).integers(0, 256, (CALIBRATION_IMAGES, *input_shape), dtype=np.uint8)
    graph = fold(net, input_shape=input_shape)
    for member in compressors:
        graph = member.on_graph(graph, bits=candidate.bits, calibration=images, signed=profile.activation_signed)
    return costs(export(graph, path, input_shape=input_shape, classes=CLASSES, metadata={}).path)
