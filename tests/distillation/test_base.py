"""The ensemble's probabilities: the arithmetic mean of networks, and its logarithmic pool with calibrated votes."""

import numpy as np
import pytest

from nas.distillation.base import Teacher, TeacherEnsemble

P, Q, VOTES = ([0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6])


def teacher(probabilities: list[float], weight: float, *, is_calibrated: bool = False) -> Teacher:
    return Teacher(logits=np.log([probabilities]).astype(np.float32), weight=weight, is_calibrated=is_calibrated)


def pooled(*teachers: Teacher, temperature: float = 1.0) -> np.ndarray:
    ensemble = TeacherEnsemble(teachers=teachers, temperature=temperature, alpha=1.0)
    return ensemble.probabilities(temperature)[0, 0].numpy()


def test_networks_are_averaged_arithmetically() -> None:
    got = pooled(teacher(P, 0.75), teacher(Q, 0.25))

    assert got == pytest.approx(0.75 * np.array(P) + 0.25 * np.array(Q), abs=1e-6)


def test_calibrated_votes_are_multiplied_with_the_average_of_the_networks() -> None:
    got = pooled(teacher(P, 0.3), teacher(VOTES, 0.6, is_calibrated=True), teacher(Q, 0.1))

    average = 0.75 * np.array(P) + 0.25 * np.array(Q)
    expected = np.array(VOTES) ** 0.6 * average**0.4
    assert got == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_calibrated_votes_alone_are_themselves() -> None:
    assert pooled(teacher(VOTES, 1.0, is_calibrated=True)) == pytest.approx(VOTES, abs=1e-6)


def test_members_of_a_pool_have_the_temperature() -> None:
    got = pooled(teacher(P, 0.5), teacher(VOTES, 0.5, is_calibrated=True), temperature=2.0)

    softened = [np.sqrt(p) / np.sqrt(p).sum() for p in (P, VOTES)]
    expected = np.sqrt(softened[0] * softened[1])
    assert got == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_a_network_that_excludes_a_class_does_not_make_nan_of_it() -> None:
    impossible = Teacher(logits=np.array([[0.0, -1e9, 0.0]], np.float32), weight=0.5)

    got = pooled(impossible, teacher(VOTES, 0.5, is_calibrated=True))

    assert np.isfinite(got).all()
    assert got[1] < 1e-3
