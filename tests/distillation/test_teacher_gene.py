"""The teacher gene: its options, its default, and its settings in a candidate."""

import pytest

from nas.candidate import Candidate
from nas.compression.base import Compressor
from nas.distillation.teacher_gene import TeacherGene, teacher_name
from nas.targets.catalog import load_target
from search_spaces._base import Value

PROFILE = load_target("jetson")


def candidate(**settings: Value) -> Candidate:
    widths = {"stage1": 16}
    return Candidate(
        space="plain", architecture={}, widths=widths, pruned=widths, bits=dict.fromkeys(widths, 32), settings=settings
    )


@pytest.mark.parametrize(
    ("names", "options"), [(["a"], ("all", "none")), (["a", "b"], ("all", "a", "b", "none"))], ids=["one", "several"]
)
def test_single_teachers_are_options_where_there_are_several(names: list[str], options: tuple[str, ...]) -> None:
    (choice,) = TeacherGene(names).choices(("stage1",), PROFILE)

    assert (choice.name, choice.options) == ("teacher", options)


def test_all_teachers_are_the_default_and_not_recorded() -> None:
    gene = TeacherGene(["a", "b"])

    assert gene.initial_settings(("stage1",), PROFILE) == ({"teacher": "all"},)
    assert gene.effective_settings({}, candidate()) == gene.effective_settings({"teacher": "all"}, candidate()) == {}
    assert gene.effective_settings({"teacher": "b"}, candidate()) == {"teacher": "b"}


def test_candidate_names_its_teacher() -> None:
    assert teacher_name(candidate()) == "all"
    assert teacher_name(candidate(teacher="none")) == "none"


def test_gene_is_not_a_compressor() -> None:
    assert not isinstance(TeacherGene(["a"]), Compressor)
