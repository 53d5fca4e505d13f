"""Low rank: dense layers become chains of smaller ones, computed from their weights, where that is faster.

1x1 convolutions and linear layers by SVD, k x k convolutions by Tucker-2 or CP; see `_factors` for both and the papers.
A layer keeps its full form where the factors take no fewer multiply-accumulates, or where the roofline of the target
predicts them slower (`_pays`): on a GPU, where a small kernel costs its launch, that is most layers of a small net.
What a whole net gains is measured later, on its file.
"""

from collections.abc import Mapping

from torch import nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor
from nas.compression.low_rank.cost_check import input_map_sizes, is_faster_factorized
from nas.compression.low_rank.factorization import CP, TUCKER, build_factorized, factorize_weights, require_tensorly
from search_spaces._base import Choice, Value

RANK_RATIOS = (0.25, 0.5, 1.0)


class LowRank(Compressor):
    """Genes `rank.<stage>`, the share of the full rank that a stage's layers keep, and `decomposition`."""

    name = "low_rank"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per stage, and how windows larger than 1x1 are decomposed, on every target."""
        ranks = [Choice(name=f"rank.{stage}", options=RANK_RATIOS) for stage in stages]
        return (*ranks, Choice(name="decomposition", options=(CP, TUCKER)))

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Full rank."""
        return ({**{f"rank.{stage}": 1.0 for stage in stages}, "decomposition": TUCKER},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """Shares below 1 of stages in use; with any of them the decomposition unless it is Tucker-2."""
        shares = {f"rank.{stage}": configuration.get(f"rank.{stage}", 1.0) for stage in candidate.widths}
        kept: dict[str, Value] = {gene: share for gene, share in shares.items() if float(share) < 1}
        if kept and configuration.get("decomposition") == CP:
            kept["decomposition"] = CP
        return kept

    def changes_shape(self, candidate: Candidate) -> bool:
        """Whether any stage loses rank."""
        return bool(_rank_ratios(candidate))

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """Each dense layer of a stage that shall lose rank becomes a chain under its name, where that pays.

        Which layers do depends on shapes and the target alone, not on weights or bits.

        Raises:
            MissingPackageError: tensorly is not installed, and a window larger than 1x1 needs it.
        """
        shares = _rank_ratios(context.candidate)
        if not shares:
            return net
        word = str(context.candidate.settings.get("decomposition", TUCKER))
        profile = context.profile
        sizes = input_map_sizes(net, context.input_shape)
        for name, layer in [*net.named_modules()]:
            share = shares.get(name.partition(".")[0])
            if share is None or name not in sizes:
                continue
            parts = build_factorized(
                layer, rank_ratio=share, decomposition=word, channel_multiple=profile.channel_multiple
            )
            if parts is None or not is_faster_factorized(layer, parts, sizes[name], profile):
                continue
            if "core" in dict(parts.named_children()):
                require_tensorly()
            if not context.shapes_only:
                factorize_weights(parts, layer, decomposition=word, seed=context.seed)
            net.set_submodule(name, parts.train(layer.training))
        return net


def _rank_ratios(candidate: Candidate) -> dict[str, float]:
    settings = candidate.settings.items()
    return {gene.partition(".")[2]: float(share) for gene, share in settings if gene.startswith("rank.")}


COMPRESSOR = LowRank()
