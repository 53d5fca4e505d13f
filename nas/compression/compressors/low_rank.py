"""Low-rank factorisation: chains of smaller layers, computed from a dense layer's weights, replace it where faster.

1x1 convolutions and linear layers are factorised by SVD, k x k convolutions by Tucker-2 or CP;
`nas.compression.low_rank.factorization` describes them and names the papers. A layer keeps its full form where the
factors take no fewer multiply-accumulates, or where the target's roofline predicts that they are slower
(`nas.compression.low_rank.cost_check`). On a GPU, where each small kernel costs a launch, that holds for most layers of
a small net. The latency of the whole net is measured later, on its file.
"""

from collections.abc import Mapping

from torch import nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor
from nas.compression.low_rank.cost_check import input_map_sizes, is_faster_factorized
from nas.compression.low_rank.factorization import CP, TUCKER, build_factorized, factorize_weights, require_tensorly
from nas.onnx_export.folding import unit_name
from search_spaces._base import Choice, Value

RANK_RATIOS = (0.25, 0.5, 1.0)


class LowRank(Compressor):
    """Genes `rank.<stage>`, the share of the full rank that a stage's layers keep, and `decomposition`."""

    name = "low_rank"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """On every target, one gene per stage, and one for how windows larger than 1x1 are decomposed."""
        ranks = [Choice(name=f"rank.{stage}", options=RANK_RATIOS) for stage in stages]
        return (*ranks, Choice(name="decomposition", options=(CP, TUCKER)))

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Full rank everywhere."""
        return ({**{f"rank.{stage}": 1.0 for stage in stages}, "decomposition": TUCKER},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """Rank shares below 1 of the stages in use; with any of them the decomposition, unless it is Tucker-2."""
        ratios = {f"rank.{stage}": configuration.get(f"rank.{stage}", 1.0) for stage in candidate.widths}
        settings: dict[str, Value] = {gene: ratio for gene, ratio in ratios.items() if float(ratio) < 1}
        if settings and configuration.get("decomposition") == CP:
            settings["decomposition"] = CP
        return settings

    def changes_shape(self, candidate: Candidate) -> bool:
        """Whether the rank of any stage is reduced."""
        return bool(_rank_ratios(candidate))

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """Replace each dense layer of a stage with reduced rank by a chain under the same name, where that is faster.

        The choice of layers depends on shapes and the target only, not on weights or bits.

        Raises:
            MissingPackageError: a window larger than 1x1 must be factorised and tensorly is not installed.
        """
        ratios = _rank_ratios(context.candidate)
        if not ratios:
            return net
        decomposition = str(context.candidate.settings.get("decomposition", TUCKER))
        profile = context.profile
        sizes = input_map_sizes(net, context.input_shape)
        for name, layer in [*net.named_modules()]:
            ratio = ratios.get(unit_name(name))
            if ratio is None or name not in sizes or context.is_kept(name):
                continue
            factors = build_factorized(
                layer, rank_ratio=ratio, decomposition=decomposition, channel_multiple=profile.channel_multiple
            )
            if factors is None or not is_faster_factorized(layer, factors, sizes[name], profile):
                continue
            if "core" in dict(factors.named_children()):
                require_tensorly()  # before any training, not only when the weights are factorised
            if not context.shapes_only:
                factorize_weights(factors, layer, decomposition=decomposition, seed=context.seed)
            net.set_submodule(name, factors.train(layer.training))
        return net


def _rank_ratios(candidate: Candidate) -> dict[str, float]:
    settings = candidate.settings.items()
    return {gene.partition(".")[2]: float(ratio) for gene, ratio in settings if gene.startswith("rank.")}


COMPRESSOR = LowRank()
