"""Builder of a candidate's network: fresh weights, pruned widths, final shape, and the compressed graph of its file.

A builder trains nothing and reads no file. Every seed that it gives depends on the seed of the search, the candidate,
the phase and the number of the training, but on no order of work, so that an interrupted search repeats.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import fx, nn

from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.compression.pipeline import CompressionPipeline
from nas.config import CompressionFields
from nas.data.base import FaceData
from search_spaces._base import SearchSpace

CALIBRATION_IMAGES = 256
"""Training images that calibrate quantisation."""
IMPORTANCE_IMAGES = 1024
"""Training images that rank channels. Each image's effect counts, so a criterion needs more than a range does."""
UNTRAINED_CALIBRATION_IMAGES = 8
"""Training images that calibrate an untrained network: its file is timed and weighed, but never scored."""
INITIALISATION, CALIBRATION = -1, -2
"""Phase numbers of the seeds that no training phase uses."""


@dataclass(frozen=True, kw_only=True)
class ModelBuilder:
    """Builds the networks of candidates.

    Fresh weights come from torch's global generator: call `build` and what follows it within
    `nas.models.seeding.forked_rng`, one block for all networks whose weights belong together.

    Attributes:
        compression_config: whether quantised training learns its scales.
        space: decides the architecture.
        compression: pruning, restructuring and quantisation for the target.
        data: its image shape, its classes, and training images for calibration.
        seed: seed of the search.
        seed_index: number of the training, where a candidate is trained several times; each has its own initial
            weights and its own order of images.
    """

    compression_config: CompressionFields
    space: SearchSpace
    compression: CompressionPipeline
    data: FaceData
    seed: int = 0
    seed_index: int = 0

    def build(self, candidate: Candidate, widths: Mapping[str, int]) -> nn.Module:
        """The candidate's network with fresh weights in these widths, before any restructuring."""
        return self.space.build(
            candidate.architecture, input_shape=self.data.input_shape, classes=len(self.data.classes), widths=widths
        )

    def build_final_shape(self, candidate: Candidate) -> nn.Module:
        """The candidate's network with fresh weights, pruned and restructured."""
        context = replace(self.compression_context(candidate, UNTRAINED_CALIBRATION_IMAGES), shapes_only=True)
        return self.compression.restructure(self.build(candidate, candidate.pruned), context)

    def narrow(self, candidate: Candidate, net: nn.Module, widths: Mapping[str, int], *, is_final: bool) -> nn.Module:
        """A copy of a trained network that keeps the most important channels.

        Args:
            candidate: whose genes choose the importance criterion and the restructuring.
            net: trained, at least as wide as `widths`; left as it is.
            widths: channels by stage.
            is_final: whether these are the candidate's pruned widths, at which its layers are restructured.
        """
        context = self.compression_context(candidate, IMPORTANCE_IMAGES)
        slim = self.build(candidate, widths)
        self.compression.prune(net, slim, context)
        return self.compression.restructure(slim, context) if is_final else slim

    def compress_graph(
        self, candidate: Candidate, net: nn.Module, *, n_images: int, shapes_only: bool = False
    ) -> fx.GraphModule:
        """The folded and compressed graph of a network in its final shape.

        Args:
            candidate: whose genes set the compression; its FP32 baseline may share the network.
            net: in eval mode on the CPU.
            n_images: training images for calibration.
            shapes_only: whether the weights are fresh, so that only the size and latency of the file count.
        """
        context = replace(self.compression_context(candidate, n_images), shapes_only=shapes_only)
        return self.compression.compress_graph(net, context)

    def compression_context(self, candidate: Candidate, n_images: int) -> CompressionContext:
        """What compressors may know: the candidate, the target, and evenly spaced rows of the training split."""
        rows = self.data.train.evenly_spread_rows(n_images)
        return CompressionContext(
            candidate=candidate, profile=self.compression.profile, input_shape=self.data.input_shape,
            images=self.data.train.images[rows], labels=np.asarray(self.data.train.labels[rows], dtype=np.int64),
            seed=self.seed_for(candidate, CALIBRATION), learn_scales=self.compression_config.qat_scales == "learned",
            kept_layers=self.space.kept_layers,
        )  # fmt: skip

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of any candidate's figures needs to know, one sentence each."""
        n_kept = len(self.space.kept_layers)
        return (f"layers kept as they are, whatever the bits of their stage: {n_kept}",) if n_kept else ()

    def seed_for(self, candidate: Candidate, phase_index: int) -> int:
        """Seed of 32 bits for one phase of a candidate: the same in any order of work, and in a resumed search."""
        # The first training leaves its number out: run folders that know no further trainings keep their seeds.
        text = f"{self.seed}/{candidate.key}/{phase_index}" + (f"/{self.seed_index}" if self.seed_index else "")
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
