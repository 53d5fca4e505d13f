"""Calibrated votes: what annotators' votes for a face say about the label that the data set gives it.

Annotators of another project see other classes, other instructions and other mistakes than a data set's labels have, so
the shares of their votes are no probabilities of the labels. A multinomial logistic regression turns votes into those.
Its features are the shares of the votes and the logarithms of the votes plus one; it has a ridge penalty. It is
cross-fitted: the images are divided into five folds, identical ones into the same, and the targets of a fold come from
the regression on the other four, so that no image's own label enters its target.

FER2013's 28,304 training faces with the ten votes of FER+; log-loss in nats and accuracy of the faces' labels:

    shares of the votes for the seven classes, half a vote added to each    1.133    64.1 %
    regression on the shares / the logarithms / both, cross-fitted          0.895 / 0.888 / 0.882    67.9 %

Networks that answer beside the votes are not combined in this way, see `nas.distillation.base.TeacherEnsemble`.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.errors import ConfigError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

N_FOLDS = 5
RIDGE = 1e-4
"""Penalty on the squared weights of standardised features, per image in nats; a tenth and ten times as much give log-
losses within 0.001 on FER2013."""
ADDED_VOTES = 0.5
"""Votes added to each class where votes are read as probabilities, so that no class has none (Jeffreys' prior)."""
_MAX_STEPS, _MIN_STEP_SIZE = 50, 1e-6
_TOLERANCE = 1e-10
"""Expected fall of the loss in nats at which Newton's method ends."""
_MAX_LOGIT_GAP = 80.0
"""Bound of the distance between two logits, beyond which float32 probabilities are 0."""


@dataclass(frozen=True, kw_only=True)
class CalibratedVotes:
    """Probabilities of the labels, given votes.

    Attributes:
        probabilities: [N, K]; rows sum to 1. No row depends on the label of its image or of an identical one.
        log_loss_before: mean of -log p(label) of the votes as they are, with `ADDED_VOTES`, in nats.
        log_loss_after: the same of `probabilities`.
    """

    probabilities: Floats
    log_loss_before: float
    log_loss_after: float


def calibrate_votes(
    votes: Floats, labels: Labels, groups: Labels, *, class_columns: tuple[int, ...]
) -> CalibratedVotes:
    """Cross-fitted probabilities of the labels.

    Args:
        votes: [N, V] numbers of votes, not negative; an image may have none.
        labels: [N], 0..K-1.
        groups: [N] numbers; images of one number share a fold.
        class_columns: column of the votes for each of the K classes; -1 for a class that nobody could vote for.

    Raises:
        ConfigError: all images are identical, so that there are no two folds.
    """
    features = vote_features(votes)
    probabilities = cross_fitted_probabilities(features, labels, groups, n_classes=len(class_columns))
    return CalibratedVotes(
        probabilities=probabilities,
        log_loss_before=log_loss(vote_shares(votes, class_columns), labels),
        log_loss_after=log_loss(probabilities, labels),
    )


def vote_features(votes: Floats) -> Doubles:
    """Shares [N, V] of the votes, zeros where there are none, and log(votes + 1) [N, V], as [N, 2 V]."""
    counts = votes.astype(np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
    return np.concatenate([shares, np.log1p(counts)], axis=1)


def vote_shares(votes: Floats, class_columns: tuple[int, ...]) -> Floats:
    """Votes [N, V] read as probabilities [N, K], with `ADDED_VOTES` for each class."""
    padded = np.concatenate([votes, np.zeros((len(votes), 1))], axis=1)  # the last column is what -1 means
    counts: Doubles = padded[:, list(class_columns)].astype(np.float64) + ADDED_VOTES
    shares: Floats = (counts / counts.sum(1, keepdims=True)).astype(np.float32)
    return shares


def log_loss(probabilities: Floats, labels: Labels) -> float:
    """Mean of -log p(label), in nats, of probabilities [N, K] above 0 and labels [N]."""
    return float(-np.log(probabilities[np.arange(len(labels)), labels].astype(np.float64)).mean())


def cross_fitted_probabilities(features: Doubles, labels: Labels, groups: Labels, *, n_classes: int) -> Floats:
    """Probabilities [N, K] of each image from a regression on the folds that it is not in.

    Raises:
        ConfigError: there is only one group.
    """
    numbers, group_of = np.unique(groups, return_inverse=True)
    if len(numbers) < 2:
        raise ConfigError(
            f"votes are calibrated on images that differ, but all {len(labels)} training images are identical; use "
            "another teacher"
        )
    fold_of = (np.random.default_rng(0).permutation(len(numbers)) % N_FOLDS)[group_of]
    probabilities = np.empty((len(labels), n_classes), np.float32)
    for fold in np.unique(fold_of):
        held_out = fold_of == fold
        weights = fit_regression(features[~held_out], labels[~held_out], n_classes=n_classes)
        probabilities[held_out] = weights.predict(features[held_out])
    return probabilities


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Multinomial logistic regression on standardised features: softmax((x - mean) / deviation @ weights + bias).

    Attributes:
        mean: [D] of the features.
        deviation: [D] of the features; 1 where they are constant.
        weights: [D + 1, K]; the last row is the bias.
    """

    mean: Doubles
    deviation: Doubles
    weights: Doubles

    def predict(self, features: Doubles) -> Floats:
        """Probabilities [N, K] for features [N, D]."""
        logits = (features - self.mean) / self.deviation @ self.weights[:-1] + self.weights[-1]
        return _softmax(logits).astype(np.float32)


def fit_regression(features: Doubles, labels: Labels, *, n_classes: int, ridge: float = RIDGE) -> Regression:
    """The regression of least mean log-loss plus `ridge` times the sum of all squared weights.

    The penalty makes it unique, and finite where the classes can be separated or one is absent. Images of equal
    features are counted, not repeated: ten votes have few patterns.

    Args:
        features: [N, D].
        labels: [N], 0..K-1.
        n_classes: K.
        ridge: above 0.
    """
    rows, row_of = np.unique(features, axis=0, return_inverse=True)
    counts = np.zeros((len(rows), n_classes))
    np.add.at(counts, (row_of.ravel(), labels), 1.0)
    mean, deviation = features.mean(0), features.std(0)
    deviation[deviation < 1e-12] = 1.0
    x = np.concatenate([(rows - mean) / deviation, np.ones((len(rows), 1))], axis=1)
    weights = _minimise(x, counts / len(labels), ridge)
    return Regression(mean=mean, deviation=deviation, weights=weights)


def _minimise(x: Doubles, shares: Doubles, ridge: float) -> Doubles:
    """Weights [D, K] of least loss for features [U, D] and shares [U, K] of all images, by Newton's method."""
    n_features, n_classes = x.shape[1], shares.shape[1]
    totals = shares.sum(1, keepdims=True)
    weights = np.zeros((n_features, n_classes))

    def loss(candidate: Doubles) -> float:
        return float(-(shares * np.log(_softmax(x @ candidate))).sum() + ridge * np.square(candidate).sum())

    value = loss(weights)
    for _ in range(_MAX_STEPS):
        p = _softmax(x @ weights)
        gradient = x.T @ (totals * p - shares) + 2 * ridge * weights
        hessian = 2 * ridge * np.eye(n_features * n_classes)
        blocks = hessian.reshape(n_features, n_classes, n_features, n_classes)
        for a, b in itertools.product(range(n_classes), repeat=2):
            curvature = totals[:, 0] * p[:, a] * (float(a == b) - p[:, b])
            blocks[:, a, :, b] += (x * curvature[:, None]).T @ x
        step = np.linalg.solve(hessian, gradient.ravel()).reshape(weights.shape)
        # The loss is convex, so halving a step that overshoots ends; far from the minimum full steps may diverge.
        size = 1.0
        while (lower := loss(weights - size * step)) > value - 1e-4 * size * float((gradient * step).sum()):
            size /= 2
            if size < _MIN_STEP_SIZE:
                return weights
        weights, value = weights - size * step, lower
        if float((gradient * step).sum()) < _TOLERANCE:
            break
    return weights


def _softmax(logits: Doubles) -> Doubles:
    """Rows of probabilities, none of them 0."""
    exponentials = np.exp(np.maximum(logits - logits.max(1, keepdims=True), -_MAX_LOGIT_GAP))
    probabilities: Doubles = exponentials / exponentials.sum(1, keepdims=True)
    return probabilities
