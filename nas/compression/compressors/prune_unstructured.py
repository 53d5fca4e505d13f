"""Unstructured pruning: single weights become zero, so the file packs smaller; no runtime gets faster.

Magnitude pruning on the gradual schedule of Zhu and Gupta (2017, https://arxiv.org/abs/1710.01878), see `_zeros`. What
it gains is told as weights that are not zero and as bytes of the packed file (`nas.packed`), never as fewer parameters.
The exception is the 2:4 pattern of Mishra et al. (2021, https://arxiv.org/abs/2104.08378), which sparse tensor cores
skip: its gene exists only for devices that have them, and it leaves layers of fewer than 256 channels dense, because
NVIDIA's maintainers say that smaller ones gain nothing (TensorRT issues 3849 and 4065).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import Compressor, Context
from nas.compression.pruning.masks import Pool, Zeros, is_ranked, takes_groups
from search_spaces._base import Choice, Value

SHARES = (0.0, 0.5, 0.75, 0.9)
LAYER, GLOBAL = "layer", "global"
FREE, TWO_OF_FOUR = "free", "2:4"
SPARSE_CAPABILITY = 8.0
"""CUDA compute capability from which tensor cores skip 2:4 zeros."""
SPARSE_CHANNELS = 256


class PruneUnstructured(Compressor):
    """Genes `zeros.<stage>`, the share of a stage's weights that are zero; `zeros_scope`; perhaps `zeros_pattern`.

    Scope "layer": each layer gets the stage's share. Scope "global": all layers of all stages of one share compete for
    it. Pattern "2:4": layers that gain by it, in stages that shall have zeros, get two in four; all others stay dense.
    """

    name = "prune_unstructured"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per stage and the scope; the pattern where the device skips it."""
        genes = [Choice(name=f"zeros.{stage}", options=SHARES) for stage in stages]
        genes.append(Choice(name="zeros_scope", options=(GLOBAL, LAYER)))
        if skips_zeros(profile):
            genes.append(Choice(name="zeros_pattern", options=(TWO_OF_FOUR, FREE)))
        return tuple(genes)

    def seeds(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """No zeros."""
        pattern = {"zeros_pattern": FREE} if skips_zeros(profile) else {}
        return ({**{f"zeros.{stage}": 0.0 for stage in stages}, "zeros_scope": LAYER, **pattern},)

    def settle(self, picked: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """Shares above 0 of stages in use; the scope or the pattern where it changes what they do."""
        shares = {stage: float(picked.get(f"zeros.{stage}", 0.0)) for stage in candidate.widths}
        wanted = [stage for stage, share in shares.items() if share > 0]
        if picked.get("zeros_pattern") == TWO_OF_FOUR:
            wide = [stage for stage in wanted if candidate.pruned[stage] >= SPARSE_CHANNELS]
            return {**{f"zeros.{stage}": 0.5 for stage in wide}, "zeros_pattern": TWO_OF_FOUR} if wide else {}
        kept: dict[str, Value] = {f"zeros.{stage}": shares[stage] for stage in wanted}
        if kept and picked.get("zeros_scope") == GLOBAL:
            kept["zeros_scope"] = GLOBAL
        return kept

    @contextmanager
    def training(self, net: nn.Module, context: Context) -> Iterator[Callable[[float], None]]:
        """From the zeros that the net has to those that it shall have; afterwards they are exact."""
        zeros = Zeros(pools(net, context.candidate.settings))
        yield zeros.before_step
        zeros.finish()

    def on_graph(self, graph: fx.GraphModule, context: Context) -> fx.GraphModule:
        """At once what no training did, as in a file that is exported untrained."""
        Zeros(pools(graph, context.candidate.settings)).finish()
        return graph


def skips_zeros(profile: HardwareProfile) -> bool:
    """Whether the device has sparse tensor cores."""
    return float(profile.facts.get("compute_capability", 0)) >= SPARSE_CAPABILITY


def pools(net: nn.Module, settings: Mapping[str, Value]) -> list[Pool]:
    """The weights that these settings want zeros in, as they are ranked together."""
    shares = {gene.partition(".")[2]: float(share) for gene, share in settings.items() if gene.startswith("zeros.")}
    ranked = [
        (shares[unit], parameter)
        for name, parameter in net.named_parameters()
        if (unit := name.partition(".")[0]) in shares and is_ranked(parameter)
    ]
    if settings.get("zeros_pattern") == TWO_OF_FOUR:
        fit = [(share, weight) for share, weight in ranked if takes_groups(weight, channels=SPARSE_CHANNELS)]
        return [Pool(weights=(weight,), share=share, in_groups=True) for share, weight in fit]
    if settings.get("zeros_scope") == GLOBAL:
        found = sorted({share for share, _ in ranked})
        return [Pool(weights=tuple(w for s, w in ranked if s == share), share=share) for share in found]
    return [Pool(weights=(weight,), share=share) for share, weight in ranked]


COMPRESSOR = PruneUnstructured()
