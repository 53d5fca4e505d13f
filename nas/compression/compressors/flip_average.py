"""Flip averaging: the file runs each image and its mirror image as a batch of two and averages the logits.

A face and its mirror image show the same expression, and a network's errors on the two differ, so the average is more
accurate. Known as test-time augmentation (Krizhevsky et al. 2012, section 4.1); here it is inside the file, so accuracy
and latency are those of what ships. It costs twice the multiply-accumulates and no weights. Where kernel launches take
most of the time, as small networks on a GPU, the latency grows by less; whether it pays is found by the search.

Only for images whose classes do not depend on left and right.
"""

from collections.abc import Mapping

import torch
from torch import fx

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor
from nas.onnx_export.folding import insert_after
from nas.onnx_export.tensor_ops import ConcatAxis, Mirror, Reduce, Reshape
from search_spaces._base import Choice, Value

GENE = "flip_average"
ON, OFF = "on", "off"
_PREFIX = "flip_average"


class FlipAverage(Compressor):
    """Gene `flip_average`: on or off. Put it last: the compressors before it work on the network alone."""

    name = "flip_average"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene, on every target."""
        return (Choice(name=GENE, options=(ON, OFF)),)

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Off; and on."""
        return {GENE: OFF}, {GENE: ON}

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The gene where it is on."""
        return {GENE: ON} if configuration.get(GENE, OFF) == ON else {}

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """The graph between a concatenation of both images and the mean of their logits."""
        if context.candidate.settings.get(GENE) != ON:
            return graph
        with torch.no_grad():
            n_classes = graph(torch.zeros(1, *context.input_shape)).shape[1]
        image = next(node for node in graph.graph.nodes if node.op == "placeholder")
        readers = list(image.users)
        mirrored = insert_after(graph, image, Mirror(), f"{_PREFIX}.mirror")
        graph.add_submodule(f"{_PREFIX}.pair", ConcatAxis(0))
        with graph.graph.inserting_after(mirrored):
            pair = graph.graph.call_module(f"{_PREFIX}.pair", (image, mirrored))
        for reader in readers:
            reader.replace_input_with(image, pair)
        (output,) = (node for node in graph.graph.nodes if node.op == "output")
        (logits,) = output.all_input_nodes
        split = insert_after(graph, logits, Reshape((2, -1, n_classes)), f"{_PREFIX}.split")
        mean = insert_after(graph, split, Reduce("ReduceMean", (0,), keepdim=False), f"{_PREFIX}.mean")
        output.replace_input_with(logits, mean)
        graph.recompile()
        return graph

    def notes(self, graph: fx.GraphModule, candidate: Candidate) -> tuple[str, ...]:
        """What the file does with each image."""
        if candidate.settings.get(GENE) != ON:
            return ()
        return ("each image and its mirror image run as a batch of two, and their logits are averaged",)


COMPRESSOR = FlipAverage()
