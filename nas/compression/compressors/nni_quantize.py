"""NNI 3.0's quantisers as methods of training for quantised nets. Needs the extra `nni`; list it behind `quantize`.

`qat` and `lsq` train units that the member quantize has put into 8 bits, on the front only. `dorefa` and `bnn` train
the stages' convolutions to few levels from the first step on and store them as int4: the file shrinks, the latency does
not change.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor, FineTuneFunction
from nas.compression.nni import adapter as _nni
from nas.compression.nni.low_bit import MAX_LEVEL, convs_before_batch_norm, nni_low_bit_training, to_low_bit_layer
from nas.compression.nni.quantizers import NNI_QUANTIZERS, train_quantized_graph
from nas.onnx_export.folding import module_nodes, module_of
from search_spaces._base import Choice, Value

GENE = "nni_quantizer"
NEUTRAL = "none"
FLOAT16_BITS = 16
FLOAT32_BITS = 32
INT4_RUNTIME = "onnxruntime"
"""The runtime that reads int4 weights of a convolution."""


class NniQuantize(Compressor):
    """Gene `nni_quantizer`: the method, or none."""

    name = "nni_quantize"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene over the methods that fit the device's precisions.

        Raises:
            MissingPackageError: nni is not installed.
        """
        _nni.require_nni()
        integer = tuple(NNI_QUANTIZERS) if 8 in profile.precisions else ()
        few = tuple(MAX_LEVEL) if FLOAT32_BITS in profile.precisions else ()
        return (Choice(name=GENE, options=(NEUTRAL, *integer, *few)),) if integer or few else ()

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """None of them."""
        return ({GENE: NEUTRAL},) if self.choices(stages, profile) else ({},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The method where it has something to do.

        `qat` and `lsq` need a unit in 8 bits. `dorefa` and `bnn` need a stage in 32 bits and no unit in 8, whose
        training would move their weights off the levels again.
        """
        word, integer = configuration.get(GENE, NEUTRAL), 8 in candidate.bits.values()
        fits = {
            **dict.fromkeys(NNI_QUANTIZERS, integer),
            **dict.fromkeys(MAX_LEVEL, bool(_low_bit_stages(candidate)) and not integer),
        }
        return {GENE: word} if fits.get(str(word)) else {}

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """A net that is not to be trained gets rounded weights, so that its file weighs what the trained one will."""
        if not context.shapes_only:
            return net
        with self.training(net, context):
            return net

    @contextmanager
    def training(self, net: nn.Module, context: CompressionContext) -> Iterator[Callable[[float], None]]:
        """With `dorefa` and `bnn`, the stages' weights learn through their rounding.

        Raises:
            MissingPackageError: nni is not installed.
        """
        method = _method(context)
        if method not in MAX_LEVEL:
            yield _no_op
            return
        layers = [
            name for name in convs_before_batch_norm(net) if name.split(".")[0] in _low_bit_stages(context.candidate)
        ]
        with nni_low_bit_training(net, layers, method) as before_step:
            yield before_step

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """Stores weights that lie on few levels as int4, where the runtime reads it before a convolution."""
        method = _method(context)
        if method not in MAX_LEVEL or context.profile.runtime != INT4_RUNTIME:
            return graph
        for node in module_nodes(graph):
            conv, name = module_of(graph, node), str(node.target)
            if (
                isinstance(conv, nn.Conv2d)
                and conv.groups == 1
                and name.split(".")[0] in _low_bit_stages(context.candidate)
            ):
                graph.set_submodule(name, to_low_bit_layer(conv, method) or conv)
        graph.recompile()
        return graph

    def fine_tune(self, graph: fx.GraphModule, context: CompressionContext, fit: FineTuneFunction) -> fx.GraphModule:
        """With `qat` and `lsq`, trains the 8-bit units; else as `on_graph`.

        Raises:
            TrainError: a step of a grid is no longer positive.
            MissingPackageError: nni is not installed.
        """
        method = _method(context)
        if method not in NNI_QUANTIZERS:
            return self.rewrite_graph(graph, context)
        train_quantized_graph(graph, method, fit)
        for node in module_nodes(graph):
            if context.candidate.bits.get(str(node.target).split(".")[0]) == FLOAT16_BITS:
                module_of(graph, node).half().float()  # they have learned in float32
        return graph


def _method(context: CompressionContext) -> str:
    return str(context.candidate.settings.get(GENE, NEUTRAL))


def _low_bit_stages(candidate: Candidate) -> tuple[str, ...]:
    """The stages whose weights may take few levels."""
    return tuple(stage for stage in candidate.widths if candidate.bits.get(stage) == FLOAT32_BITS)


def _no_op(progress: float) -> None:
    return None


COMPRESSOR = NniQuantize()
