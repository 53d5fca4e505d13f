"""Random candidates as untrained files, for calibrations and for the benchmarks of latency models.

Nothing is trained, because a file's latency does not depend on its weights.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.compression.pipeline import CompressionPipeline
from nas.latency.costs import Costs, compute_costs
from nas.models.seeding import forked_rng
from nas.onnx_export.exporter import export_onnx
from search_spaces._base import DisconnectedError, SearchSpace, Value

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
N_CALIBRATION_IMAGES = 4  # enough, because activation ranges change no latency
_PATCH_PIXELS = 8


def random_candidate(space: SearchSpace, compression: CompressionPipeline, rng: random.Random) -> Candidate:
    """A candidate with uniformly drawn genes; drawn again while its input and output are not connected."""
    genes = list(space.choices(channel_multiple=compression.profile.channel_multiple))
    genes += compression.choices(space.stages)
    while True:
        picked: Mapping[str, Value] = {gene.name: rng.choice(gene.options) for gene in genes}
        try:
            return compression.decode(space, picked)
        except DisconnectedError:
            continue


def with_uniform_bits(candidate: Candidate, bits: int) -> Candidate:
    """The same network with one bit-width in every unit."""
    return replace(candidate, bits=dict.fromkeys(candidate.bits, bits))


@forked_rng(0)
def export_untrained(
    candidate: Candidate,
    path: Path,
    *,
    space: SearchSpace,
    compression: CompressionPipeline,
    input_shape: tuple[int, int, int],
) -> Costs:
    """Build, prune the shape of, quantise and export a candidate with random weights, and count the costs of its file.

    Raises:
        CandidateError: it cannot be built or exported.
    """
    net = space.build(
        candidate.architecture, input_shape=input_shape, classes=len(CLASSES), widths=candidate.pruned
    ).eval()
    images = _random_images(input_shape)
    labels = np.arange(len(images)) % len(CLASSES)
    context = CompressionContext(
        candidate=candidate, profile=compression.profile, input_shape=input_shape, images=images, labels=labels,
        shapes_only=True,
    )  # fmt: skip
    graph = compression.compress_graph(compression.restructure(net, context), context)
    return compute_costs(export_onnx(graph, path, input_shape=input_shape, classes=CLASSES, metadata={}).path)


def _random_images(input_shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """[N_CALIBRATION_IMAGES, *shape] Patches of uniform brightness: the quantiser refuses uncorrelated noise."""
    c, h, w = input_shape
    coarse = (N_CALIBRATION_IMAGES, c, -(-h // _PATCH_PIXELS), -(-w // _PATCH_PIXELS))
    patches = np.random.default_rng(0).integers(0, 256, coarse, dtype=np.uint8)
    return patches.repeat(_PATCH_PIXELS, axis=2).repeat(_PATCH_PIXELS, axis=3)[:, :, :h, :w]
