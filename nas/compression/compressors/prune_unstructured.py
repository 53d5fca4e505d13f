"""Unstructured pruning: single weights become zero, so the compressed file shrinks; no runtime gets faster.

Magnitude pruning on the gradual schedule of Zhu and Gupta (2017, https://arxiv.org/abs/1710.01878); see
`nas.compression.pruning.magnitude_pruning`. Its gain is reported as non-zero weights and as bytes of the packed file
(`nas.latency.costs.packed_bytes`), never as fewer parameters.

The exception is the 2:4 pattern of Mishra et al. (2021, https://arxiv.org/abs/2104.08378), which sparse tensor cores
skip. Its gene exists only for devices that have them. Layers of fewer than 256 channels stay dense, because NVIDIA's
maintainers say that smaller ones gain nothing (TensorRT issues 3849 and 4065).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor
from nas.compression.pruning.magnitude_pruning import (
    MagnitudePruner,
    ParameterGroup,
    is_prunable,
    supports_2_4_sparsity,
)
from nas.onnx_export.folding import unit_name
from search_spaces._base import Choice, Value

SPARSITY_OPTIONS = (0.0, 0.5, 0.75, 0.9)
LAYER_SCOPE, GLOBAL_SCOPE = "layer", "global"
ANY_PATTERN, TWO_OF_FOUR = "free", "2:4"
MIN_SPARSE_COMPUTE_CAPABILITY = 8.0
"""CUDA compute capability from which tensor cores skip 2:4 zeros."""
MIN_SPARSE_CHANNELS = 256


class PruneUnstructured(Compressor):
    """Genes `zeros.<stage>`, the share of a stage's weights that become zero; `zeros_scope`; perhaps `zeros_pattern`.

    - Scope "layer": each layer gets the share of its stage.
    - Scope "global": the layers of all stages with the same share are ranked together.
    - Pattern "2:4", on targets that skip it: in the stages with zeros, layers that gain from the pattern get two zeros
      in four weights; all others stay dense.
    """

    name = "prune_unstructured"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per stage and one for the scope; one for the pattern where the device skips 2:4 zeros."""
        genes = [Choice(name=f"zeros.{stage}", options=SPARSITY_OPTIONS) for stage in stages]
        genes.append(Choice(name="zeros_scope", options=(GLOBAL_SCOPE, LAYER_SCOPE)))
        if has_sparse_tensor_cores(profile):
            genes.append(Choice(name="zeros_pattern", options=(TWO_OF_FOUR, ANY_PATTERN)))
        return tuple(genes)

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """No zeros."""
        pattern = {"zeros_pattern": ANY_PATTERN} if has_sparse_tensor_cores(profile) else {}
        return ({**{f"zeros.{stage}": 0.0 for stage in stages}, "zeros_scope": LAYER_SCOPE, **pattern},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """Shares above 0 of the stages in use; the scope or the pattern where it changes the result."""
        shares = {stage: float(configuration.get(f"zeros.{stage}", 0.0)) for stage in candidate.widths}
        sparse = [stage for stage, share in shares.items() if share > 0]
        if configuration.get("zeros_pattern") == TWO_OF_FOUR:
            wide = [stage for stage in sparse if candidate.pruned[stage] >= MIN_SPARSE_CHANNELS]
            return {**{f"zeros.{stage}": 0.5 for stage in wide}, "zeros_pattern": TWO_OF_FOUR} if wide else {}
        settings: dict[str, Value] = {f"zeros.{stage}": shares[stage] for stage in sparse}
        if settings and configuration.get("zeros_scope") == GLOBAL_SCOPE:
            settings["zeros_scope"] = GLOBAL_SCOPE
        return settings

    def shapes_weights(self, candidate: Candidate) -> bool:
        """Whether a stage gets zeros."""
        return any(gene.startswith("zeros.") for gene in candidate.settings)

    @contextmanager
    def training(self, net: nn.Module, context: CompressionContext) -> Iterator[Callable[[float], None]]:
        """Raise the sparsity from the net's current value to the target; afterwards the zeros are exact."""
        pruner = MagnitudePruner(parameter_groups(net, context.candidate.settings, is_kept=context.is_kept))
        yield pruner.before_step
        pruner.finish()

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """Apply the full sparsity at once where no training did, as in a file that is exported untrained."""
        MagnitudePruner(parameter_groups(graph, context.candidate.settings, is_kept=context.is_kept)).finish()
        return graph


def has_sparse_tensor_cores(profile: HardwareProfile) -> bool:
    """Whether the device has sparse tensor cores."""
    return float(profile.facts.get("compute_capability", 0)) >= MIN_SPARSE_COMPUTE_CAPABILITY


def parameter_groups(
    net: nn.Module, settings: Mapping[str, Value], *, is_kept: Callable[[str], bool] = lambda _: False
) -> list[ParameterGroup]:
    """The weights that these settings make sparse, grouped as they are ranked together; kept ones are left out."""
    shares = {gene.partition(".")[2]: float(share) for gene, share in settings.items() if gene.startswith("zeros.")}
    prunable = [
        (shares[unit], parameter)
        for name, parameter in net.named_parameters()
        if (unit := unit_name(name)) in shares and is_prunable(parameter) and not is_kept(name)
    ]
    if settings.get("zeros_pattern") == TWO_OF_FOUR:
        return [
            ParameterGroup(weights=(weight,), sparsity=share, is_2_4=True)
            for share, weight in prunable
            if supports_2_4_sparsity(weight, min_channels=MIN_SPARSE_CHANNELS)
        ]
    if settings.get("zeros_scope") == GLOBAL_SCOPE:
        return [
            ParameterGroup(weights=tuple(weight for own, weight in prunable if own == share), sparsity=share)
            for share in sorted({share for share, _ in prunable})
        ]
    return [ParameterGroup(weights=(weight,), sparsity=share) for share, weight in prunable]


COMPRESSOR = PruneUnstructured()
