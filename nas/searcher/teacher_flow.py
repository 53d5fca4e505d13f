"""Teachers of a run: a worker runs their files, which are foreign, and the driver keeps what they answer."""

import logging
from collections.abc import Sequence

from nas.distillation.base import DistillationMethod
from nas.distillation.teacher_outputs import TEACHER_FOLDER, TeacherOutputs
from nas.distillation.teachers import TeacherSource
from nas.evaluation.evaluator import Evaluator
from nas.pipeline import Step
from nas.searcher.workforce import Steps
from nas.training.trainer import ShouldStop

logger = logging.getLogger(__name__)


def run_teachers(outputs: TeacherOutputs) -> Steps:
    """Have the teachers run whose outputs are not stored yet.

    Raises:
        ConfigError: a teacher has changed since the run was started.
    """
    outputs.check_same_teachers()
    if n_adopted := outputs.adopt_from_other_runs():
        logger.info("%d of the teachers' answers are those of other runs here", n_adopted)
    if not outputs.are_stored:
        arguments = {
            "sources": outputs.sources, "method": outputs.method, "n_views": outputs.n_views,
            "max_view_s": outputs.max_view_s, "threads": outputs.threads,
        }  # fmt: skip
        yield Step(
            name="teachers", function=compute_teacher_outputs, arguments=arguments, files=(f"{TEACHER_FOLDER}/*",)
        )


def compute_teacher_outputs(
    evaluator: Evaluator,
    *,
    sources: Sequence[TeacherSource],
    method: DistillationMethod,
    n_views: int,
    max_view_s: float | None,
    threads: int,
    stop: ShouldStop | None = None,
) -> None:
    """Run teachers on the training images; their outputs are files in the evaluator's folder.

    Raises:
        StepPausedError: the evaluator asked for a pause, and some outputs are still missing.
    """
    TeacherOutputs(
        sources=sources,
        method=method,
        data=evaluator.data,
        folder=evaluator.folder,
        n_views=n_views,
        max_view_s=max_view_s,
        threads=threads,
        log=evaluator.log,
    ).compute(evaluator.should_pause)
