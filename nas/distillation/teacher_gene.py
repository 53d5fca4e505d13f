"""Which teacher a net learns from, as a gene: all of them together, one of them, or none.

There is a choice only where the search itself is taught (`--distill-from start`): what is not taught in the search
cannot be chosen by it.
"""

from collections.abc import Mapping, Sequence

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import Compressor
from nas.distillation.base import ALL_TEACHERS, NO_TEACHER
from search_spaces._base import Choice, Value

GENE = "teacher"


class TeacherGene(Compressor):
    """The gene `teacher`: `all`, a teacher's name where there are several, or `none`. It changes no layer.

    Args:
        names: of the teachers, each once.
    """

    name = "teacher"

    def __init__(self, names: Sequence[str]) -> None:
        self._options = (ALL_TEACHERS, *(names if len(names) > 1 else ()), NO_TEACHER)

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene for the whole net."""
        return (Choice(name=GENE, options=self._options),)

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """All of them together: so nets of runs without this gene have a place, and known good nets are taught."""
        return ({GENE: ALL_TEACHERS},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The teacher, unless it is all of them."""
        word = configuration.get(GENE, ALL_TEACHERS)
        return {} if word == ALL_TEACHERS else {GENE: word}


def teacher_name(candidate: Candidate) -> str:
    """Whom a candidate learns from: `all`, `none` or a teacher's name."""
    return str(candidate.settings.get(GENE, ALL_TEACHERS))
