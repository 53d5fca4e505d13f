"""Forecast of what a verified member would still gain in further epochs, from its accuracies so far.

Each rung of the search and the final training end a schedule, so their accuracies form a curve, which is modelled as

    accuracy(e) = level - rest ((e / now)^-power - 1),      rest >= 0,

a power law in the epochs e (Domhan et al. 2015, https://www.ijcai.org/Proceedings/15/Papers/487.pdf; its `pow3`), with
the level now, the rest that endless training would add, and a power. All three are integrated over a grid, weighted by
how well they fit; early points count less, since they had other schedules. Long trainings overfit: a network of 417,000
weights has 61.5 / 63.0 / 64.3 / 64.9 / 65.1 % after 20 / 30 / 40 / 60 / 69 epochs of FER2013 (`nas.training.recipe`),
while a power law with exponent 0.15 through the first three points adds 2.0 points from 40 to 69 epochs instead of 0.8.
So only a share of the power law's gain, 0.1 to 1, is expected.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.results.data_facts import read_data_facts
from nas.results.front import latest_by_key, verified_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.rungs import read_rungs, rung_objectives
from nas.results.throughput import format_duration
from nas.results.train_command import train_command

Floats = npt.NDArray[np.float64]

FACTOR = 2.0
"""Epochs that are forecast, as a multiple of those so far."""
WORTH_GAIN = 0.005
"""Expected gain in accuracy, 0..1, from which on the command that trains on is shown."""
POWERS = np.geomspace(0.15, 1.5, 19)
RESTS = np.linspace(0.0, 0.4, 161)
REST_SCALE = 0.05
"""Mean of the exponential prior of the rest: the gain after 20 epochs in the curve above is 0.036 and more."""
REALISED = np.linspace(0.1, 1.0, 10)
"""Shares of the power law's gain that are reached, equally likely."""
SCHEDULE_ERROR = 0.01
"""Standard deviation of an accuracy from the curve, beside that of the images, per factor e of epochs that lie between
it and the last one."""


@dataclass(frozen=True, kw_only=True)
class GainForecast:
    """Expected gain in accuracy, 0..1, with the ends of its 95 % interval."""

    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.gain:+.1f} points ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


def forecast_gain(
    epochs: Sequence[float], accuracies: Sequence[float], *, n_images: int, factor: float
) -> GainForecast:
    """Forecast the gain of a training for `factor` times as many epochs.

    Args:
        epochs: [k] ascending, positive, k at least 2.
        accuracies: [k] on the same images, 0..1.
        n_images: number of these images.
        factor: above 1.
    """
    e, y = np.asarray(epochs, np.float64), np.asarray(accuracies, np.float64)
    share = e / e[-1]
    image_error = np.sqrt(np.clip(y * (1 - y), 1e-4, None) / n_images)
    deviation = np.hypot(image_error, SCHEDULE_ERROR * -np.log(share))
    levels = y[-1] + image_error[-1] * np.linspace(-2, 2, 9)
    # Grids [power, rest, level], and points along the last axis.
    grown = share ** -POWERS[:, None] - 1  # [power, k]
    fitted = levels[None, None, :, None] - RESTS[None, :, None, None] * grown[:, None, None, :]
    log_weight = -0.5 * (((y - fitted) / deviation) ** 2).sum(axis=-1) - (RESTS / REST_SCALE)[None, :, None]
    weight = np.exp(log_weight - log_weight.max()).sum(axis=2)  # [power, rest]
    gains = np.minimum(RESTS, 1 - y[-1]) * (1 - factor**-POWERS)[:, None]
    values = (gains[:, :, None] * REALISED).ravel()
    weights = np.repeat(weight.ravel(), len(REALISED)) / (weight.sum() * len(REALISED))
    order = np.argsort(values)
    low, high = np.interp((0.025, 0.975), np.cumsum(weights[order]), values[order])
    return GainForecast(gain=float(values @ weights), low=float(low), high=float(high))


def learning_points(folder: RunFolder, records: Sequence[Record], member: Record) -> list[tuple[float, float]]:
    """Epochs and accuracy after each rung, after the search, and after the final training of a verified member.

    Where the final training had teachers and the search had none, the points of the search are of another curve, and
    only the last one is returned. A member without a score has none.
    """
    if member.score is None:
        return []
    last = (member.epochs, member.score.accuracy)
    searched = next((r for r in latest_by_key(records, "search") if r.key == member.key), None)
    if searched is None or searched.teacher != member.teacher:
        return [last]
    training = folder.config.training
    objectives = folder.config.search.objectives
    column = rung_objectives(objectives).index("accuracy")
    points = {
        training.epochs * training.rungs[line["rung"] - 1]: float(line["values"][column])
        for line in read_rungs(folder, objectives)
        if line["key"] == member.key and 1 <= line["rung"] <= len(training.rungs)
    }
    if searched.score is not None and searched.epochs > 0:
        points[searched.epochs] = searched.score.accuracy
    return [*sorted(point for point in points.items() if point[0] < member.epochs), last]


def describe_gains(folder: RunFolder, records: Sequence[Record]) -> list[str]:
    """A line for each member of the verified front of a search of architectures: what twice its epochs would gain."""
    if folder.config.search.model is not None:
        return []
    n_trainings = int(read_data_facts(folder).get("n_folds", 1))  # the command trains once in each fold
    lines = []
    for member in verified_front(records, folder.config.search.objectives):
        points = learning_points(folder, records, member)
        if len(points) < 2 or member.score is None:
            continue
        epochs, accuracies = zip(*points, strict=True)
        found = forecast_gain(epochs, accuracies, n_images=member.score.n, factor=FACTOR)
        longer = FACTOR * member.epochs
        line = f"trial {member.trial}: {longer:.3g} epochs in place of {member.epochs:.3g} would gain {found}"
        if found.gain < WORTH_GAIN:
            lines.append(f"{line}, not worth it")
            continue
        searched_s = sum(r.seconds.get("train", 0.0) for r in records if r.key == member.key and not r.seed)
        time = format_duration(n_trainings * FACTOR * searched_s)
        lines.append(f"{line} in about {time}: {train_command(folder, member, epochs=longer)}")
    return lines
