"""The teacher gene: a candidate is distilled from all teachers together, from one of them, or from none.

The gene exists only where candidates are distilled during the search (`--distill-during search`). With distillation of
the front alone, all candidates are trained alike and the search has nothing to compare.
"""

from collections.abc import Mapping, Sequence

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.gene_provider import GeneProvider
from nas.distillation.base import ALL_TEACHERS, NO_TEACHER
from search_spaces._base import Choice, Value

GENE = "teacher"


class TeacherGene(GeneProvider):
    """The gene `teacher` with the options `all`, each teacher's name where there are several, and `none`.

    Args:
        names: names of the teachers, without duplicates.
    """

    name = "teacher"

    def __init__(self, names: Sequence[str]) -> None:
        self._options = (ALL_TEACHERS, *(names if len(names) > 1 else ()), NO_TEACHER)

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene for the whole net, on every target."""
        return (Choice(name=GENE, options=self._options),)

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """`all`: the default of candidates from runs without this gene, and of the space's known good nets."""
        return ({GENE: ALL_TEACHERS},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The gene's value, left out for the default `all`."""
        value = configuration.get(GENE, ALL_TEACHERS)
        return {} if value == ALL_TEACHERS else {GENE: value}


def teacher_name(candidate: Candidate) -> str:
    """The teacher that a candidate is distilled from: `all`, `none` or a teacher's name."""
    return str(candidate.settings.get(GENE, ALL_TEACHERS))
