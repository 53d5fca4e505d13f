"""What a compressor is: genes that a target allows, and what they do to a net or to its folded graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.gene_provider import GeneProvider

FineTuneFunction = Callable[[nn.Module], None]
"""Trains a net in place, for a short while and gently; it is on the CPU in eval mode before and after."""


@dataclass(frozen=True, kw_only=True)
class CompressionContext:
    """What a compressor may know when it works on a net.

    Attributes:
        candidate: whose genes it follows.
        profile: the target.
        input_shape: (C, H, W) of the images.
        images: training images [N, C, H, W], for calibration and importance; never of another split, never noise.
        labels: their classes [N].
        seed: of everything random.
        shapes_only: whether the net's weights are fresh, and what is made of them will be overwritten or never read.
        learned_steps: whether quantised training learns the grids along with the weights.
    """

    candidate: Candidate
    profile: HardwareProfile
    input_shape: tuple[int, int, int]
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    seed: int = 0
    shapes_only: bool = False
    learn_scales: bool = False


class Compressor(GeneProvider):
    """One way to make a net smaller or faster. Stateless.

    Life: `choices` is asked once for a target, `settle` for each candidate. Where a member reshapes a candidate, the
    net learns in its full form for half of its first training; then `on_model` fills the pruned form and `restructure`
    changes layers, and the rest of the training recovers. Every training runs within `training`. A finished net goes
    through `nas.onnx_export.exporter.fold`, then `on_graph`; members of the front through `fine_tune` instead.

    Promises: the neutral setting changes nothing; a stronger setting never makes the file larger; the result still
    exports, and torch computes from it what the exported file computes.
    """

    def changes_shape(self, candidate: Candidate) -> bool:
        """Whether the candidate's net changes its layers' shapes half-way through its first training."""
        return False

    # A hook may do nothing, so it is not abstract.
    def prune(self, wide: nn.Module, slim: nn.Module, context: CompressionContext) -> None:
        """Fill a fresh slim net, in place, from a trained wide one with the same module names.

        Raises:
            BuildError: the slim net is not a narrower form of the wide one; the layer is named.
        """

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """The net with layers replaced by smaller ones computed from them; it may be changed in place.

        The same candidate always gets the same layers and names, whatever the weights are: a checkpoint is loaded into
        a fresh net that went through here.
        """
        return net

    @contextmanager
    def training(self, net: nn.Module, context: CompressionContext) -> Iterator[Callable[[float], None]]:
        """Change how a net learns (masks, rounding) within the block. Afterwards its weights are plain and final.

        Yields:
            What is called before each training step with the progress of this training, 0..1.
        """
        yield _no_op

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """Rewrite a folded graph for the export.

        Args:
            graph: from `nas.onnx_export.exporter.fold`; it may be changed.
            context: whose `images` calibrate.

        Returns:
            A graph that computes in torch what the exported file computes in a runtime.
        """
        return graph

    def fine_tune(self, graph: fx.GraphModule, context: CompressionContext, fit: FineTuneFunction) -> fx.GraphModule:
        """Like `on_graph`, with leave to train the rewritten graph; members that gain nothing by it only rewrite."""
        return self.rewrite_graph(graph, context)

    def notes(self, graph: fx.GraphModule, candidate: Candidate) -> tuple[str, ...]:
        """What a reader of the figures of this graph's file has to know, one sentence each."""
        return ()


def _no_op(progress: float) -> None:
    return None
