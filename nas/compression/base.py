"""Contract of a compressor: genes that a target allows, and what they change in a net or in its folded graph."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.gene_provider import GeneProvider
from nas.config import CompressionFields

FineTuneFunction = Callable[[nn.Module], None]
"""Trains a net in place, briefly and at a low learning rate. The net is on the CPU in eval mode before and after."""


@dataclass(frozen=True, kw_only=True)
class CompressionContext:
    """Facts that a compressor may use when it works on a net.

    Attributes:
        candidate: the candidate whose genes apply.
        profile: the target device.
        input_shape: (C, H, W) of the images.
        images: training images [N, C, H, W] for calibration and importance; never from another split, never noise.
        labels: class indices [N] of the images.
        seed: seed of every random choice.
        shapes_only: whether only shapes matter, because the weights are untrained and will be overwritten or never
            read.
        learn_scales: whether quantisation-aware training learns the quantisation scales along with the weights.
        kept_layers: names of layers that stay as they are: not pruned, factorised or quantised. They are in the
            target's widest precision.
        layer_bits: bit-widths of single layers by name, which take precedence over those of their units.
    """

    candidate: Candidate
    profile: HardwareProfile
    input_shape: tuple[int, int, int]
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    seed: int = 0
    shapes_only: bool = False
    learn_scales: bool = False
    kept_layers: frozenset[str] = frozenset()
    layer_bits: Mapping[str, int] = field(default_factory=dict)

    def is_kept(self, name: str) -> bool:
        """Whether a module, or a tensor of it, belongs to a layer that stays as it is."""
        return any(name == layer or name.startswith(f"{layer}.") for layer in self.kept_layers)


class Compressor(GeneProvider):
    """One method that makes a net smaller or faster. Stateless: everything it needs arrives in its arguments.

    Life, in this order:

    0. `configured` gives the member of a search whose configuration has fields for it.
    1. `choices` and `initial_settings` are called once for each target and define the genes of the search.
    2. `effective_settings` reduces the genes of each configuration to those that change the candidate. The candidate's
       key depends on the result.
    3. Where `changes_shape` is true, the net first trains in its full form. Half-way through its first training,
       `prune` fills the net of the pruned widths and `restructure` replaces layers; the rest of the training recovers
       the accuracy.
    4. Every training runs inside `training`.
    5. `nas.onnx_export.folding.fold` turns the trained net into a graph, which `rewrite_graph` changes for the export.
       A candidate on the front takes `fine_tune` instead.
    6. `notes` explains the resulting file to the reader of its figures.

    Promises:

    - The neutral setting, the first one of `initial_settings`, changes nothing.
    - A stronger setting never makes the file larger.
    - The result exports, and torch computes from the graph what a runtime computes from the file.

    Only `choices` must be implemented; all other methods default to doing nothing.
    """

    def configured(self, fields: CompressionFields) -> "Compressor":
        """The member with the options of a search's configuration; itself where it has none.

        Raises:
            UnknownMemberError: a field names a member of another family that does not exist.
            MissingPackageError: a field names something whose optional package is not installed.
        """
        return self

    def changes_shape(self, candidate: Candidate) -> bool:
        """Whether the shapes of the candidate's layers change half-way through its first training."""
        return False

    # Not abstract: most members do not prune.
    def prune(self, wide: nn.Module, slim: nn.Module, context: CompressionContext) -> None:
        """Fill an untrained slim net, in place, from a trained wide net with the same module names.

        Args:
            wide: the trained net; it is not changed.
            slim: the net of the pruned widths.
            context: the candidate and the images for the importance of channels.

        Raises:
            BuildError: the slim net is not a narrower form of the wide net; the message names the layer.
            UnknownMemberError: a gene names a criterion that does not exist.
        """

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """Replace layers by smaller ones that are computed from their weights.

        Layers and names depend on the candidate alone, never on the weights: a checkpoint is loaded into an untrained
        net that was restructured in the same way.

        Args:
            net: a net of the pruned widths; it may be changed in place.
            context: with `shapes_only`, the new weights may be arbitrary.

        Returns:
            The restructured net, or `net` itself.

        Raises:
            MissingPackageError: the member needs an optional package that is not installed.
        """
        return net

    def shapes_weights(self, candidate: Candidate) -> bool:
        """Whether `training` masks or rounds weights, so that they cannot be trained as a sum of branches."""
        return False

    @contextmanager
    def training(self, net: nn.Module, context: CompressionContext) -> Iterator[Callable[[float], None]]:
        """Context manager that changes how a net trains (masks, rounding); afterwards its weights are plain and final.

        Args:
            net: the net, or the rewritten graph in a fine-tuning; it is changed in place.
            context: the candidate.

        Yields:
            A function to call before each training step with the progress of this training, 0..1.

        Raises:
            MissingPackageError: the member needs an optional package that is not installed.
        """
        yield no_op

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """Rewrite a folded graph for the export.

        Args:
            graph: from `nas.onnx_export.folding.fold`; it may be changed in place.
            context: the candidate, and the images for calibration.

        Returns:
            A graph that computes in torch what the exported file computes in a runtime.

        Raises:
            ExportError: the graph, the bits or the calibration images do not fit the method.
        """
        return graph

    def fine_tune(self, graph: fx.GraphModule, context: CompressionContext, fit: FineTuneFunction) -> fx.GraphModule:
        """Like `rewrite_graph`, but the rewritten graph may be trained. By default it is only rewritten.

        Args:
            graph: as in `rewrite_graph`.
            context: as in `rewrite_graph`.
            fit: trains the graph in place; a member calls it once or not at all.

        Returns:
            As `rewrite_graph`: the same kinds of modules, with trained weights.

        Raises:
            ExportError: as in `rewrite_graph`.
            TrainError: the training diverged.
            MissingPackageError: the member needs an optional package that is not installed.
        """
        return self.rewrite_graph(graph, context)

    def notes(self, graph: fx.GraphModule, candidate: Candidate) -> tuple[str, ...]:
        """Facts that a reader needs to understand the figures of the exported file.

        Args:
            graph: the rewritten graph.
            candidate: the candidate.

        Returns:
            One sentence for each fact; empty where there is none.
        """
        return ()


def no_op(progress: float) -> None:
    """A step callback that does nothing."""
