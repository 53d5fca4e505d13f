"""Contract of a gene provider: genes beyond the architecture, and how their values enter a candidate."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from search_spaces._base import Choice, Value


class GeneProvider(ABC):
    """A source of genes of a search. Stateless.

    Life: `choices` and `initial_settings` are called once for a target, `effective_settings` for each candidate.
    """

    name: str

    @abstractmethod
    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """The genes, restricted to what the target's device can run; none where they gain nothing.

        Args:
            stages: names of the stages of the space's body, in order; `stem` and `head` are units too, but not listed.
            profile: the target.
        """

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Settings worth trying first, each over all or none of the provider's genes; the neutral one comes first."""
        return ({},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The genes other than `sparsity.*` and `bits.*` that change this candidate; neutral values are left out.

        Args:
            configuration: values by gene; genes of this provider may be missing.
            candidate: with architecture, widths, pruned widths and bits.
        """
        return {}
