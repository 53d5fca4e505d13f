"""Command that trains a candidate of a run whole, on the run's data and for its target."""

import shlex

from nas.config import SearchConfig
from nas.results.record import Record
from nas.results.run_folder import RunFolder

TRAINING_FIELDS = (
    *("keep_duplicates", "protocol", "branches", "auxiliary_head", "crops"),
    *("teacher_classes", "teacher_output", "teacher_views", "distill", "temperature", "alpha"),
)
"""Fields that decide what a training sees and how it learns; left out of the command where they have their default."""


def train_command(folder: RunFolder, record: Record, *, epochs: float) -> str:
    """The `nas train` line for a candidate, quoted for a shell.

    Args:
        folder: the run, which searched a space.
        record: of the candidate.
        epochs: passes over the training images.
    """
    search, distillation = folder.config.search, folder.config.distillation
    words = ["nas", "train", "--model", f"{folder.path}:{record.key[:8]}", "--epochs", f"{epochs:.3g}"]
    words += ["--target", search.target, "--dataset", search.dataset]
    words += ["--data", str(search.data)] if search.data is not None else []
    words += [word for name, value in search.data_options.items() for word in ("--data-option", f"{name}={value}")]
    words += [word for name in TRAINING_FIELDS for word in _option(folder.config, name)]
    words += [word for name in distillation.teacher if name != "self" for word in ("--teacher", name)]
    return shlex.join(words)


def _option(config: SearchConfig, name: str) -> list[str]:
    """A field as words of a command; none where it has its default."""
    value, flag = config.get(name), f"--{name.replace('_', '-')}"
    if value == SearchConfig().get(name):
        return []
    if isinstance(value, bool):
        return [flag]
    return [flag, ",".join(value) if isinstance(value, tuple) else str(value)]
