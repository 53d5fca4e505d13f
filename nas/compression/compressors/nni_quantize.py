"""Training methods for quantised nets from NNI 3.0. Needs the extra `nni`; list this member behind `quantize`.

- `qat` and `lsq` train the units that the member `quantize` has made INT8, for candidates on the front only.
- `dorefa` and `bnn` train the stages' convolutions to few levels from the first step on and store them as int4. The
  file shrinks; the latency does not change.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import fx, nn

from hw_profiles._base import FLOAT32_BITS, INT8_BITS, HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor, FineTuneFunction, no_op
from nas.compression.nni import adapter
from nas.compression.nni.low_bit import MAX_LEVEL, convs_before_batch_norm, nni_low_bit_training, to_low_bit_layer
from nas.compression.nni.quantizers import NNI_QUANTIZERS, train_quantized_graph
from nas.compression.quantization.float16 import round_weights_to_float16
from nas.compression.quantization.low_bit import INT4_RUNTIME
from nas.compression.quantization.node_bits import node_bits
from nas.onnx_export.folding import module_nodes, module_of, unit_name
from search_spaces._base import Choice, Value

GENE = "nni_quantizer"
NEUTRAL = "none"


class NniQuantize(Compressor):
    """Gene `nni_quantizer`: the method, or `none`."""

    name = "nni_quantize"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene over the methods that fit the device's precisions.

        Raises:
            MissingPackageError: nni is not installed.
        """
        adapter.require_nni()
        int8_methods = tuple(NNI_QUANTIZERS) if INT8_BITS in profile.precisions else ()
        low_bit_methods = tuple(MAX_LEVEL) if FLOAT32_BITS in profile.precisions else ()
        methods = (*int8_methods, *low_bit_methods)
        return (Choice(name=GENE, options=(NEUTRAL, *methods)),) if methods else ()

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """No method of NNI."""
        return ({GENE: NEUTRAL},) if self.choices(stages, profile) else ({},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The method, where it has an effect.

        - `qat` and `lsq` need an INT8 unit.
        - `dorefa` and `bnn` need an FP32 stage and no INT8 unit, because the fine-tuning of INT8 units would move the
          weights off their levels.
        """
        method, has_int8 = configuration.get(GENE, NEUTRAL), INT8_BITS in candidate.bits.values()
        has_effect = {
            **dict.fromkeys(NNI_QUANTIZERS, has_int8),
            **dict.fromkeys(MAX_LEVEL, bool(_low_bit_stages(candidate)) and not has_int8),
        }
        return {GENE: method} if has_effect.get(str(method)) else {}

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """Round the weights of a net that will not be trained, so that its file has the size of the trained one."""
        if not context.shapes_only:
            return net
        with self.training(net, context):
            return net

    def shapes_weights(self, candidate: Candidate) -> bool:
        """Whether weights are trained through a rounding: with `dorefa` and `bnn`."""
        return candidate.settings.get(GENE, NEUTRAL) in MAX_LEVEL

    @contextmanager
    def training(self, net: nn.Module, context: CompressionContext) -> Iterator[Callable[[float], None]]:
        """With `dorefa` and `bnn`, the stages' weights are trained through their rounding.

        Raises:
            MissingPackageError: nni is not installed.
        """
        method = _method(context)
        if method not in MAX_LEVEL:
            yield no_op
            return
        stages = _low_bit_stages(context.candidate)
        layers = [
            name for name in convs_before_batch_norm(net) if unit_name(name) in stages and not context.is_kept(name)
        ]
        with nni_low_bit_training(net, layers, method) as before_step:
            yield before_step

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """Store weights that lie on few levels as int4, where the runtime reads int4 before a convolution."""
        method = _method(context)
        if method not in MAX_LEVEL or context.profile.runtime != INT4_RUNTIME:
            return graph
        stages = _low_bit_stages(context.candidate)
        for node in module_nodes(graph):
            conv, name = module_of(graph, node), str(node.target)
            if context.is_kept(name):
                continue
            if isinstance(conv, nn.Conv2d) and conv.groups == 1 and unit_name(name) in stages:
                graph.set_submodule(name, to_low_bit_layer(conv, method) or conv)
        graph.recompile()
        return graph

    def fine_tune(self, graph: fx.GraphModule, context: CompressionContext, fit: FineTuneFunction) -> fx.GraphModule:
        """With `qat` and `lsq`, train the INT8 units; otherwise only rewrite the graph.

        Raises:
            TrainError: a trained scale is no longer positive.
            MissingPackageError: nni is not installed.
        """
        method = _method(context)
        if method not in NNI_QUANTIZERS:
            return self.rewrite_graph(graph, context)
        train_quantized_graph(graph, method, fit)
        round_weights_to_float16(graph, node_bits(graph, context))  # trained in FP32, stored in FP16
        return graph


def _method(context: CompressionContext) -> str:
    return str(context.candidate.settings.get(GENE, NEUTRAL))


def _low_bit_stages(candidate: Candidate) -> tuple[str, ...]:
    """The stages whose weights may take few levels."""
    return tuple(stage for stage in candidate.widths if candidate.bits.get(stage) == FLOAT32_BITS)


COMPRESSOR = NniQuantize()
