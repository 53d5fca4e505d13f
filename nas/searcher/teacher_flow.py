"""Teachers of a run: a worker runs their files, which are foreign, and the driver keeps what they answer."""

from collections.abc import Sequence

from nas.distillation.base import DistillationMethod
from nas.distillation.teacher_outputs import TEACHER_FOLDER, TeacherOutputs
from nas.distillation.teachers import TeacherSource
from nas.pipeline import Evaluator, Step
from nas.searcher.workforce import Steps
from nas.training.trainer import ShouldStop


def run_teachers(outputs: TeacherOutputs) -> Steps:
    """Have the teachers run whose outputs are not stored yet.

    Raises:
        ConfigError: a teacher has changed since the run was started.
    """
    outputs.check_same_teachers()
    if not outputs.are_stored:
        arguments = {"sources": outputs.sources, "method": outputs.method, "threads": outputs.threads}
        yield Step(
            name="teachers", function=compute_teacher_outputs, arguments=arguments, files=(f"{TEACHER_FOLDER}/*",)
        )


def compute_teacher_outputs(
    evaluator: Evaluator,
    *,
    sources: Sequence[TeacherSource],
    method: DistillationMethod,
    threads: int,
    stop: ShouldStop | None = None,
) -> None:
    """Run teachers on the training images; their outputs are files in the evaluator's folder."""
    TeacherOutputs(
        sources=sources, method=method, data=evaluator.data, folder=evaluator.folder, threads=threads, log=evaluator.log
    ).compute()
