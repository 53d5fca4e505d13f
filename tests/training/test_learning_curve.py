"""Points of the learning curve against sums made by hand."""

import pytest
import torch

from nas.errors import TrainError
from nas.training.learning_curve import LearningCurveRecorder


def test_a_point_is_the_mean_loss_and_accuracy_since_the_last_one() -> None:
    log = LearningCurveRecorder(images_per_epoch=30, on_progress=None)
    for loss, hits in ((4.0, 1), (2.0, 4), (0.0, 7), (1.0, 5)):
        log.add(torch.tensor(loss), torch.tensor(hits), 10)
    assert log.points == [(1.0, 2.0, 12 / 30)]
    log.close_point()
    log.close_point()
    assert log.points == [(1.0, 2.0, 12 / 30), (pytest.approx(4 / 3), 1.0, 0.5)]
    assert log.epoch == pytest.approx(4 / 3)


@pytest.mark.parametrize("at", [1, 16, 20])
def test_the_loss_is_checked_in_the_first_step_every_16th_and_at_the_end_of_an_epoch(at: int) -> None:
    log = LearningCurveRecorder(images_per_epoch=200, on_progress=None)

    def steps() -> int:
        for step in range(1, 21):
            try:
                log.add(torch.tensor(float("inf") if step == at else 1.0), torch.tensor(1), 10)
            except TrainError:
                return step
        return 0

    assert steps() == at


def test_progress_is_reported_at_the_end_of_each_epoch_whatever_the_time() -> None:
    reports: list[tuple[float, float]] = []
    log = LearningCurveRecorder(images_per_epoch=10, on_progress=lambda epoch, loss: reports.append((epoch, loss)))
    for loss in (3.0, 2.0, 1.0):
        log.add(torch.tensor(loss), torch.tensor(1), 10)
    assert reports == [(1.0, 3.0), (1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]  # the first step is reported by itself
