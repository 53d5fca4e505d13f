"""Command that trains a candidate of a run whole, on the run's data and for its target."""

import shlex

from nas.results.record import Record
from nas.results.run_folder import RunFolder


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
    words += ["--keep-duplicates"] if search.keep_duplicates else []
    words += [word for name in distillation.teacher if name != "self" for word in ("--teacher", name)]
    return shlex.join(words)
