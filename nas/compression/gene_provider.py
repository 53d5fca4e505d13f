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
        """The genes, limited to what the target's device can run.

        Args:
            stages: names of the stages of the space's body, in order; the units `stem` and `head` exist besides.
            profile: the target device.

        Returns:
            One `Choice` with two options or more for each gene; empty where the provider gains nothing on the device.

        Raises:
            MissingPackageError: the provider needs an optional package that is not installed.
        """

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Settings that a search tries first.

        Args:
            stages: as in `choices`.
            profile: as in `choices`.

        Returns:
            The neutral setting, then further ones. Each has a value for all or for none of the provider's genes.

        Raises:
            MissingPackageError: as in `choices`.
        """
        return ({},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The genes, other than `sparsity.*` and `bits.*`, that change this candidate.

        Args:
            configuration: gene to value; genes of this provider may be missing and then count as neutral.
            candidate: the candidate with its architecture, widths, pruned widths and bits.

        Returns:
            Gene to value, without neutral genes and without genes of stages that the candidate does not use.
        """
        return {}
